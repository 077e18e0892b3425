"""The measuring core from end to end without Kafka: source partitions that read, a monitor that is told."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import cycle, pairwise
from typing import NamedTuple, TypeVar

import numpy as np
from msgspec import structs

from monitor.config import Config
from monitor.decoding import EngagementDecoder, ImpressionDecoder
from monitor.partition import Batch, Outcome, Resume, SourcePartition
from monitor.progress import Progress
from monitor.raw_snapshots import Applied
from monitor.snapshots import Kind, PaneSnapshot, SourceProgress
from monitor.store import MemoryStore, Store
from monitor.verdicts import Verdict
from monitor.watch import SurfaceWatch
from streams.verify.recount import LogRecord, Sums

Source = tuple[Kind, int]


class Sent(NamedTuple):
    """A snapshot as it travels: of which surface, kind and source partition."""

    surface: str
    kind: Kind
    partition: int
    snapshot: PaneSnapshot

    @property
    def key(self) -> tuple[str, Kind, int, int, int]:
        """What the snapshot is a version of."""
        return (self.surface, self.kind, self.partition, self.snapshot.pane_start_ms, self.snapshot.part)


class Heartbeat(NamedTuple):
    """Progress of several source partitions."""

    sources: list[SourceProgress]


T = TypeVar("T")
Told = Sent | Heartbeat
"""One record for the monitor."""


def new_decoder(config: Config, kind: Kind) -> ImpressionDecoder | EngagementDecoder:
    """Return the decoder of a kind of record."""
    return ImpressionDecoder(config) if kind is Kind.IMPRESSIONS else EngagementDecoder(config)


def batch_of(records: Sequence[LogRecord]) -> Batch:
    """Return records of one partition as a batch."""
    return Batch(
        [r.value for r in records],
        np.array([r.offset for r in records], dtype=np.int64),
        np.array([r.record_ms for r in records], dtype=np.int64),
    )


class Reader:
    """A process that reads some source partitions, crashes, and comes back from what it had committed."""

    def __init__(self, config: Config, sources: Iterable[Source], partitions: int) -> None:
        self.config = config
        self.partitions = partitions
        self.outcomes: list[tuple[int, Outcome]] = []
        """How many records each batch had, and what became of them."""
        self._committed: dict[Source, tuple[int, Resume | None]] = dict.fromkeys(sources, (0, None))
        self.restart()

    def restart(self) -> None:
        """Forget everything but the commits."""
        self._decoders = {kind: new_decoder(self.config, kind) for kind in Kind}
        self.states = {
            (kind, partition): SourcePartition(self.config, kind, self._decoders[kind], offset, resume)
            for (kind, partition), (offset, resume) in self._committed.items()
        }

    def read(self, records: Sequence[LogRecord]) -> None:
        """Read records of any partitions, decoded together; those read since the start are left out."""
        groups: dict[Source, list[LogRecord]] = {}
        for record in records:
            source = (Kind(record.kind), record.partition)
            if record.offset >= self.states[source].position:
                groups.setdefault(source, []).append(record)
        for kind in Kind:
            batches = {source: batch_of(group) for source, group in groups.items() if source[0] is kind}
            if batches:
                columns = self._decoders[kind].decode_each([batch.values for batch in batches.values()])
                for (source, batch), own in zip(batches.items(), columns, strict=True):
                    self.outcomes.append((len(batch.values), self.states[source].read(batch, own)))

    def flush(self) -> list[Sent]:
        """Return the snapshots of what changed."""
        return [
            Sent(surface, kind, partition, snapshot)
            for (kind, partition), state in self.states.items()
            for surface, snapshots in state.take_snapshots().items()
            for snapshot in snapshots
        ]

    def commit(self) -> None:
        """Remember how far the snapshots flushed have come."""
        self._committed = {source: state.commit_point() for source, state in self.states.items()}

    def heartbeat(self, idle: Collection[int] = ()) -> Heartbeat:
        """Return the progress of all partitions, some of them idle."""
        return Heartbeat(
            [
                SourceProgress(
                    kind,
                    str(kind),
                    partition,
                    self.partitions,
                    state.watermark_ms,
                    state.position,
                    0,
                    partition in idle,
                )
                for (kind, partition), state in self.states.items()
            ]
        )


def sources_of(config: Config, partitions: int) -> list[Source]:
    """Return all source partitions of a configuration."""
    kinds = Kind if config.engagement.actions else [Kind.IMPRESSIONS]
    return [(kind, partition) for kind in kinds for partition in range(partitions)]


def told_by(
    config: Config,
    log: Sequence[LogRecord],
    cuts: Iterable[int],
    partitions: int,
    idle: Sequence[Collection[int]] = ((),),
) -> list[Told]:
    """Return what a monitor is told of a log that is read and flushed in batches cut at ``cuts``.

    ``idle`` are the partitions said to be idle after each batch, over and over; in the end all are.
    """
    reader = Reader(config, sources_of(config, partitions), partitions)
    told: list[Told] = []
    for batch, resting in zip(cut(log, cuts), cycle(idle), strict=False):
        reader.read(batch)
        told += reader.flush()
        told.append(reader.heartbeat(resting))
    told.append(reader.heartbeat(range(partitions)))
    return told


def cut(records: Sequence[T], cuts: Iterable[int]) -> Iterator[Sequence[T]]:
    """Yield the records between the cuts."""
    edges = [0, *cuts, len(records)]
    for start, end in pairwise(edges):
        yield records[start:end]


class Listener:
    """A monitor of one surface, told one record after the other."""

    def __init__(self, watch: SurfaceWatch, config: Config) -> None:
        self.watch = watch
        self.progress = Progress(config)
        self.verdicts: list[Verdict] = []
        self.applied: list[Applied] = []

    def hear(self, told: Told) -> None:
        """Take a record, as the monitor role does."""
        if isinstance(told, Sent):
            self.hear_together([told])
            return
        for source in told.sources:
            self.progress.update(source)
        verdicts = self.watch.advance(self.progress)
        if verdicts:
            self.verdicts += verdicts
            self.watch.remember()

    def hear_together(self, sent: Iterable[Sent]) -> None:
        """Take snapshots as one record for each kind."""
        mine = [each for each in sent if each.surface == self.watch.surface]
        for kind in Kind:
            of_kind = [(each.partition, each.snapshot) for each in mine if each.kind is kind]
            if of_kind:
                self.applied += self.watch.apply(kind, of_kind)


class Feed:
    """A monitor of one surface fed by hand, through one source partition of each kind."""

    def __init__(self, config: Config, store: Store | None = None, surface: str = "home") -> None:
        self.config = config
        self.store = store if store is not None else MemoryStore()
        self.reader = Reader(config, sources_of(config, 1), 1)
        self.listener = Listener(SurfaceWatch(config, surface, self.store), config)
        self._surface = surface
        self._offset = 0
        self._log: list[LogRecord] = []

    @property
    def watch(self) -> SurfaceWatch:
        """The monitor's state."""
        return self.listener.watch

    def restart(self) -> None:
        """Replace the monitor by one that has only the store."""
        self.listener = Listener(SurfaceWatch(self.config, self._surface, self.store), self.config)

    def show(
        self,
        ts_ms: int,
        items: Sequence[Mapping[str, str]],
        viewer: int = 0,
        about: Mapping[str, str] | None = None,
        candidates: Sequence[Mapping[str, object]] = (),
    ) -> None:
        """An impression of items with these attributes, to a viewer with those of ``about``."""
        shown = [{"id": "p", "attrs": dict(attrs)} for attrs in items]
        event = {"ts": ts_ms, "items": shown, "viewer": dict(about or {}), "candidates": list(candidates)}
        self._add("impressions", event, viewer)

    def act(
        self, shown_ms: int, attrs: Mapping[str, str], action: str, viewer: int = 0, after_ms: int = 0
    ) -> None:
        """An engagement with an item, some time after its impression."""
        event = {"ts": shown_ms + after_ms, "item_id": "p", "action": action, "attrs": dict(attrs)}
        self._add("engagements", event | {"impression_ts": shown_ms}, viewer)

    def _add(self, kind: str, event: dict[str, object], viewer: int) -> None:
        event = {"request_id": "r", "viewer_id": f"u{viewer}", "surface": self._surface, **event}
        self._log.append(LogRecord(kind, 0, self._offset, -1, json.dumps(event).encode()))
        self._offset += 1

    def beat(self, *, idle: bool = False) -> list[Verdict]:
        """Read what was added, tell the monitor; its verdicts. A topic without new records is idle."""
        self.reader.read(self._log)
        quiet = [kind for kind in Kind if idle or not any(r.kind == kind for r in self._log)]
        self._log.clear()
        before = len(self.listener.verdicts)
        for sent in self.reader.flush():
            self.listener.hear(sent)
        sources = self.reader.heartbeat().sources
        self.listener.hear(Heartbeat([structs.replace(s, idle=s.kind in quiet) for s in sources]))
        return self.listener.verdicts[before:]


def sums_of_slices(slices: Sequence[str], array: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Sums:
    """Return sums of shape (slices, buckets, measures) as the recount has them."""
    return {
        ((slice_,), bucket): amounts
        for slice_, rows in zip(slices, array.tolist(), strict=True)
        for bucket, amounts in enumerate(rows)
        if any(amounts)
    }
