"""The sums of one pane while it is open, in aggregate."""

import numpy as np
from numpy.typing import NDArray

from monitor.cells import Cell
from monitor.snapshots import PaneSnapshot

Ints = NDArray[np.int64]

_NEW, _REFUSED = -1, -2
"""In place of a row: a cell that this pane has not met; one that the cap sends to ``other``."""

RECORD_BYTES = 500_000
"""A part of a snapshot stays under this size, so that no record exceeds a broker's usual 1 MB."""


_NAME_BYTES = 128 * 4 + 8
"""Largest value of an attribute that the decoder takes, in UTF-8."""


def cells_per_part(buckets: int, measures: int, attributes: int) -> int:
    """How many cells go into one part of a snapshot, at most 12 bytes an entry beside the names."""
    return max(1, RECORD_BYTES // (12 * buckets * measures + _NAME_BYTES * attributes + 8))


class PaneSums:
    """Cumulative sums of one (surface, source partition, pane): int64 (cells, buckets, measures).

    Cells are numbered in the order of their first event in the log, whatever the batches,
    so a re-read of the log gives the same numbers, the same parts and the same bytes.
    """

    def __init__(
        self,
        pane_start_ms: int,
        from_offset: int,
        buckets: int,
        measures: int,
        max_cells: int,
        other: Cell,
    ) -> None:
        """An empty pane.

        ``from_offset`` is where this reader began to read the partition; ``other`` the cell that
        takes what the cap on cells leaves out.
        """
        self.pane_start_ms = pane_start_ms
        self.from_offset = from_offset
        self.first_offset = -1
        self.end_offset = -1
        self.overflowed = 0
        """Contributions that went to the cell ``other`` because of the cap."""
        self._max_cells = max_cells
        self._other = other
        self._rows: dict[Cell, int] = {}
        self._names: list[Cell] = []
        self._row_of: Ints = np.zeros(0, dtype=np.int64)
        self._sums: Ints = np.zeros((8, buckets, measures), dtype=np.int64)
        self._dirty_parts: set[int] = set()
        self._per_part = cells_per_part(buckets, measures, len(other))

    @property
    def dirty(self) -> bool:
        """Whether anything changed since :meth:`take_snapshots`."""
        return bool(self._dirty_parts)

    def add(self, names: list[Cell], cell: Ints, bucket: Ints, measure: Ints) -> None:
        """Add contributions.

        Args:
            names: the cells that numbers stand for. As long as it is the same list, numbers
                keep their meaning, and their rows are remembered.
            cell: (C,) number of each contribution's cell.
            bucket: (C,) viewer bucket.
            measure: (C, M) what to add.
        """
        rows = self._rows_of(names, cell)
        self._grow()
        buckets, measures = self._sums.shape[1:]
        sums = self._sums.reshape(-1)
        place = (rows * buckets + bucket) * measures
        for m in range(measures):
            np.add.at(sums, place + m, measure[:, m])
        if len(self._rows) <= self._per_part:
            self._dirty_parts.add(0)
        else:
            self._dirty_parts.update(np.flatnonzero(np.bincount(rows // self._per_part)).tolist())

    def _rows_of(self, names: list[Cell], cell: Ints) -> Ints:
        """Rows of cells, given out in the order of appearance; what the cap refuses counts as overflowed."""
        if names is not self._names:
            self._names = names
            self._row_of = np.zeros(0, dtype=np.int64)
        unseen = len(names) - len(self._row_of)
        if unseen > 0:
            self._row_of = np.concatenate((self._row_of, np.full(unseen + len(names), _NEW, dtype=np.int64)))
        rows = self._row_of[cell]
        if rows.min() >= 0:
            return rows
        new = rows == _NEW
        if new.any():
            for number in dict.fromkeys(cell[new].tolist()):
                self._row_of[number] = self._new_row(names[number])
            rows = self._row_of[cell]
        refused = rows == _REFUSED
        if refused.any():
            rows[refused] = self._rows[self._other]
            self.overflowed += int(np.count_nonzero(refused))
        return rows

    def _new_row(self, cell: Cell) -> int:
        if cell not in self._rows and len(self._rows) >= self._max_cells and cell != self._other:
            self._rows.setdefault(self._other, len(self._rows))
            return _REFUSED
        return self._rows.setdefault(cell, len(self._rows))

    def covers(self, first_offset: int, end_offset: int) -> None:
        """Note the offsets of the events just added: the first that they depend on, one past the last."""
        if self.first_offset < 0:
            self.first_offset = first_offset
        self.end_offset = end_offset

    def _grow(self) -> None:
        missing = len(self._rows) - len(self._sums)
        if missing > 0:
            extra = np.zeros((max(missing, len(self._sums)), *self._sums.shape[1:]), dtype=np.int64)
            self._sums = np.concatenate((self._sums, extra))

    def take_snapshots(self) -> list[PaneSnapshot]:
        """Snapshots of the parts that changed since the last call."""
        names = list(self._rows)
        taken = []
        for part in sorted(self._dirty_parts):
            cells = names[part * self._per_part : (part + 1) * self._per_part]
            start = part * self._per_part
            block = self._sums[start : start + len(cells)].reshape(-1)
            index = np.flatnonzero(block)
            taken.append(
                PaneSnapshot(
                    self.pane_start_ms,
                    part,
                    self.from_offset,
                    self.first_offset,
                    self.end_offset,
                    cells,
                    index.astype("<u4").tobytes(),
                    block[index].astype("<i8").tobytes(),
                )
            )
        self._dirty_parts.clear()
        return taken
