"""What a consumer hands over comes sorted: records, ends of partitions, errors."""

from __future__ import annotations

from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, KafkaError, Message

from streams.records import sort_out


def record(
    partition: int, offset: int, topic: str = "a", timestamp: tuple[int, int] = (TIMESTAMP_CREATE_TIME, 7)
) -> Message:
    """A record as a consumer hands it over."""
    return Message(
        topic=topic,
        partition=partition,
        offset=offset,
        value=f"{topic}/{partition}/{offset}".encode(),
        timestamp=timestamp,
    )


def told(code: int, partition: int = 0, topic: str = "a") -> Message:
    """What a consumer hands over that is no record."""
    return Message(topic=topic, partition=partition, offset=9, error=KafkaError(code))


def test_records_come_by_topic_and_partition_in_the_order_of_their_logs() -> None:
    """Partitions that share a number, interleaved, keep apart; gaps in offsets are kept."""
    messages = [
        record(1, 5),
        record(0, 3),
        record(1, 6, "b"),
        record(1, 6),
        record(0, 8),
        record(1, 7, "b"),
        record(0, 9),
    ]
    found = sort_out(messages)
    assert {r.partition: r.batch.offsets.tolist() for r in found.records} == {
        ("a", 1): [5, 6],
        ("a", 0): [3, 8, 9],
        ("b", 1): [6, 7],
    }
    for (topic, partition), own, batch in found.records:
        assert [m.value() for m in own] == batch.values
        assert batch.values == [f"{topic}/{partition}/{offset}".encode() for offset in batch.offsets]
    assert not found.ended
    assert not found.errors


def test_a_record_has_its_own_time_or_none() -> None:
    """Whichever clock set it; -1 where the record has none."""
    times = [(TIMESTAMP_CREATE_TIME, 40), (0, 0), (TIMESTAMP_LOG_APPEND_TIME, 50), (0, -1)]
    [found] = sort_out([record(0, i, timestamp=time) for i, time in enumerate(times)]).records
    assert found.batch.record_ms.tolist() == [40, -1, 50, -1]


def test_a_partition_has_ended_only_after_its_last_record() -> None:
    """An end that records follow was not the end; partitions end by themselves."""
    end = KafkaError._PARTITION_EOF
    messages = [record(0, 1), told(end, 0), record(0, 2), record(1, 1), told(end, 1), told(end, 0, "b")]
    found = sort_out(messages)
    assert found.ended == {("a", 1), ("b", 0)}
    assert {r.partition: r.batch.offsets.tolist() for r in found.records} == {("a", 0): [1, 2], ("a", 1): [1]}
    assert not found.errors


def test_errors_are_handed_on() -> None:
    """What is neither a record nor an end, beside records that come through."""
    found = sort_out([told(KafkaError._ALL_BROKERS_DOWN), record(0, 1)])
    assert [error.code() for error in found.errors] == [KafkaError._ALL_BROKERS_DOWN]
    assert [r.batch.offsets.tolist() for r in found.records] == [[1]]


def test_nothing_gives_nothing() -> None:
    """A consumer that has waited in vain."""
    assert sort_out([]) == ([], set(), [])
