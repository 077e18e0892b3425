"""One source partition in aggregate: its watermark, its open panes, its place in the log.

Everything here is a function of the partition's log alone. Whether an event is late is
decided by the events before it in the log, never by how the log was cut into batches.
"""

from collections import Counter
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from monitor.cells import OTHER, Cell
from monitor.columns import Columns
from monitor.config import Config
from monitor.pane_sums import PaneSums
from monitor.parsing import Decoder
from monitor.rejections import Reason, Rejected
from monitor.requests import impression_measures
from monitor.snapshots import Kind, PaneSnapshot
from monitor.viewer_cap import ViewerCounts

Ints = NDArray[np.int64]

_FEW = np.iinfo(np.int16).max


class PaneClock(NamedTuple):
    """How panes of one kind of source are cut and when they close."""

    pane_ms: int
    close_delay_ms: int
    """A pane closes when the watermark has passed its end by this much."""

    def start(self, ts_ms: int) -> int:
        """Start of the pane that holds a time; panes are half-open and aligned to the epoch."""
        return ts_ms - ts_ms % self.pane_ms

    def closed_through(self, watermark_ms: int) -> int:
        """All panes that end at or before this time are closed."""
        return self.start(max(watermark_ms - self.close_delay_ms, 0))


def pane_clock(config: Config, kind: Kind) -> PaneClock:
    """Impressions close after the allowed lateness; engagements after the attribution window too."""
    if kind is Kind.IMPRESSIONS:
        return PaneClock(config.time.pane, config.time.allowed_lateness)
    return PaneClock(
        config.engagement.pane, config.time.allowed_lateness + config.engagement.attribution_window
    )


class Resume(msgspec.Struct, frozen=True, kw_only=True):
    """What a commit remembers beside its offset, as the commit's metadata.

    ``position`` is how far the log had been read; records between the committed offset and
    it are read again to rebuild open panes, and were already judged and counted.
    """

    watermark_ms: int = 0
    position: int = 0


class Batch(NamedTuple):
    """Records of one partition, in log order. Arrays have shape (N,)."""

    values: list[bytes | None]
    offsets: Ints
    record_ms: Ints
    """The record's own time in Kafka; negative where the record has none."""


class Outcome(NamedTuple):
    """What became of a batch, in events; a record that cannot be read counts as one."""

    accepted: int
    rejected: list[Rejected]
    replayed: int
    """Read again after a restart; judged and counted before."""
    items: int
    """Contributions counted."""
    overflowed: int
    capped: int
    """Contributions of accepted events that are beyond the cap on viewers, so not counted."""


