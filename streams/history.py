"""The end of the alert history, read back: what a crash left written there but not in notify's table."""

import logging
import time

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from alerts.events import decode_event
from monitor.config import Kafka
from monitor.verdicts import UnknownVersionError
from streams.clients import common_settings

log = logging.getLogger(__name__)

TAIL_RECORDS = 1_000
"""Read of each partition. One event at most is written without its state: the owner's last."""
TIMEOUT_S = 60.0


def written_transitions(kafka: Kafka) -> set[str]:
    """Identities (:attr:`alerts.events.AlertEvent.transition`) of the newest events on ``fairness.alerts``.

    Raises:
        KafkaException: the broker does not answer, or there is no such topic.
    """
    settings = common_settings(kafka) | {
        "group.id": f"{kafka.group_prefix}-history",  # never joined: partitions are assigned by hand
        "enable.auto.commit": False,
        "enable.partition.eof": True,
    }
    consumer = Consumer(settings)
    try:
        return _read(consumer, kafka.topics.alerts)
    finally:
        consumer.close()


def _read(consumer: Consumer, topic: str) -> set[str]:
    found = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    places = [TopicPartition(topic, partition) for partition in found.partitions]
    for place in places:
        low, high = consumer.get_watermark_offsets(place, timeout=TIMEOUT_S)
        place.offset = max(low, high - TAIL_RECORDS)
    consumer.assign(places)
    waiting = set(found.partitions)
    written: set[str] = set()
    deadline_s = time.monotonic() + TIMEOUT_S
    while waiting:
        if time.monotonic() > deadline_s:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"reading back {topic}"))
        for message in consumer.consume(1_000, timeout=1.0):
            error = message.error()
            if error is None:
                written |= _transition(message.value() or b"")
            elif error.code() == KafkaError._PARTITION_EOF:
                waiting.discard(message.partition() or 0)
            elif error.fatal():
                raise KafkaException(error)
    return written


def _transition(value: bytes) -> set[str]:
    """The event's identity; none if it is not one of ours."""
    try:
        return {decode_event(value).transition}
    except (msgspec.DecodeError, UnknownVersionError) as error:
        log.warning("an unreadable record in the alert history: %s", error)
        return set()
