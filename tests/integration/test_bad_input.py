"""Nothing bad stops the pipeline, and nothing disappears."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient, NewTopic

from streams.clients import MAX_RECORD_BYTES
from tests.conftest import Spawn
from tests.support.events import engagement, impression
from tests.support.pipeline import Pipeline


def now_ms() -> int:
    """The clock that brokers stamp records with."""
    return time.time_ns() // 1_000_000


def without(record: bytes, field: str) -> bytes:
    """The record lacking a field."""
    data = json.loads(record)
    del data[field]
    return json.dumps(data).encode()


def changed(record: bytes, **fields: Any) -> bytes:
    """The record with other values."""
    return json.dumps(json.loads(record) | fields).encode()


def bad_impressions(base_ms: int) -> list[tuple[str, bytes | None]]:
    """One of each kind: (reason it must be rejected for, record)."""
    good = impression(base_ms)
    item = json.loads(good)["items"][0]
    fields = ("ts", "request_id", "viewer_id", "surface", "items")
    wrong = {"ts": "soon", "viewer_id": 7, "surface": None, "items": {}, "viewer": [1], "variant": {"a": 1}}
    positions = (-1, 0, 1.5, "first")
    return [
        ("malformed", good[: len(good) // 2]),
        ("malformed", b"\x00\xff\xfe binary noise \x80"),
        ("malformed", b""),
        ("malformed", None),
        ("malformed", good + b"\n" + good),
        ("malformed", good.replace(b"0.71", b"NaN")),
        ("malformed", good.replace(b'"position": 1', b'"position": Infinity')),
        *(("invalid", without(good, field)) for field in fields),
        *(("invalid", changed(good, **{field: value})) for field, value in wrong.items()),
        *(("invalid", changed(good, items=[item | {"position": position}])) for position in positions),
        ("invalid", changed(good, items=[])),
        ("invalid", changed(good, items=[item | {"attrs": {"skin_tone": 4}}])),
        ("invalid", changed(good, ts=-5)),
        ("invalid", b"[]"),
        ("future", impression(base_ms + 3_600_000)),
        ("late", impression(base_ms - 3_600_000)),
        ("oversized", changed(good, padding="x" * 1_100_000)),
    ]


def bad_engagements(base_ms: int) -> list[tuple[str, bytes | None]]:
    """One of each kind."""
    good = engagement(base_ms, base_ms - 5_000)
    return [
        ("malformed", good[:-3]),
        ("invalid", without(good, "action")),
        ("invalid", engagement(base_ms - 10_000, base_ms)),
        ("unattributed", engagement(base_ms, None)),
        ("unattributed", engagement(base_ms, base_ms - 61_000)),
        ("future", engagement(base_ms + 3_600_000, base_ms + 3_599_000)),
        ("late", engagement(base_ms - 3_600_000, base_ms - 3_600_500)),
    ]


def test_every_bad_record_is_rejected_counted_and_buried(
    bootstrap: str, unique: str, tmp_path: Path, spawn: Spawn
) -> None:
    """Read equals accepted plus rejected, and each rejected record is in the dead-letter topic, whole."""
    large = f"impressions-large-{unique}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    big = {"max.message.bytes": str(MAX_RECORD_BYTES)}
    admin.create_topics([NewTopic(large, 2, 1, config=big)])[large].result(30.0)
    names = ("engagements", "panes", "verdicts", "alerts", "dead_letter")
    topics = {"impressions": large} | {name: f"{name}-{unique}" for name in names}
    pipeline = Pipeline(bootstrap, unique, tmp_path, spawn, kafka={"topics": topics})
    base_ms = now_ms()
    impressions: list[tuple[str, bytes | None]] = [("", impression(base_ms + i)) for i in range(500)]
    impressions += [
        *bad_impressions(base_ms),
        ("oversized", changed(impression(base_ms), padding="x" * 10_000_000)),
    ]
    impressions += [("", impression(base_ms + 500 + i)) for i in range(500)]
    engagements: list[tuple[str, bytes | None]] = [
        ("", engagement(base_ms + i, base_ms + i - 100)) for i in range(50)
    ]
    engagements += bad_engagements(base_ms)
    pipeline.write(pipeline.topics.impressions, [value for _, value in impressions])
    pipeline.write(pipeline.topics.engagements, [value for _, value in engagements])

    child = pipeline.start("aggregate")
    status = pipeline.wait_at_end(child, len(impressions) + len(engagements))

    buried = {
        (d.headers["topic"], int(d.headers["offset"])): d for d in pipeline.read(pipeline.topics.dead_letter)
    }
    for topic, records in (
        (pipeline.topics.impressions, impressions),
        (pipeline.topics.engagements, engagements),
    ):
        counts = status["topics"][topic]
        expected = [reason for reason, _ in records if reason]
        assert counts["read"] == len(records)
        assert counts["accepted"] == len(records) - len(expected)
        assert counts["rejected"] == {reason: expected.count(reason) for reason in set(expected)}
        for offset, (reason, value) in enumerate(records):
            dead = buried.pop((topic, offset), None)
            assert (dead.headers["reason"] if dead else "") == reason, (offset, value and value[:80])
            if dead is not None:
                assert (dead.key, dead.headers["partition"]) == (b"u", "0")
                assert dead.value == value
                assert dead.headers["detail"]
    assert not buried


def test_a_million_attribute_values_are_bounded(
    bootstrap: str, unique: str, tmp_path: Path, spawn: Spawn
) -> None:
    """Beyond the cap, combinations are counted in the cell `other`; no impression is lost."""
    pipeline = Pipeline(
        bootstrap, unique, tmp_path, spawn, limits={"max_cells": 100, "suppress_below": 1, "min_viewers": 0}
    )
    base_ms = now_ms() - now_ms() % 10_000  # one pane
    per_record = 1_000
    for first in range(0, 1_000_000, per_record):
        tones = tuple(str(n) for n in range(first, first + per_record))
        pipeline.producer.produce(
            pipeline.topics.impressions, impression(base_ms, tones=tones), b"u", partition=0
        )
        pipeline.producer.poll(0)
    assert pipeline.producer.flush(60.0) == 0

    child = pipeline.start("aggregate")
    status = pipeline.wait_at_end(child, 1_000)

    counts = status["topics"][pipeline.topics.impressions]
    assert counts["read"] == counts["accepted"] == 1_000
    assert counts["contributions"] == 1_000_000
    assert counts["overflowed"] == 1_000_000 - 100
    parts = [snapshot for key, snapshot in pipeline.panes().items()]
    cells = [cell for snapshot in parts for cell in snapshot.cells]
    assert len(cells) == len(set(cells)) == 101
    impressions = sum(int(v) for s in parts for i, v in zip(*s.sums(), strict=True) if i % 3 == 0)
    assert impressions == 1_000_000
