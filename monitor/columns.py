"""A batch as columns: while it is parsed, as lists; then as arrays."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from monitor.cells import Cell
from monitor.rejections import WHOLE, Rejected

Ints = NDArray[np.int64]

NO_TIME = -1


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """A decoded batch. Per event (length E) and per contribution (length C).

    A contribution is an item, an engagement or, beside the items, a whole request or some of its candidates.
    """

    index: Ints
    """(E,) position of the event's record in the batch."""
    row: Ints
    """(E,) the event's row in its record, an Arrow stream; ``WHOLE`` if the record is the event."""
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
    beside: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Rows of the contributions that are whole requests or candidates."""

    @property
    def of_streams(self) -> bool:
        """Whether any event was a row of an Arrow stream."""
        return bool((self.row != WHOLE).any())

    def parts(self, ends: list[int]) -> "Iterator[Columns]":
        """The columns of stretches of the batch that end at some records, each as a batch of its own."""
        events = np.searchsorted(self.index, ends)
        rows = np.searchsorted(self.event, events)
        beside = np.searchsorted(self.beside, rows)
        bounds = zip(ends, events.tolist(), rows.tolist(), beside.tolist(), strict=True)
        for (first, e0, c0, q0), (end, e1, c1, q1) in pairwise([(0, 0, 0, 0), *bounds]):
            yield Columns(
                index=self.index[e0:e1] - first,
                row=self.row[e0:e1],
                ts_ms=self.ts_ms[e0:e1],
                anchor_ms=self.anchor_ms[e0:e1],
                event=self.event[c0:c1] - e0,
                surface=self.surface[c0:c1],
                cell=self.cell[c0:c1],
                names=self.names,
                bucket=self.bucket[c0:c1],
                measure=self.measure[c0:c1],
                actor=self.actor[e0:e1],
                rejected=[replace(r, index=r.index - first) for r in self.rejected if first <= r.index < end],
                beside=self.beside[q0:q1] - c0,
            )

    def with_more(self, last: Ints, cell: Ints, measure: Ints) -> "Columns":
        """The same with more contributions beside the items, each after its request's last item.

        Args:
            last: (Q,) rows of those last items, ascending.
            cell: (Q,) numbers of the cells.
            measure: (Q, N) what is added; these measures come after those of items.
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
            beside=rows,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Parsed:
    """What was parsed of some records, per event (length E) and per item (length I)."""

    index: Ints
    """(E,) position of the event's record in the batch."""
    row: Ints
    """(E,) as in :class:`Columns`."""
    ts_ms: Ints
    anchor_ms: Ints
    """(E,) the impression's time, ``NO_TIME`` where an engagement does not say it."""
    surface: Ints
    hash: Ints
    """(E,) of the viewer."""
    request: Ints
    """(E,) number of the request's variant and viewer."""
    items: Ints
    """(E,) how many items it has; an engagement has one."""
    item: Ints
    """(I,) number of the item's values."""
    place: Ints
    """(I,) of an impression the position, or 0; of an engagement the action, or -1."""
    candidates: Ints
    """(E,) how many entries of candidates it has."""
    candidate: Ints
    """(K,) number of such an entry's values."""
    count: Ints
    """(K,) how many candidates it stands for."""

    @classmethod
    def joined(cls, pieces: "Sequence[Parsed]") -> "Parsed":
        """Pieces one after the other; at least one."""
        if len(pieces) == 1:
            return pieces[0]
        names = [each.name for each in fields(cls)]
        return cls(*(np.concatenate([getattr(piece, name) for piece in pieces]) for name in names))

    def only(self, events: NDArray[np.bool_]) -> "Parsed":
        """Some of the events (E,), with their items."""
        if events.all():
            return self
        items, candidates = np.repeat(events, self.items), np.repeat(events, self.candidates)
        masks = {"item": items, "place": items, "candidate": candidates, "count": candidates}
        names = [each.name for each in fields(self)]
        return Parsed(*(getattr(self, name)[masks.get(name, events)] for name in names))


@dataclass(slots=True)
class Lists:
    """The columns while the batch is parsed, as plain lists; codes are those of the decoder's coders."""

    index: list[int] = field(default_factory=list)
    ts_ms: list[int] = field(default_factory=list)
    anchor_ms: list[int] = field(default_factory=list)
    """Of engagements: the time of their impression, or ``NO_TIME``."""
    surface: list[int] = field(default_factory=list)
    hash: list[int] = field(default_factory=list)
    variant: list[int] = field(default_factory=list)
    viewer: list[int] = field(default_factory=list)
    item: list[int] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    """How many items each event has; an engagement has one."""
    place: list[int] = field(default_factory=list)
    """Of each item its position, of each engagement its action."""
    candidates: list[int] = field(default_factory=list)
    """How many entries of candidates each impression has; empty if they are not counted."""
    candidate: list[int] = field(default_factory=list)
    count: list[int] = field(default_factory=list)


def ints(values: list[int]) -> Ints:
    """An array of them, read-only: in a third of the time that ``np.array`` takes."""
    return np.frombuffer(struct.pack(f"{len(values)}q", *values), dtype=np.int64)
