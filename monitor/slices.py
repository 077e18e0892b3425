"""Dimensions and slices: projections of cells."""

import numpy as np
from numpy.typing import NDArray

from monitor.cells import NO_VALUE, OTHER
from monitor.sums import CellRows, Layout, Sparse, merge_entries

Ints = NDArray[np.int64]

ALL = "*"
"""The dimension of no attribute: one slice, of all cells."""

_NONE = -1
"""In place of a slice's number: the cell is in none."""


class Projection:
    """Sums cells into the slices of one dimension: ``item.skin_tone``, ``viewer.gender*variant``."""

    def __init__(
        self, dimension: str, attributes: list[str], rows: CellRows, layout: Layout, max_slices: int
    ) -> None:
        """``attributes`` are the cells' attributes in order; slices beyond the cap become ``other``.

        A dimension of items leaves request cells out. ``*``, of no attribute, has one slice of all cells.
        """
        self.dimension = dimension
        self.slices: list[str] = []
        self._places = [attributes.index(part) for part in dimension.split("*") if part]
        self._rows = rows
        self._per_cell = layout.per_cell
        self._max = max_slices
        self._numbers: dict[str, int] = {}
        self._leaves_out = False
        self._slice_of_row: Ints = np.zeros(0, dtype=np.int64)

    def project(self, entries: Sparse) -> Sparse:
        """Entries over (slice, bucket, measure), from entries over (cell, bucket, measure)."""
        if len(self._slice_of_row) < len(self._rows):
            new = self._rows.names[len(self._slice_of_row) :]
            numbers = [self._number([name[place] for place in self._places]) for name in new]
            self._slice_of_row = np.concatenate((self._slice_of_row, np.array(numbers, dtype=np.int64)))
        row, rest = np.divmod(entries.index, self._per_cell)
        slice_, values = self._slice_of_row[row], entries.values
        if self._leaves_out:
            kept = slice_ != _NONE
            slice_, rest, values = slice_[kept], rest[kept], values[kept]
        return merge_entries(slice_ * self._per_cell + rest, values)

    def _number(self, values: list[str]) -> int:
        if NO_VALUE in values:
            self._leaves_out = True
            return _NONE
        slice_ = "*".join(values)
        number = self._numbers.get(slice_)
        if number is None:
            if len(self.slices) >= self._max:
                slice_ = "*".join([OTHER] * len(self._places))
                if slice_ in self._numbers:
                    return self._numbers[slice_]
            number = self._numbers[slice_] = len(self.slices)
            self.slices.append(slice_)
        return number


class Projections:
    """All watched dimensions of a surface."""

    def __init__(
        self, dimensions: list[str], attributes: list[str], rows: CellRows, layout: Layout, max_slices: int
    ) -> None:
        """One projection for each dimension, in order."""
        self._projections = [Projection(d, attributes, rows, layout, max_slices) for d in dimensions]
        self.places = {dimension: place for place, dimension in enumerate(dimensions)}
        """Where a dimension stands."""

    def __len__(self) -> int:
        """How many dimensions."""
        return len(self._projections)

    def project(self, entries: Sparse) -> list[Sparse]:
        """The entries in each dimension."""
        return [projection.project(entries) for projection in self._projections]

    def slices(self, dimension: str) -> list[str]:
        """Slices of a dimension seen so far; a copy."""
        return list(self._projections[self.places[dimension]].slices)
