"""Topics read from their beginning to where they end now."""

import time
from collections.abc import Iterator
from typing import cast

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Message, TopicPartition

from monitor.config import Kafka
from streams.clients import group_reader

TIMEOUT_S = 30.0
BATCH = 5_000


def read_topic(kafka: Kafka, topic: str) -> Iterator[Message]:
    """Every record of a topic until each partition's end; those of a partition in the order of their offsets.

    Raises:
        KafkaException: the broker does not answer for 30 s, or there is no such topic.
    """
    consumer = group_reader(kafka, "verify")
    try:
        found = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        waiting = set(found.partitions)
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in waiting])
        heard_s = time.monotonic()
        while waiting:
            if time.monotonic() - heard_s > TIMEOUT_S:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"reading {topic}"))
            for message in consumer.consume(BATCH, timeout=0.05):
                heard_s = time.monotonic()
                error = message.error()
                if error is None and message.partition() in waiting:
                    yield message
                elif error is not None and error.code() == KafkaError._PARTITION_EOF:
                    waiting.discard(message.partition() or 0)
                elif error is not None and error.fatal():
                    raise KafkaException(error)
    finally:
        consumer.close()


def text_headers(message: Message) -> dict[str, str]:
    """A record's headers as text."""
    pairs = cast(list[tuple[str, bytes | None]], message.headers() or [])
    return {name: (value or b"").decode(errors="replace") for name, value in pairs}
