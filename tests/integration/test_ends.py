"""Where partitions end, asked for at once."""

from __future__ import annotations

from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from streams.clients import group_reader
from streams.liveness import end_offsets
from tests.conftest import Broker, Spawn
from tests.support.pipeline import Pipeline
from tests.support.ports import free_port


def test_the_ends_of_many_partitions_are_asked_for_at_once(
    broker: Broker, spawn: Spawn, unique: str, tmp_path: Path
) -> None:
    """The same as asking for each: also of a partition that holds nothing."""
    pipeline = Pipeline(broker.bootstrap, unique, tmp_path, spawn)
    topic = pipeline.topics.impressions
    pipeline.write(topic, [b"one", b"two", b"three"], partition=1)
    consumer = group_reader(pipeline.config.kafka, "ends")
    each = {
        (topic, p): consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10.0)[1] for p in (0, 1)
    }
    assert end_offsets(consumer, list(each)) == each
    assert end_offsets(consumer, []) == {}
    consumer.close()


def test_a_broker_that_does_not_answer_names_no_end() -> None:
    """Nobody is taken for idle then."""
    consumer = Consumer(
        {
            "bootstrap.servers": f"127.0.0.1:{free_port()}",
            "group.id": "ends",
            "log_level": 0,
            "error_cb": lambda _error: None,
        }
    )
    assert end_offsets(consumer, [("impressions", 0)]) is None
    consumer.close()
