"""Dimensions and slices: projections of cells."""

import numpy as np
from numpy.typing import NDArray

from monitor.cells import OTHER
from monitor.sums import CellRows, Layout, Sparse, merge_entries

Ints = NDArray[np.int64]


class Projection:
    """Sums cells into the slices of one dimension: ``item.skin_tone``, ``viewer.gender*variant``."""

    def __init__(
        self, dimension: str, attributes: list[str], rows: CellRows, layout: Layout, max_slices: int
    ) -> None:
        """``attributes`` are the cells' attributes in order; slices beyond the cap become ``other``."""
        self.dimension = dimension
        self.slices: list[str] = []
        self._places = [attributes.index(part) for part in dimension.split("*")]
        self._rows = rows
        self._per_cell = layout.per_cell
        self._max = max_slices
        self._numbers: dict[str, int] = {}
        self._slice_of_row: Ints = np.zeros(0, dtype=np.int64)

    def project(self, entries: Sparse) -> Sparse:
        """Entries over (slice, bucket, measure), from entries over (cell, bucket, measure)."""
        if len(self._slice_of_row) < len(self._rows):
            new = self._rows.names[len(self._slice_of_row) :]
            numbers = [self._number("*".join(name[place] for place in self._places)) for name in new]
            self._slice_of_row = np.concatenate((self._slice_of_row, np.array(numbers, dtype=np.int64)))
        row, rest = np.divmod(entries.index, self._per_cell)
        return merge_entries(self._slice_of_row[row] * self._per_cell + rest, entries.values)

    def _number(self, slice_: str) -> int:
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
