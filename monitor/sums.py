"""Sums over (row, bucket, measure) as flat vectors that grow with the number of rows.

Entry ((row * B) + bucket) * M + measure of a vector belongs to that row (a cell or a slice),
bucket and measure, so a new row only lengthens the vector. All arithmetic is on int64: adding and
subtracting in any order gives the same bits.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.cells import Cell

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Sparse:
    """Entries of a vector: positions, and their values. After :func:`merge_entries` they ascend."""

    index: Ints
    values: Ints


DENSE = 8
"""A vector of up to so many places for each entry is added up as a whole; a longer one takes sorting."""


class Layout(NamedTuple):
    """Shape of the sums: buckets, and measures.

    Impressions, exposure, top k; each action; of each ranking the requests and four metrics; candidates.
    """

    buckets: int
    measures: int

    @property
    def per_cell(self) -> int:
        """Entries of one cell."""
        return self.buckets * self.measures


class Sums:
    """A growing vector of sums."""

    def __init__(self) -> None:
        """All zero."""
        self.flat: Ints = np.zeros(0, dtype=np.int64)

    def add(self, sparse: Sparse, sign: int = 1) -> None:
        """Add (or with sign -1 subtract) merged entries."""
        if len(sparse.index) == 0:
            return
        self._reach(int(sparse.index[-1]) + 1)
        self.flat[sparse.index] += sign * sparse.values

    def add_sums(self, other: "Sums", sign: int = 1) -> None:
        """Add (or subtract) another vector."""
        self._reach(len(other.flat))
        self.flat[: len(other.flat)] += sign * other.flat

    def _reach(self, length: int) -> None:
        if length > len(self.flat):
            grown = np.zeros(max(length, 2 * len(self.flat)), dtype=np.int64)
            grown[: len(self.flat)] = self.flat
            self.flat = grown

    def array(self, rows: int, layout: Layout) -> Ints:
        """A copy with shape (rows, buckets, measures)."""
        size = rows * layout.per_cell
        full = np.zeros(size, dtype=np.int64)
        known = min(size, len(self.flat))
        full[:known] = self.flat[:known]
        return full.reshape(rows, layout.buckets, layout.measures)


class CellRows:
    """Row numbers of the cells of one surface, shared by all its vectors."""

    def __init__(self, max_rows: int, other: Cell) -> None:
        """At most ``max_rows`` cells; what does not fit goes to the row of ``other``."""
        self._max_rows = max_rows
        self._other = other
        self._rows: dict[Cell, int] = {}
        self.names: list[Cell] = []
        self.refused = 0
        """Cells that did not fit, counted each time they came."""

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.names)

    def row(self, cell: Cell) -> int:
        """The cell's row; new cells get the next one."""
        row = self._rows.get(cell)
        if row is None:
            if len(self.names) >= self._max_rows and cell != self._other:
                self.refused += 1
                return self.row(self._other)
            row = self._rows[cell] = len(self.names)
            self.names.append(cell)
        return row

    def rows(self, cells: list[Cell]) -> Ints:
        """Rows of several cells."""
        return np.array([self.row(cell) for cell in cells], dtype=np.int64)


def merge_entries(index: Ints, values: Ints) -> Sparse:
    """Sparse entries from positions that may repeat and be in any order; what adds up to 0 is left out."""
    if len(index) == 0:
        return Sparse(index, values)
    span = int(index.max()) + 1
    if span <= DENSE * len(index):
        flat = np.zeros(span, dtype=np.int64)
        np.add.at(flat, index, values)
        used = np.flatnonzero(flat)
        return Sparse(used, flat[used])
    order = np.argsort(index, kind="stable")
    index, values = index[order], values[order]
    first = np.flatnonzero(np.concatenate(([True], index[1:] != index[:-1])))
    summed = np.add.reduceat(values, first)
    used = np.flatnonzero(summed)
    return Sparse(index[first][used], summed[used])


def difference(more: Iterable[Sparse], less: Iterable[Sparse]) -> Sparse:
    """All entries of ``more``, without those of ``less``, merged."""
    pieces = [*((each.index, each.values) for each in more), *((each.index, -each.values) for each in less)]
    if not pieces:
        return Sparse(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    return merge_entries(*map(np.concatenate, zip(*pieces, strict=True)))
