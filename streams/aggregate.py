"""The aggregate role: all traffic in, pane snapshots out.

One loop: take a batch, sum it, and every flush interval publish what changed, wait for the
broker's acknowledgement, and only then commit the offsets that let go of closed panes.
"""

import gc
import logging
import signal
import threading
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from monitor.columns import Columns
from monitor.config import Config
from monitor.decoding import EngagementDecoder, ImpressionDecoder
from monitor.parsing import Decoder
from monitor.partition import SourcePartition
from monitor.rejections import Rejected
from monitor.snapshots import Kind, PaneSnapshot, SourceProgress
from streams.clients import consumer_settings, producer_settings
from streams.exits import EX_SOFTWARE
from streams.http import Probe, serve
from streams.liveness import ANSWER_S, Partition, Stall, reach_of
from streams.publisher import DeliveryError, Publisher
from streams.records import Records, sort_out
from streams.sources import (
    BrokerError,
    Silence,
    Source,
    ask_again,
    commit,
    committed,
    decode_resume,
    is_fatal,
)
from streams.summary import write_summary
from streams.tally import Tally

log = logging.getLogger(__name__)

BATCH_RECORDS = 5_000
BATCH_CONTRIBUTIONS = 10_000
"""Fewer records when they hold more items than this together: objects of so many stay in the cache."""

BATCH_ROWS = 50_000
"""The same for Arrow streams, of which no objects are made."""

FIRST_RECORDS = 10
"""At the start, when nobody knows what they hold: a record may be one item, or a stream of thousands."""

CATCH_UP_PANES = 4_096
"""Old events go through panes quickly: publish and let go early when so many more are held."""


