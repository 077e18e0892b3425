"""What aggregate writes: snapshots, heartbeats, dead letters; acknowledged before offsets are committed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from itertools import groupby
from operator import itemgetter

from confluent_kafka import KafkaError, Message, Producer

from monitor.config import Config, meaning_sha256
from monitor.pane_sums import RECORD_BYTES
from monitor.rejections import WHOLE, Rejected
from monitor.snapshots import (
    VERSION,
    HeartbeatRecord,
    Kind,
    PaneSnapshot,
    PanesRecord,
    SourceProgress,
    SourceSnapshots,
    encode_record,
)
from streams.clients import MAX_RECORD_BYTES

Headers = list[tuple[str, str | bytes | None]]

_ENVELOPE_BYTES = 4_096
_HEADERS_BYTES = 64 * 1024


class DeliveryError(RuntimeError):
    """The broker refused a record for good. Restarting rebuilds what was not published."""


class Publisher:
    """Writes through one producer, which keeps the order of records of a partition."""

    def __init__(self, config: Config, producer: Producer) -> None:
        """``producer`` is idempotent and waits for all in-sync replicas."""
        self._topics = config.kafka.topics
        self._producer = producer
        self._meaning = meaning_sha256(config)
        self._failed: KafkaError | None = None

    def snapshots(self, surface: str, kind: Kind, snapshots: Iterable[tuple[int, PaneSnapshot]]) -> None:
        """Send changed panes of one surface, each with the number of its source partition, ascending."""
        for bundle in bundles(snapshots):
            record = PanesRecord(
                version=VERSION, meaning=self._meaning, surface=surface, kind=kind, sources=bundle
            )
            self._produce(self._topics.panes, encode_record(record), surface.encode())

    def heartbeat(self, sources: list[SourceProgress], partitions: int) -> None:
        """Send progress to every partition of ``fairness.panes``, after the snapshots it speaks of."""
        record = encode_record(HeartbeatRecord(version=VERSION, meaning=self._meaning, sources=sources))
        for partition in range(partitions):
            self._produce(self._topics.panes, record, None, partition)

    def bury(self, message: Message, rejected: Sequence[Rejected]) -> None:
        """Send what was rejected of a record to the dead-letter topic: all of it, or rows of its stream."""
        value = message.value()
        rows = [each for each in rejected if each.row != WHOLE]
        for each in rejected:
            if each.row == WHOLE:
                self._bury(message, each, value)
        if rows:
            streams = import_module("monitor.arrow").rows_of(value, [each.row for each in rows])
            for each, stream in zip(rows, streams, strict=True):
                self._bury(message, each, stream)

    def _bury(self, message: Message, rejected: Rejected, value: bytes | None) -> None:
        """Send original bytes, cut only if no record could hold them."""
        key = message.key()
        room = MAX_RECORD_BYTES - _HEADERS_BYTES - len(key or b"")
        headers: Headers = [
            ("reason", rejected.reason.value),
            ("detail", rejected.detail),
            ("topic", message.topic() or ""),
            ("partition", str(message.partition())),
            ("offset", str(message.offset())),
        ]
        if rejected.row != WHOLE:
            headers.append(("row", str(rejected.row)))
        if value is not None and len(value) > room:
            headers.append(("truncated", str(len(value))))
            value = value[:room]
        self._produce(self._topics.dead_letter, value, key, headers=headers)

    def wait(self, turn: Callable[[], None]) -> None:
        """Wait until the broker has everything; ``turn`` is called while it is away.

        Raises:
            DeliveryError: it refused a record.
        """
        while self._producer.flush(1.0) > 0:
            turn()
        if self._failed is not None:
            raise DeliveryError(str(self._failed))

    def _produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | str | None,
        partition: int = -1,
        headers: Headers | None = None,
    ) -> None:
        while True:
            try:
                self._producer.produce(
                    topic,
                    value,
                    key,
                    partition=partition,
                    headers=headers or [],
                    on_delivery=self._on_delivery,
                )
                break
            except BufferError:
                self._producer.poll(0.1)  # full: wait for the broker rather than grow

    def _on_delivery(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failed = error


def bundles(snapshots: Iterable[tuple[int, PaneSnapshot]]) -> Iterator[list[SourceSnapshots]]:
    """Snapshots by source partition, in groups that each fit into a record."""
    group: list[tuple[int, PaneSnapshot]] = []
    size = _ENVELOPE_BYTES
    for partition, snapshot in snapshots:
        names = sum(4 * len(value) + 8 for cell in snapshot.cells for value in cell)
        own = len(snapshot.index) + len(snapshot.values) + names
        if group and size + own > RECORD_BYTES:
            yield _by_source(group)
            group, size = [], _ENVELOPE_BYTES
        group.append((partition, snapshot))
        size += own
    if group:
        yield _by_source(group)


def _by_source(group: list[tuple[int, PaneSnapshot]]) -> list[SourceSnapshots]:
    return [
        SourceSnapshots(partition, [snapshot for _, snapshot in own])
        for partition, own in groupby(group, itemgetter(0))
    ]
