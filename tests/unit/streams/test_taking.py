"""aggregate takes records of several partitions at once, and fewer of them when they hold many items."""

from __future__ import annotations

import json
from unittest.mock import Mock

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, Message

from monitor.config import parse_config
from monitor.decoding import ImpressionDecoder
from monitor.pane_sums import RECORD_BYTES
from monitor.partition import SourcePartition
from monitor.snapshots import HeartbeatRecord, Kind, PaneSnapshot, PanesRecord, decode_record
from streams.aggregate import BATCH_CONTRIBUTIONS, BATCH_RECORDS, BATCH_ROWS, Aggregate
from streams.publisher import bundles
from streams.sources import Source
from tests.support.arrow import schema_of, stream_of
from tests.support.events import impression

START_MS = 1_700_000_000_000
CONFIG = parse_config(
    "surfaces: [home]\nwindows: [{length: 1h, slide: 1m}]\nattributes: {item: {skin_tone: {}}}\n"
)


@pytest.fixture
def role() -> Aggregate:
    """Return the role with two partitions of the impressions."""
    found = Aggregate(CONFIG, Mock(), Mock())
    decoder = found._decoders["impressions"]
    assert isinstance(decoder, ImpressionDecoder)
    for number in range(2):
        state = SourcePartition(CONFIG, Kind.IMPRESSIONS, decoder, 0)
        found._sources["impressions", number] = Source(state, 0.0)
    return found


def records(count: int, items: int, first: int = 0) -> list[Message]:
    """Return messages that go to the two partitions and to one that was given up, in turns."""
    stamp = (TIMESTAMP_CREATE_TIME, START_MS)
    return [
        Message(
            topic="impressions",
            partition=number % 3,
            offset=first + number // 3,
            value=impression(START_MS + number, f"u-{number}", tones=("4",) * items),
            timestamp=stamp,
        )
        for number in range(count)
    ]


def test_each_partition_gets_its_own_records(role: Aggregate) -> None:
    """Decoded together, counted apart; those of a partition that was given up are left to its owner."""
    role.take(records(8, items=2))
    assert {key: source.state.position for key, source in role._sources.items()} == {
        ("impressions", 0): 3,
        ("impressions", 1): 3,
    }
    assert role.tally.counts["impressions"]["contributions"] == 2 * 6


def test_many_items_make_small_batches(role: Aggregate) -> None:
    """About so many contributions at once; nothing read changes nothing, small records make large batches."""
    role.take(records(2, items=25))
    assert role._batch_records == BATCH_CONTRIBUTIONS // 25
    role.take([])
    assert role._batch_records == BATCH_CONTRIBUTIONS // 25
    role.take(records(2, items=1, first=1))
    assert role._batch_records == BATCH_RECORDS


def test_what_changed_of_one_surface_travels_in_one_record(role: Aggregate) -> None:
    """Monitor deals with a record in one go, however many partitions a process reads."""
    producer = role._publisher._producer
    assert isinstance(producer, Mock)
    producer.flush.return_value = 0
    assert isinstance(role._consumer, Mock)
    role._consumer.get_watermark_offsets.return_value = (0, 9)
    role._consumer.commit.return_value = []
    role._partitions = {"impressions": 3, "fairness.panes": 1}
    role.take(records(8, items=2))
    role.flush()
    sent = [decode_record(call.args[1]) for call in producer.produce.call_args_list]
    panes, heartbeat = sent
    assert isinstance(panes, PanesRecord)
    assert isinstance(heartbeat, HeartbeatRecord)
    assert [source.partition for source in panes.sources] == [0, 1]


def test_a_bundle_is_no_larger_than_a_record_may_be() -> None:
    """Snapshots that do not fit together are split between partitions, and within one."""
    big = PaneSnapshot(0, 0, 0, 0, 1, [("a",)], b"", bytes(RECORD_BYTES // 2 - 8_000))
    found = list(bundles([(0, big), (0, big), (0, big), (1, big), (2, big)]))
    assert [[(s.partition, len(s.snapshots)) for s in bundle] for bundle in found] == [
        [(0, 2)],
        [(0, 1), (1, 1)],
        [(2, 1)],
    ]


def test_streams_are_taken_by_their_rows(role: Aggregate) -> None:
    """One record of two hundred events: no objects are made of them, so more fit at once."""
    event = json.loads(impression(START_MS))
    value = stream_of([event] * 200, schema_of(CONFIG, "impressions"))
    stamp = (TIMESTAMP_CREATE_TIME, START_MS)
    role.take([Message(topic="impressions", partition=0, offset=0, value=value, timestamp=stamp)])
    assert role.tally.counts["impressions"]["accepted"] == 200
    assert role._batch_records == BATCH_ROWS // 200
