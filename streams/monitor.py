"""The monitor role: a Faust app that turns pane snapshots into windows, verdicts and metrics.

Its load depends on slices and partitions, never on the traffic. State lives in one plain
table, so that its changelog keeps the order of all writes of a partition.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from faust.types import EventT

from monitor.config import Config, meaning_sha256
from monitor.progress import Progress
from monitor.raw_snapshots import Applied
from monitor.snapshots import HeartbeatRecord, PanesRecord, decode_record
from monitor.surface import WindowViews
from monitor.verdicts import Outcome, UnknownVersionError, Verdict, encode_verdict
from monitor.watch import SurfaceWatch
from monitor.windows import SlidingWindow
from streams.durable import DurableTable
from streams.faust_app import serve_json
from streams.faust_role import FaustRole
from streams.metrics import FairnessCollector

log = logging.getLogger(__name__)


class PartitionStore:
    """One panes partition's share of the table, as a :class:`monitor.store.Store`."""

    def __init__(self, table: DurableTable, partition: int) -> None:
        """Keys are prefixed with the partition, so that owners can tell theirs."""
        self._table = table
        self._prefix = f"{partition}|".encode()

    def put(self, key: str, value: bytes) -> None:
        """Insert or replace."""
        self._table[self._prefix + key.encode()] = value

    def delete(self, key: str) -> None:
        """Remove."""
        self._table.pop(self._prefix + key.encode(), None)

    def items(self) -> Iterator[tuple[str, bytes]]:
        """Everything held for the partition."""
        start = len(self._prefix)
        for key, value in list(self._table.items()):
            if key.startswith(self._prefix) and value:
                yield key[start:].decode(), value


class PartitionWatch:
    """The surfaces of one partition of ``fairness.panes``, and the progress that it was told of."""

    def __init__(self, config: Config, store: PartitionStore) -> None:
        """Bring back the surfaces that the store knows."""
        self._config = config
        self._store = store
        self.progress = Progress(config)
        self.surfaces: dict[str, SurfaceWatch] = {}
        for surface in {key.split("|")[1] for key, _ in store.items()}:
            self.surface(surface)

    def surface(self, name: str) -> SurfaceWatch:
        """The surface's watch, made when it is first heard of."""
        if name not in self.surfaces:
            self.surfaces[name] = SurfaceWatch(self._config, name, self._store)
        return self.surfaces[name]


