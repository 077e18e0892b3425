"""A batch as columns: while it is parsed, as lists; then as arrays."""

import struct
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from monitor.cells import Cell
from monitor.rejections import Rejected

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """A decoded batch. Per event (length E) and per contribution (length C).

    A contribution is an item, an engagement or, with rankings, a whole request.
    """

    index: Ints
    """(E,) position of the event in the batch."""
    ts_ms: Ints
    """(E,) event time: what moves the watermark."""
    anchor_ms: Ints
    """(E,) time of the impression: what chooses the pane."""
    event: Ints
    """(C,) row of the event that the contribution belongs to, ascending."""
    surface: Ints
    """(C,) index into the decoder's surfaces."""
    cell: Ints
    """(C,) number of the cell."""
    names: list[Cell]
    """The cell of each number. While it is the same list, numbers keep their meaning."""
    bucket: Ints
    """(C,) viewer bucket."""
    measure: Ints
    """(C, M) what is added to the cell's sums."""
    actor: Ints
    """(E,) what the cap on viewers counts by: the viewer's hash, with the action of an engagement."""
    rejected: list[Rejected]
    requests: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Rows of the contributions that are whole requests."""

    def with_requests(self, last: Ints, cell: Ints, measure: Ints) -> "Columns":
        """The same with whole requests as contributions, each after its last item.

        Args:
            last: (Q,) rows of the last items.
            cell: (Q,) numbers of the requests' cells.
            measure: (Q, N) what a request adds; its measures come after those of items.
        """
        rows = last + 1 + np.arange(len(last))
        items = np.ones(len(self.event) + len(last), dtype=np.bool_)
        items[rows] = False
        own = self.measure.shape[1]
        both = np.zeros((len(items), own + measure.shape[1]), dtype=np.int64)
        both[items, :own] = self.measure
        both[rows, own:] = measure
        return replace(
            self,
            event=np.insert(self.event, last + 1, self.event[last]),
            surface=np.insert(self.surface, last + 1, self.surface[last]),
            cell=np.insert(self.cell, last + 1, cell),
            bucket=np.insert(self.bucket, last + 1, self.bucket[last]),
            measure=both,
            requests=rows,
        )


@dataclass(slots=True)
class Lists:
    """The columns while the batch is parsed, as plain lists; codes are those of the decoder's coders."""

    index: list[int] = field(default_factory=list)
    ts_ms: list[int] = field(default_factory=list)
    anchor_ms: list[int | None] = field(default_factory=list)
    surface: list[int] = field(default_factory=list)
    hash: list[int] = field(default_factory=list)
    variant: list[int] = field(default_factory=list)
    viewer: list[int] = field(default_factory=list)
    item: list[int] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    """How many items each impression has."""
    place: list[int] = field(default_factory=list)
    """Of each item its position, of each engagement its action."""


def ints(values: list[int]) -> Ints:
    """An array of them, read-only: in a third of the time that ``np.array`` takes."""
    return np.frombuffer(struct.pack(f"{len(values)}q", *values), dtype=np.int64)
