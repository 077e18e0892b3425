"""Produces records to Kafka: all of them or an error, at once or paced by their event times."""

import time
from collections.abc import Callable, Iterable

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from monitor.config import Kafka
from streams.clients import common_settings
from streams.simulate.records import Kind, Record

_DELIVERY_TIMEOUT_S = 60
_CONNECT_TIMEOUT_S = 10
_POLL_EVERY = 1_000
_LONGEST_WAIT_S = 0.1


class WriteError(Exception):
    """Records cannot be written, or some were not delivered."""


class Writer:
    """Writes records to the topics of a configuration.

    Records carry their event time as the record's time; with ``wall_clock`` the time of writing instead.
    At most ``queue_records`` wait in memory for the broker.
    """

    def __init__(self, kafka: Kafka, *, wall_clock: bool = False, queue_records: int = 200_000) -> None:
        self.written = 0
        self.failed = 0
        self._error = ""
        self._wall_clock = wall_clock
        self._topics = {Kind.IMPRESSION: kafka.topics.impressions, Kind.ENGAGEMENT: kafka.topics.engagements}
        self._producer = Producer(
            _settings(kafka, queue_records) | {"error_cb": self._trouble, "on_delivery": self._delivered}
        )
        self._check_topics(kafka.bootstrap)

    def write(self, record: Record) -> None:
        """Queue one record; waits while the queue is full.

        Raises:
            WriteError: an earlier record was not delivered.
        """
        topic = self._topics[record.kind]
        ts_ms = 0 if self._wall_clock else record.ts_ms
        while True:
            try:
                self._producer.produce(topic, record.value, record.key, timestamp=ts_ms)
                break
            except BufferError:
                self._poll(_LONGEST_WAIT_S)
        self.written += 1
        if self.written % _POLL_EVERY == 0:
            self._poll(0)

    def wait(self, seconds: float) -> None:
        """Let time pass while records are being delivered."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._poll(min(left, _LONGEST_WAIT_S))

    def flush(self) -> None:
        """Wait until every record is delivered.

        Raises:
            WriteError: some were not.
        """
        undelivered = self._producer.flush(_DELIVERY_TIMEOUT_S + 5)
        if undelivered:
            raise WriteError(f"{undelivered} records were not delivered in time. {self._error}".strip())
        self._poll(0)

    def _poll(self, seconds: float) -> None:
        self._producer.poll(seconds)
        if self.failed:
            raise WriteError(f"{self.failed} records were not delivered: {self._error}")

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self.failed += 1
            self._error = error.str()

    def _trouble(self, error: KafkaError) -> None:
        self._error = error.str()

    def _check_topics(self, bootstrap: str) -> None:
        try:
            known = self._producer.list_topics(timeout=_CONNECT_TIMEOUT_S).topics
        except KafkaException as error:
            self._producer.poll(0)
            raise WriteError(f"no Kafka broker answers at {bootstrap}. {self._error}".strip()) from error
        missing = sorted(set(self._topics.values()) - set(known))
        if missing:
            raise WriteError(f"no such topic: {', '.join(missing)}; `fairstream topics` creates them")


class Pacer:
    """Says how long to wait so that event time passes ``speed`` times as fast as the clock (in seconds).

    >>> pacer = Pacer(60.0, first_ts_ms=1_000_000, clock=lambda: 5.0)
    >>> pacer.wait_s(1_120_000)
    2.0
    """

    def __init__(self, speed: float, first_ts_ms: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._speed = speed
        self._first_ts_ms = first_ts_ms
        self._clock = clock
        self._started = clock()

    def wait_s(self, ts_ms: int) -> float:
        """Seconds until an event at ``ts_ms`` is due; negative if that is past."""
        due = self._started + (ts_ms - self._first_ts_ms) / 1000 / self._speed
        return due - self._clock()


def write_all(writer: Writer, records: Iterable[Record], pacer: Pacer | None = None) -> None:
    """Write records in their order, each when it is due."""
    for record in records:
        if pacer is not None and (seconds := pacer.wait_s(record.ts_ms)) > 0:
            writer.wait(seconds)
        writer.write(record)


def _settings(kafka: Kafka, queue_records: int) -> dict[str, object]:
    return common_settings(kafka) | {
        "client.id": "fairstream-simulate",
        "enable.idempotence": True,
        "partitioner": "murmur2_random",
        "compression.type": "lz4",
        "linger.ms": 20,
        "batch.size": 524_288,
        "queue.buffering.max.messages": queue_records,
        "queue.buffering.max.kbytes": 131_072,
        "delivery.report.only.error": True,
        "delivery.timeout.ms": _DELIVERY_TIMEOUT_S * 1000,
        "log_level": 0,
    }