class Aggregate:
    """The role's process. Constructed with its clients, so that tests can drive it step by step."""

    def __init__(self, config: Config, consumer: Consumer, producer: Producer) -> None:
        """``consumer`` must not be subscribed yet."""
        topics = config.kafka.topics
        self._config = config
        self._consumer = consumer
        self._publisher = Publisher(config, producer)
        self._kinds = {topics.impressions: Kind.IMPRESSIONS}
        self._decoders: dict[str, Decoder] = {topics.impressions: ImpressionDecoder(config)}
        if config.engagement.actions:
            self._kinds[topics.engagements] = Kind.ENGAGEMENTS
            self._decoders[topics.engagements] = EngagementDecoder(config)
        self._sources: dict[Partition, Source] = {}
        self._partitions: dict[str, int] = {}
        self._stopping = threading.Event()
        self._batch_records = FIRST_RECORDS
        self._turn_s = time.monotonic()
        self._silence = Silence(consumer, config.time.idle_timeout / 1000)
        self._stall = Stall(config.http.stalled_after / 1000)
        self._assigned = False
        self._flushed_all = False
        self._panes_left = 0  # after the last flush: those that are truly open
        self.tally = Tally(config, self._kinds)
        self.panes_closed = 0

    # --- the loop ----------------------------------------------------------------------

    def run(self) -> None:
        """Read, sum and publish until :meth:`stop`; then publish and commit what is left."""
        self._discover()
        self._consumer.subscribe(
            list(self._kinds), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        interval_s = self._config.flush_interval / 1000
        due_s = time.monotonic() + interval_s
        while not self._stopping.is_set():
            self._turn()
            self.take(self._consumer.consume(self._batch_records, max(0.01, min(due_s - self._turn_s, 0.2))))
            if time.monotonic() >= due_s or self._open_panes() > self._panes_left + CATCH_UP_PANES:
                self.flush()
                due_s = max(due_s + interval_s, time.monotonic())
        self.flush()

    def close(self) -> None:
        """Leave the group; after :meth:`run`."""
        self._consumer.close()

    def stop(self) -> None:
        """Let :meth:`run` end after its current batch. Callable from a signal handler."""
        self._stopping.set()

    def _discover(self) -> None:
        """Wait until the topics are there, and learn how many partitions they have."""
        wanted = [*self._kinds, self._config.kafka.topics.panes]
        told = False
        while not self._stopping.is_set():
            self._turn()
            try:
                found = self._consumer.list_topics(timeout=5.0).topics
            except KafkaException:
                found = {}
            self._partitions = {
                n: len(found[n].partitions) for n in wanted if n in found and not found[n].error
            }
            if len(self._partitions) == len(wanted):
                return
            if not told:
                log.warning("waiting for topics: %s (fairstream topics creates them)", ", ".join(wanted))
                told = True
            self._stopping.wait(0.5)

    # --- assignment --------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        now_s = time.monotonic()
        for tp in committed(consumer, partitions):
            low, _ = ask_again(partial(consumer.get_watermark_offsets, tp, timeout=ANSWER_S))
            start = max(tp.offset, low) if tp.offset >= 0 else low
            resume = decode_resume(tp.metadata) if tp.offset >= 0 else None
            tp.offset = start
            kind = self._kinds[tp.topic]
            state = SourcePartition(self._config, kind, self._decoders[tp.topic], start, resume)
            self._sources[tp.topic, tp.partition] = Source(state, now_s)
            for each in partitions:
                if (each.topic, each.partition) == (tp.topic, tp.partition):
                    each.offset = start
        consumer.assign(partitions)
        self._assigned = True
        self._flushed_all = False
        log.info("assigned %d partitions", len(partitions))

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self.flush()
        self._on_lost(_, partitions)

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._assigned = False
        for tp in partitions:
            source = self._sources.pop((tp.topic, tp.partition), None)
            if source is not None:
                self.panes_closed += source.state.panes_closed
        log.info("gave up %d partitions", len(partitions))

    # --- events in ---------------------------------------------------------------------

    def take(self, messages: list[Message]) -> None:
        """Sum a batch of records of any partitions."""
        found = sort_out(messages)
        for error in found.errors:
            if is_fatal(error):
                raise BrokerError(str(error))
            log.warning("kafka: %s", error.name())
        contributions, most = 0, BATCH_CONTRIBUTIONS
        for topic, decoder in self._decoders.items():
            own = [r for r in found.records if r.partition[0] == topic and r.partition in self._sources]
            if own:
                columns = list(decoder.decode_each([records.batch.values for records in own]))
                most = BATCH_ROWS if any(each.of_streams for each in columns) else most
                contributions += sum(self._read(*each) for each in zip(own, columns, strict=True))
        if contributions:
            fit = most * len(messages) // contributions
            self._batch_records = min(max(fit, 1), BATCH_RECORDS)
        for partition in found.ended & self._sources.keys():
            self._sources[partition].at_end = True

    def _read(self, records: Records, columns: Columns) -> int:
        """Sum records of one partition; how many contributions they held."""
        source = self._sources[records.partition]
        source.at_end = False
        source.heard_s = time.monotonic()
        outcome = source.state.read(records.batch, columns)
        self.tally.add(records.partition[0], outcome)
        by_record = defaultdict[int, list[Rejected]](list)
        for rejected in outcome.rejected:
            by_record[rejected.index].append(rejected)
        for index, of_record in by_record.items():
            self._publisher.bury(records.messages[index], of_record)
        self._flushed_all = False
        return outcome.items

    # --- snapshots out -----------------------------------------------------------------

    def flush(self) -> None:
        """Publish what changed, have it acknowledged, then commit.

        Raises:
            DeliveryError: the broker refused a record.
        """
        changed = defaultdict[tuple[str, Kind], list[tuple[int, PaneSnapshot]]](list)
        for (_, partition), source in sorted(self._sources.items()):
            for surface, snapshots in source.state.take_snapshots().items():
                changed[surface, source.state.kind] += [(partition, snapshot) for snapshot in snapshots]
        for (surface, kind), of_all in changed.items():
            self._publisher.snapshots(surface, kind, of_all)
        if self._sources:
            self._publisher.heartbeat(self._progress(), self._partitions[self._config.kafka.topics.panes])
        self._publisher.wait(self._wait)
        commit(self._consumer, self._sources)
        self._flushed_all = True
        self._panes_left = self._open_panes()

    def _open_panes(self) -> int:
        return sum(source.state.open_panes for source in self._sources.values())

    def _wait(self) -> None:
        """The broker takes its time: it is away, or refuses."""
        self._silence.broker_away()
        self._turn()

    def _turn(self) -> None:
        """The process is at work, or waits for the broker."""
        self._turn_s = time.monotonic()
        if self._stall.due:
            positions = {key: source.state.position for key, source in self._sources.items()}
            self._stall.look(reach_of(self._consumer, positions))

    def _progress(self) -> list[SourceProgress]:
        idle = self._silence.idle(self._sources)
        return [
            SourceProgress(
                source.state.kind,
                topic,
                partition,
                self._partitions[topic],
                source.state.watermark_ms,
                source.state.position,
                self._lag(topic, partition, source),
                (topic, partition) in idle,
            )
            for (topic, partition), source in sorted(self._sources.items())
        ]

    def _lag(self, topic: str, partition: int, source: Source) -> int:
        if source.at_end:
            return 0
        _, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
        return max(0, high - source.state.position)

    # --- what it says of itself --------------------------------------------------------

    @property
    def healthy(self) -> bool:
        """Whether the loop turns, and every partition with records makes progress."""
        turns = time.monotonic() - self._turn_s < self._config.http.stalled_after / 1000
        return turns and not self._stall.stalled

    @property
    def ready(self) -> bool:
        """Whether the group has given it its partitions; none, if there are more processes than those."""
        return self._assigned

    def status(self) -> dict[str, Any]:
        """Progress for ``run``: the summary so far, positions, and whether all is read and published."""
        everything = sum(self._partitions.get(topic, 0) for topic in self._kinds)
        sources = dict(self._sources)
        at_end = len(sources) == everything > 0 and all(s.at_end for s in sources.values())
        return self.summary() | {
            "positions": {f"{s.state.kind}/{p}": s.state.position for (_, p), s in sources.items()},
            "watermarks": {
                f"{s.state.kind}/{p}": s.state.watermark_ms
                for (_, p), s in sources.items()
                if s.state.kind is Kind.IMPRESSIONS
            },
            "at_end": at_end and self._flushed_all,
            "assigned": len(sources),
        }

    def summary(self) -> dict[str, Any]:
        """Totals since the start."""
        states = [source.state for source in dict(self._sources).values()]
        return {
            "topics": self.tally.summary(),
            "panes_closed": self.panes_closed + sum(s.panes_closed for s in states),
            "panes_open": sum(s.open_panes for s in states),
        }


def spare_collector() -> None:
    """Let Python look for cycles only after 200,000 new objects that stay: records go by themselves.

    By default it looks at every 700th, which took longer than reading the records.
    """
    gc.freeze()
    gc.set_threshold(200_000, 10, 10)


def run_aggregate(config: Config, *, instance: str, summary: Path | None = None) -> int:
    """Run the role until SIGTERM or SIGINT; the exit code."""
    spare_collector()
    consumer = Consumer(consumer_settings(config.kafka, "aggregate", instance))
    role = Aggregate(config, consumer, Producer(producer_settings(config.kafka)))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: role.stop())
    server = None
    if config.http.aggregate_port:
        probe = Probe(lambda: role.healthy, lambda: role.ready, role.status)
        server = serve(config.http.bind, config.http.aggregate_port, role.tally.registry, probe)
    try:
        role.run()
    except (KafkaException, BrokerError, DeliveryError) as error:
        log.critical("stopping: %s", error.args[0])
        return EX_SOFTWARE
    finally:
        write_summary(summary, role.summary())
        role.close()
        if server is not None:
            server.shutdown()
    return 0
