"""Dimensions and slices: projections of cells."""

import numpy as np
from numpy.typing import NDArray

from monitor.cells import OTHER
from monitor.sums import CellRows

Ints = NDArray[np.int64]


class Projection:
    """Sums cells into the slices of one dimension, such as ``item.skin_tone`` or ``viewer.gender*variant``."""

    def __init__(self, dimension: str, attributes: list[str], max_slices: int) -> None:
        """``attributes`` are the cells' attributes in order; slices beyond the cap become ``other``."""
        self.dimension = dimension
        self.slices: list[str] = []
        self._places = [attributes.index(part) for part in dimension.split("*")]
        self._max = max_slices
        self._numbers: dict[str, int] = {}
        self._slice_of_row: list[int] = []

    def sum(self, rows: CellRows, cells: Ints) -> Ints:
        """Sums (S, B, M) of the slices, from sums (C, B, M) of the cells."""
        for name in rows.names[len(self._slice_of_row) :]:
            self._slice_of_row.append(self._number("*".join(name[place] for place in self._places)))
        slice_of_row = np.array(self._slice_of_row[: len(cells)], dtype=np.int64)
        summed = np.zeros((len(self.slices), *cells.shape[1:]), dtype=np.int64)
        if len(cells):
            order = np.argsort(slice_of_row, kind="stable")
            present, first = np.unique(slice_of_row[order], return_index=True)
            summed[present] = np.add.reduceat(cells[order], first, axis=0)
        return summed

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
