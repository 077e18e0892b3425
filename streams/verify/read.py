"""Topics read from their beginning to where they end now."""

from collections.abc import Iterator
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from monitor.config import Kafka
from streams.clients import group_reader

TIMEOUT_S = 30.0
BATCH = 5_000


def read_topic(kafka: Kafka, topic: str) -> Iterator[Message]:
    """Every record of a topic, one partition after the other, each in the order of its offsets.

    Raises:
        KafkaException: the broker does not answer for 30 s, or there is no such topic.
    """
    consumer = group_reader(kafka, "verify")
    try:
        found = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        for partition in sorted(found.partitions):
            yield from _read_partition(consumer, topic, partition)
    finally:
        consumer.close()


def text_headers(message: Message) -> dict[str, str]:
    """A record's headers as text."""
    pairs = cast(list[tuple[str, bytes | None]], message.headers() or [])
    return {name: (value or b"").decode(errors="replace") for name, value in pairs}


def _read_partition(consumer: Consumer, topic: str, partition: int) -> Iterator[Message]:
    """Until the end is reached that the partition has when it is reached."""
    low, _ = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT_S)
    consumer.assign([TopicPartition(topic, partition, low)])
    silent_s = 0.0
    while True:
        messages = consumer.consume(BATCH, timeout=0.2)
        silent_s = 0.0 if messages else silent_s + 0.2
        if silent_s > TIMEOUT_S:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"reading {topic}"))
        for message in messages:
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                return
            elif error.fatal():
                raise KafkaException(error)
