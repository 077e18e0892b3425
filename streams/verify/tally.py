"""What a log must have become, pane by pane: the recount added up, and which panes are closed."""

from collections import Counter
from collections.abc import Iterable

from monitor.config import Config
from streams.verify.recount import (
    ACCEPTED,
    Cell,
    Judged,
    LogRecord,
    Sums,
    close_delay_ms,
    iter_recount,
    other_cell,
    pane_ms,
)

Pane = tuple[str, str, int, int]
"""Surface, kind, source partition, start."""
Letter = tuple[str, int, int, int]
"""Kind, partition and offset of a rejected record, and the row if it was one of a stream, or -1."""


class Tally:
    """Sums of every pane of a log. Memory grows with panes and cells, not with the log."""

    def __init__(self, config: Config, log: Iterable[LogRecord]) -> None:
        """Recount the log; each partition's records must come in the order of their offsets."""
        self.fates: Counter[str] = Counter()
        self.rejected: dict[Letter, str] = {}
        """Reason of each rejected record."""
        self.panes: dict[Pane, Sums] = {}
        self.ends: dict[tuple[str, int], int] = {}
        """One past the last offset, of each kind and partition."""
        self.begins: dict[tuple[str, int], int] = {}
        """The first offset that the log still has."""
        self._config = config
        self._cells: dict[Pane, set[Cell]] = {}
        self._watermarks: dict[tuple[str, int], int] = {}
        for judged in iter_recount(config, log):
            self._take(judged)

    def _take(self, judged: Judged) -> None:
        record = judged.record
        source = (record.kind, record.partition)
        self.begins.setdefault(source, record.offset)
        self.ends[source] = record.offset + 1
        self.fates[judged.fate] += 1
        if judged.fate != ACCEPTED:
            self.rejected[record.kind, record.partition, record.offset, record.row] = judged.fate
            return
        self._watermarks[source] = max(self._watermarks.get(source, 0), judged.ts_ms)
        for c in judged.contributions:
            pane = (c.surface, record.kind, record.partition, c.pane_start_ms)
            key = (self._capped(pane, c.cell), c.bucket)
            held = self.panes.setdefault(pane, {}).setdefault(key, [0] * len(c.measures))
            for place, amount in enumerate(c.measures):
                held[place] += amount

    def _capped(self, pane: Pane, cell: Cell) -> Cell:
        """The cell, or ``other`` where the pane has as many cells as it may."""
        cells = self._cells.setdefault(pane, set())
        if cell not in cells and len(cells) >= self._config.limits.max_cells:
            cell = other_cell(self._config)
        cells.add(cell)
        return cell

    def closed(self, pane: Pane) -> bool:
        """Whether the pane's own partition has closed it: no event can be added to it."""
        _, kind, partition, start_ms = pane
        end_ms = start_ms + pane_ms(self._config, kind)
        return end_ms + close_delay_ms(self._config, kind) <= self._watermarks.get((kind, partition), 0)

    def window(self, surface: str, start_ms: int, end_ms: int) -> Sums:
        """Sums of a surface over the panes of all partitions that start in [start, end)."""
        sums: Sums = {}
        for (of, _, _, pane_start_ms), entries in self.panes.items():
            if of == surface and start_ms <= pane_start_ms < end_ms:
                for key, amounts in entries.items():
                    held = sums.setdefault(key, [0] * len(amounts))
                    for place, amount in enumerate(amounts):
                        held[place] += amount
        return sums