class SourcePartition:
    """State and logic of one source partition."""

    def __init__(
        self,
        config: Config,
        kind: Kind,
        decoder: Decoder,
        start_offset: int,
        resume: Resume | None = None,
    ) -> None:
        """Begin at ``start_offset``, with what the last commit remembered."""
        self.kind = kind
        self.watermark_ms = resume.watermark_ms if resume else 0
        self.position = start_offset
        self.panes_closed = 0
        self._judged_before = resume.position if resume else 0
        self._from_offset = start_offset
        self._config = config
        self._decoder = decoder
        self._clock = pane_clock(config, kind)
        self._panes: dict[tuple[int, int], PaneSums] = {}  # (surface index, pane start)
        self._surfaces = [*config.surfaces, OTHER]
        self._other: Cell = decoder.other
        cap = config.limits.viewer_cap
        self._viewers = ViewerCounts(cap, self._clock.close_delay_ms) if cap is not None else None
        self._measures = (
            impression_measures(config) if kind is Kind.IMPRESSIONS else len(config.engagement.actions)
        )

    def read(self, batch: Batch, columns: Columns | None = None) -> Outcome:
        """Count a batch, the only way that events enter the sums; ``columns``: it, if decoded already."""
        if columns is None:
            columns = self._decoder.decode(batch.values)
        offsets = batch.offsets[columns.index]
        future = self._in_the_future(columns.ts_ms, batch.record_ms[columns.index])
        late, watermark = self._late(columns, future)
        good = ~(future | late)
        counted = good
        if self._viewers is not None:
            counted = good & ~_capped(self._viewers, columns, offsets, future)
        overflowed = self._count(columns, offsets, counted)
        self.watermark_ms = watermark
        self.position = int(batch.offsets[-1]) + 1

        fresh = offsets >= self._judged_before
        rejected = [r for r in columns.rejected if batch.offsets[r.index] >= self._judged_before]
        replayed = int(np.count_nonzero(~fresh)) + len(columns.rejected) - len(rejected)
        for flags, reason, detail in (
            (future, Reason.FUTURE, "ahead of its record's time"),
            (late & ~future, Reason.LATE, "its pane is closed"),
        ):
            if flags.any():
                told = np.flatnonzero(flags & fresh)
                places = zip(columns.index[told].tolist(), columns.row[told].tolist(), strict=True)
                rejected += [Rejected(index, reason, detail, row) for index, row in places]
        accepted = good & fresh
        items = _contributions(columns, counted & fresh)
        capped = 0 if counted is good else _contributions(columns, accepted) - items
        return Outcome(int(np.count_nonzero(accepted)), rejected, replayed, items, overflowed, capped)

    def _in_the_future(self, ts_ms: Ints, record_ms: Ints) -> NDArray[np.bool_]:
        return (record_ms >= 0) & (ts_ms > record_ms + self._config.time.allowed_skew)

    def _late(self, columns: Columns, future: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int]:
        """Which events come after their pane has closed, and the watermark after the batch."""
        if len(columns.ts_ms) == 0:
            return np.zeros(0, dtype=np.bool_), self.watermark_ms
        clock = self._clock
        seen = np.maximum.accumulate(
            np.concatenate(([self.watermark_ms], np.where(future, 0, columns.ts_ms)))
        )
        pane_end = columns.anchor_ms - columns.anchor_ms % clock.pane_ms + clock.pane_ms
        return pane_end + clock.close_delay_ms <= seen[:-1], int(seen[-1])

    def _count(self, columns: Columns, offsets: Ints, counted: NDArray[np.bool_]) -> int:
        """Add the contributions of some events (E,) to their panes; how many overflowed."""
        wanted = None if counted.all() else np.flatnonzero(counted[columns.event])
        if not len(columns.event if wanted is None else wanted):
            return 0
        pane_ms = self._clock.pane_ms
        start_ms = (columns.anchor_ms - columns.anchor_ms % pane_ms)[columns.event]
        overflowed = 0
        for rows in _equal(columns.surface, start_ms // pane_ms, wanted):
            event = columns.event[rows]
            pane = self._pane(int(columns.surface[rows][0]), int(start_ms[rows][0]))
            before = pane.overflowed
            pane.add(columns.names, columns.cell[rows], columns.bucket[rows], columns.measure[rows])
            first = int(offsets[event[0]])
            if self._viewers is not None:
                first = self._viewers.needed_by(pane.pane_start_ms)
            pane.covers(first, int(offsets[event[-1]]) + 1)
            overflowed += pane.overflowed - before
        return overflowed

    def _pane(self, surface: int, start_ms: int) -> PaneSums:
        pane = self._panes.get((surface, start_ms))
        if pane is None:
            limits = self._config.limits
            pane = PaneSums(
                start_ms,
                self._from_offset,
                limits.buckets,
                self._measures,
                limits.max_cells,
                self._other,
            )
            self._panes[surface, start_ms] = pane
        return pane

    def take_snapshots(self) -> dict[str, list[PaneSnapshot]]:
        """Per surface, what changed since the last call; panes that have closed are then let go."""
        taken: dict[str, list[PaneSnapshot]] = {}
        for (surface, _), pane in sorted(self._panes.items(), key=lambda entry: entry[0]):
            if pane.dirty:
                taken.setdefault(self._surfaces[surface], []).extend(pane.take_snapshots())
        closed_through = self._clock.closed_through(self.watermark_ms)
        gone = [key for key in self._panes if key[1] + self._clock.pane_ms <= closed_through]
        self.panes_closed += len(gone)
        for key in gone:
            del self._panes[key]
        if self._viewers is not None:
            self._viewers.forget(self.watermark_ms)
        return taken

    def commit_point(self) -> tuple[int, Resume]:
        """The first offset that an open pane or session still needs, and what to remember with it.

        Call it after the snapshots taken are acknowledged by the broker.
        """
        firsts = [pane.first_offset for pane in self._panes.values()]
        if self._viewers is not None:
            firsts += self._viewers.first_offsets
        needed = min(firsts, default=self.position)
        position = max(self.position, self._judged_before)
        return needed, Resume(watermark_ms=self.watermark_ms, position=position)

    @property
    def open_panes(self) -> int:
        """Panes held in memory."""
        return len(self._panes)


def _equal(surface: Ints, pane: Ints, wanted: Ints | None) -> list[Ints | slice]:
    """Rows of equal surface and pane, both of shape (C,), of those wanted (None: all); in their order."""
    if wanted is not None:
        surface, pane = surface[wanted], pane[wanted]
    first = int(pane.min())
    panes = int(pane.max()) - first + 1
    key = surface * panes + (pane - first)
    if (key == key[0]).all():
        return [slice(None) if wanted is None else wanted]
    if int(key.max()) < _FEW:
        key = key.astype(np.int16)  # sorted by its digits, in a fraction of the time
    order = np.argsort(key, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(key[order])) + 1)
    return list(groups) if wanted is None else [wanted[group] for group in groups]


def _capped(
    viewers: ViewerCounts, columns: Columns, offsets: Ints, future: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which events (E,) are beyond the cap on viewers; all but those of the future use it up."""
    rows = np.flatnonzero(~future)
    size = np.bincount(columns.event, minlength=len(offsets))
    size -= np.bincount(columns.event[columns.beside], minlength=len(offsets))
    capped = np.zeros(len(offsets), dtype=np.bool_)
    capped[rows] = viewers.capped(columns.actor[rows], columns.anchor_ms[rows], size[rows], offsets[rows])
    return capped


def _contributions(columns: Columns, events: NDArray[np.bool_]) -> int:
    """How many items or engagements some events (E,) hold; what is beside the items is neither."""
    if events.all():
        return len(columns.event) - len(columns.beside)
    rows = events[columns.event]
    return int(np.count_nonzero(rows) - np.count_nonzero(rows[columns.beside]))


def count_reasons(rejected: list[Rejected]) -> Counter[Reason]:
    """How many were rejected for which reason."""
    return Counter(r.reason for r in rejected)