class MonitorRole(FaustRole):
    """The role's app and state."""

    def __init__(self, config: Config, instance: str) -> None:
        """Build the app; nothing runs yet."""
        topics = config.kafka.topics
        super().__init__(config, "monitor", instance, config.http.monitor_port, topics.panes, "state")
        self.watches: dict[int, PartitionWatch] = {}
        self.outcomes: Counter[Outcome] = Counter()
        self._meaning = meaning_sha256(config)
        self._strangers: set[str] = set()
        self._told: dict[int, dict[str, int]] = {}
        self._verdicts = self.app.topic(topics.verdicts, key_type=bytes, value_type=bytes)
        self.registry.register(FairnessCollector(config, self.watches, self.input_lag))
        serve_json(self.app, "/-/windows", self.windows)

    # --- records in --------------------------------------------------------------------

    async def handle(self, event: EventT[bytes]) -> None:
        """Take snapshots, or progress that lets panes close."""
        message = event.message
        try:
            record = decode_record(message.value or b"")
        except UnknownVersionError as error:
            self.refuse_newer(error)
            return
        except msgspec.DecodeError as error:
            await self.bury(event, str(error))
            return
        if record.meaning != self._meaning:
            self._refuse(record.meaning)
            return
        watch = self.watches.get(message.partition)
        if watch is None:
            store = PartitionStore(self._table, message.partition)
            watch = self.watches[message.partition] = PartitionWatch(self.config, store)
        if isinstance(record, PanesRecord):
            self._apply(watch, record)
        else:
            await self._advance(watch, record)
        await self._table.settled()
        if isinstance(record, HeartbeatRecord):
            sources = watch.progress.sources.items()
            self._told[message.partition] = {f"{kind}/{p}": s.position for (kind, p), s in sources}

    def _refuse(self, meaning: str) -> None:
        """Sums under another configuration mean something else."""
        self.count("other_configuration")
        if meaning not in self._strangers:
            self._strangers.add(meaning)
            log.warning("refusing snapshots of configuration %s; this is %s", meaning, self._meaning)

    def _apply(self, watch: PartitionWatch, record: PanesRecord) -> None:
        snapshots = list(record.each())
        applied = watch.surface(record.surface).apply(record.kind, snapshots)
        for outcome, count in Counter(applied).items():
            self.count(outcome.value, count)
        for (partition, snapshot), outcome in zip(snapshots, applied, strict=True):
            if outcome is Applied.PARTIAL:
                log.error(
                    "refused a partial snapshot of %s partition %d, pane %d: it starts at offset %d",
                    record.kind,
                    partition,
                    snapshot.pane_start_ms,
                    snapshot.from_offset,
                )

    async def _advance(self, watch: PartitionWatch, record: HeartbeatRecord) -> None:
        self.count("heartbeat")
        for source in record.sources:
            watch.progress.update(source)
        for surface in watch.surfaces.values():
            verdicts = surface.advance(watch.progress)
            if verdicts:
                await self._publish(verdicts)
                surface.remember()

    async def _publish(self, verdicts: list[Verdict]) -> None:
        """Send verdicts and wait for the broker; only then may their pane be remembered as judged."""
        self.lease.check()
        sent = [await self._verdicts.send(key=v.surface.encode(), value=encode_verdict(v)) for v in verdicts]
        await asyncio.gather(*sent)
        self.outcomes.update(v.verdict for v in verdicts)

    def release(self, partition: int) -> None:
        """Forget a partition's surfaces; the table has them."""
        self.watches.pop(partition, None)
        self._told.pop(partition, None)

    # --- what it says of itself --------------------------------------------------------

    def windows(self) -> list[dict[str, Any]]:
        """Every closed and matured window of this process's surfaces, as ``fairstream verify`` asks for it.

        Sums are per dimension and slice, of shape (buckets, measures): impressions, micro-exposure,
        impressions in the top k, one count for each action; for each ranking requests and four metrics.
        """
        return [
            held_window(surface, view, window)
            for watch in self.watches.values()
            for surface in watch.surfaces.values()
            for view in surface.panes.views
            for window in (view.closed, view.matured)
            if window is not None and window.end_ms
        ]

    def status(self) -> dict[str, Any]:
        """Progress for ``run``: the summary so far, and how far each partition has dealt with the sources."""
        progress = {str(number): told for number, told in self._told.items()}
        return self.summary() | {
            "progress": progress,
            "partitions": self.config.kafka.internal_partitions,
            "positions": {str(partition): offset for partition, offset in self._next_offset.items()},
        }

    def summary(self) -> dict[str, Any]:
        """Totals since the start."""
        surfaces = [s for watch in self.watches.values() for s in watch.surfaces.values()]
        return {
            "records": dict(self.counts),
            "verdicts": {outcome.value: self.outcomes[outcome] for outcome in Outcome},
            "panes_sealed": sum(s.panes_sealed for s in surfaces),
            "surfaces": sorted(s.surface for s in surfaces),
        }


def held_window(surface: SurfaceWatch, view: WindowViews, window: SlidingWindow) -> dict[str, Any]:
    """A window with its sums, ready for JSON."""
    panes = surface.panes
    dimensions = {}
    for dimension, place in panes.projections.places.items():
        slices = panes.projections.slices(dimension)
        sums = window.totals[place].array(len(slices), panes.layout).tolist()
        dimensions[dimension] = dict(zip(slices, sums, strict=True))
    return {
        "surface": surface.surface,
        "window": view.spec.name,
        "view": "matured" if window is view.matured else "closed",
        "start_ms": window.span.start_ms,
        "end_ms": window.span.end_ms,
        "dimensions": dimensions,
    }


def run_monitor(config: Config, *, instance: str, summary: Path | None = None) -> int:
    """Run the role until SIGTERM or SIGINT; the exit code."""
    return MonitorRole(config, instance).run(summary)
