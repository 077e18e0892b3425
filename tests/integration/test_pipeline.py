"""The three roles together on a real broker: exact sums, the contract's records, restarts."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx

from alerts.events import EventState, decode_event
from monitor.snapshots import Kind, PaneSnapshot
from monitor.verdicts import Outcome, decode_verdict
from tests.conftest import Spawn
from tests.support.events import engagement, impression
from tests.support.pipeline import WAIT_S, Pipeline
from tests.support.wait import wait_for

PANE_MS = 10_000
MINUTES = 30

RULES = [
    {
        "name": "tone-exposure",
        "metric": "exposure_share",
        "dimension": "item.skin_tone",
        "window": "1m",
        "compare": "reference",
        "reference": {"targets": {"1": 0.4, "2": 0.3, "3": 0.2, "4": 0.1}},
        "min_support": 20,
        "for": "30s",
        "clear_for": "1m",
        "severity": "critical",
    },
    {
        "name": "save-rate",
        "metric": "engagement_rate",
        "action": "save",
        "dimension": "viewer.gender",
        "window": "1m",
        "min_support": 20,
    },
]


def traffic(seed: int, start_ms: int) -> list[tuple[str, int, bytes]]:
    """(topic kind, partition, record) in event time: tone 3 vanishes in the middle third."""
    draw = random.Random(seed)
    events: list[tuple[int, str, int, bytes]] = []
    for ts in range(start_ms, start_ms + MINUTES * 60_000, 300):
        viewer = f"u-{draw.randrange(200)}"
        partition = hash_of(viewer)
        gone = (ts - start_ms) // (MINUTES * 20_000) == 1
        tones = tuple(draw.choices("1234", weights=(4, 3, 0 if gone else 2, 1), k=4))
        supply = zip("1234", (8, 6, 4, ts // 300 % 3 + 1), strict=True)
        candidates = [{"attrs": {"skin_tone": tone}, "count": count} for tone, count in supply]
        about: dict[str, Any] = {"viewer": {"gender": draw.choice("fm")}, "candidates": candidates}
        record = impression(ts, viewer, tones=tones, **about)
        events.append((ts, "impressions", partition, record))
        if draw.random() < 0.3:
            later = ts + draw.randrange(30_000)
            events.append((later, "engagements", partition, engagement(later, ts, viewer)))
    return [event[1:] for event in sorted(events)]


def hash_of(viewer: str) -> int:
    """A partition for a viewer."""
    return sum(viewer.encode()) % 2


def write(pipeline: Pipeline, events: Iterable[tuple[str, int, bytes]]) -> None:
    """Append the events to their topics."""
    topics = {"impressions": pipeline.topics.impressions, "engagements": pipeline.topics.engagements}
    for kind, partition, record in events:
        pipeline.producer.produce(topics[kind], record, b"k", partition=partition)
        pipeline.producer.poll(0)
    assert pipeline.producer.flush(30.0) == 0


def recount(events: Iterable[tuple[str, int, bytes]]) -> Counter[tuple[str, int, int, str, str]]:
    """Impressions and engagements by (kind, partition, pane, gender, tone), counted one by one."""
    counts: Counter[tuple[str, int, int, str, str]] = Counter()
    for kind, partition, data in events:
        record = json.loads(data)
        gender = record["viewer"]["gender"]
        if kind == "impressions":
            for item in record["items"]:
                pane = record["ts"] // PANE_MS * PANE_MS
                counts[kind, partition, pane, gender, item["attrs"]["skin_tone"]] += 1
        else:
            pane = record["impression_ts"] // PANE_MS * PANE_MS
            counts[kind, partition, pane, gender, record["attrs"]["skin_tone"]] += 1
    return counts


def counted(
    panes: dict[tuple[str, Kind, int, int, int], PaneSnapshot],
) -> Counter[tuple[str, int, int, str, str]]:
    """The same, from the snapshots on ``fairness.panes``."""
    counts: Counter[tuple[str, int, int, str, str]] = Counter()
    for (_, kind, partition, pane, _), snapshot in panes.items():
        measures = 3 if kind is Kind.IMPRESSIONS else 1
        for index, value in zip(*snapshot.sums(), strict=True):
            if index % measures == 0:
                gender, tone = snapshot.cells[index // (32 * measures)]
                counts[kind.value, partition, pane, gender, tone] += int(value)
    return counts


def start_ms() -> int:
    """Half an hour ago, so that nothing is in the future."""
    return time.time_ns() // 1_000_000 - (MINUTES + 5) * 60_000


def test_sums_verdicts_and_alerts_agree_with_the_log(
    bootstrap: str, unique: str, tmp_path: Path, spawn: Spawn
) -> None:
    """Every pane equals a recount of the log, and the slice that vanished fires and then resolves."""
    pipeline = Pipeline(bootstrap, unique, tmp_path, spawn, rules=RULES)
    events = traffic(7, start_ms())
    write(pipeline, events)

    summary = pipeline.run_to_the_end()

    assert summary["events"] == {"read": len(events), "accepted": len(events), "replayed": 0, "rejected": {}}
    assert counted(pipeline.panes()) == recount(events)
    verdicts = [decode_verdict(r.value or b"") for r in pipeline.read(pipeline.topics.verdicts)]
    told = Counter(v.verdict.value for v in verdicts)
    assert summary["verdicts"] == {outcome.value: told[outcome.value] for outcome in Outcome}
    assert {v.rule for v in verdicts if v.verdict is not Outcome.INSUFFICIENT} == {
        "tone-exposure",
        "save-rate",
    }
    once = Counter((*v.series, v.pane_end_ms) for v in verdicts)
    assert max(once.values()) == 1
    absent = [v for v in verdicts if v.slice_ == "3" and v.share == 0.0]
    assert absent, "a slice that is in the reference and absent from the data has share 0"
    assert all(v.verdict is Outcome.BREACH for v in absent)

    history = [decode_event(r.value or b"") for r in pipeline.read(pipeline.topics.alerts)]
    told_of_three = [e.state for e in history if e.slice_ == "3" and e.rule == "tone-exposure"]
    assert told_of_three[:3] == [EventState.PENDING, EventState.FIRING, EventState.RESOLVED]
    fired = next(e for e in history if e.slice_ == "3" and e.state is EventState.FIRING)
    gone_ms = start_of(events) + MINUTES * 20_000
    assert gone_ms < fired.at_ms < gone_ms + 3 * 60_000
    assert "on home" in fired.summary
    assert fired.at_ms - fired.since_ms >= 30_000


def start_of(events: list[tuple[str, int, bytes]]) -> int:
    """Event time of the first event."""
    found: int = json.loads(events[0][2])["ts"]
    return found


def test_a_killed_aggregate_rebuilds_exactly_what_it_had_published(
    bootstrap: str, unique: str, tmp_path: Path, spawn: Spawn
) -> None:
    """After kill -9 in the middle of the log nothing is lost and nothing is counted twice."""
    pipeline = Pipeline(bootstrap, unique, tmp_path, spawn)
    events = traffic(8, start_ms())
    half = len(events) // 2
    write(pipeline, events[:half])
    first = pipeline.start("aggregate")
    pipeline.wait_at_end(first, half)
    write(pipeline, events[half:])
    read = len(events) // 2 + 1

    def further() -> bool:
        status = pipeline.status("aggregate")
        return status is not None and sum(t["read"] for t in status["topics"].values()) >= read

    wait_for(further, WAIT_S, "the second half to be begun", watch=[first])
    first.kill()

    second = pipeline.start("aggregate")
    status = pipeline.wait_at_end(second, 1)

    assert counted(pipeline.panes()) == recount(events)
    assert all(not topic["rejected"] for topic in status["topics"].values())


def test_a_killed_monitor_goes_on_where_it_was(
    bootstrap: str, unique: str, tmp_path: Path, spawn: Spawn, kafka_only: None
) -> None:
    """After kill -9 every pane has its verdicts, and a repeated one says the same."""
    pipeline = Pipeline(bootstrap, unique, tmp_path, spawn, rules=RULES)
    events = traffic(9, start_ms())
    half = len(events) // 2
    write(pipeline, events[:half])
    aggregate = pipeline.start("aggregate")
    pipeline.wait_at_end(aggregate, half)
    monitor = pipeline.start("monitor")

    def judged() -> bool:
        status = pipeline.status("monitor")
        return status is not None and sum(status["verdicts"].values()) > 100

    wait_for(judged, WAIT_S, "verdicts", watch=[monitor])
    monitor.kill()
    write(pipeline, events[half:])
    pipeline.wait_at_end(aggregate, len(events))
    monitor = pipeline.start("monitor")

    def caught_up() -> bool:
        ours, theirs = pipeline.status("monitor"), pipeline.status("aggregate")
        if ours is None or theirs is None:
            return False
        return all(ours["progress"].get(p) == theirs["positions"] for p in ("0", "1"))

    wait_for(caught_up, WAIT_S, "monitor to catch up", watch=[monitor, aggregate])
    verdicts = [decode_verdict(r.value or b"") for r in pipeline.read(pipeline.topics.verdicts)]
    said: dict[tuple[object, ...], set[object]] = {}
    for verdict in verdicts:
        said.setdefault((*verdict.series, verdict.pane_end_ms), set()).add(verdict)
    assert all(len(different) == 1 for different in said.values())
    ends = sorted({v.pane_end_ms for v in verdicts if v.rule == "tone-exposure"})
    assert ends == list(range(ends[0], ends[-1] + 1, PANE_MS))
    last = max(json.loads(data)["ts"] for kind, _, data in events if kind == "impressions")
    assert ends[-1] > last - 60_000


def test_pages_of_a_running_pipeline(bootstrap: str, unique: str, tmp_path: Path, spawn: Spawn) -> None:
    """Every role answers /metrics, /-/healthy and /-/ready, and nothing else of its insides."""
    pipeline = Pipeline(bootstrap, unique, tmp_path, spawn, rules=RULES)
    write(pipeline, traffic(10, start_ms()))
    children = [pipeline.start(role) for role in ("aggregate", "monitor", "notify")]
    for role in ("aggregate", "monitor", "notify"):
        wait_for(
            lambda role=role: (
                pipeline.status(role) is not None  # type: ignore[misc]
                and httpx.get(pipeline.url(role, "/-/ready")).status_code == 200
            ),
            WAIT_S,
            f"{role} to be ready",
            watch=children,
        )
        assert httpx.get(pipeline.url(role, "/-/healthy")).status_code == 200
        assert "fairstream_build_info" in httpx.get(pipeline.url(role, "/metrics")).text
        assert httpx.get(pipeline.url(role, "/tables/")).status_code == 404
