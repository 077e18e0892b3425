"""The sums of one pane while it is open, in aggregate."""

import numpy as np
from numpy.typing import NDArray

from monitor.cells import Cell
from monitor.snapshots import PaneSnapshot

Ints = NDArray[np.int64]

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
        attributes: int,
    ) -> None:
        """An empty pane; ``from_offset`` is where this reader began to read the partition."""
        self.pane_start_ms = pane_start_ms
        self.from_offset = from_offset
        self.first_offset = -1
        self.end_offset = -1
        self.overflowed = 0
        """Contributions that went to the cell ``other`` because of the cap."""
        self._max_cells = max_cells
        self._rows: dict[Cell, int] = {}
        self._sums: Ints = np.zeros((8, buckets, measures), dtype=np.int64)
        self._dirty_parts: set[int] = set()
        self._per_part = cells_per_part(buckets, measures, attributes)

    @property
    def dirty(self) -> bool:
        """Whether anything changed since :meth:`take_snapshots`."""
        return bool(self._dirty_parts)

    def add(self, cells: list[Cell], which: Ints, bucket: Ints, measure: Ints, other: Cell) -> None:
        """Add contributions.

        Args:
            cells: distinct cells, in the order of their first contribution.
            which: (C,) index into ``cells`` of each contribution.
            bucket: (C,) viewer bucket.
            measure: (C, M) what to add.
            other: the cell that takes what the cap leaves out.
        """
        rows = np.array([self._row(cell, other) for cell in cells], dtype=np.int64)[which]
        refused = np.array([cell not in self._rows for cell in cells], dtype=np.bool_)
        self.overflowed += int(np.count_nonzero(refused[which]))
        self._grow()
        buckets, measures = self._sums.shape[1:]
        size = len(self._rows) * buckets
        flat = rows * buckets + bucket
        for m in range(measures):
            # bincount adds weights in float64, exact for whole numbers below 2**53
            added = np.bincount(flat, weights=measure[:, m], minlength=size)
            self._sums[: len(self._rows), :, m] += added.reshape(-1, buckets).astype(np.int64)
        self._dirty_parts.update((np.unique(rows) // self._per_part).tolist())

    def covers(self, first_offset: int, end_offset: int) -> None:
        """Note the offsets of the events just added: the first one, and one past the last."""
        if self.first_offset < 0:
            self.first_offset = first_offset
        self.end_offset = end_offset

    def _row(self, cell: Cell, other: Cell) -> int:
        row = self._rows.get(cell)
        if row is None:
            if len(self._rows) >= self._max_cells and cell != other:
                return self._row(other, other)
            row = self._rows[cell] = len(self._rows)
        return row

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
