"""A configuration that changes in operation: what is still meaningful stays, the rest starts cleanly."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from alerts.events import EventState, decode_event
from monitor.verdicts import Verdict, decode_verdict
from tests.chaos.calm import calm_verdicts, key_of
from tests.chaos.oracle import read_log
from tests.conftest import Spawn
from tests.integration.test_pipeline import PANE_MS, RULES, start_ms, traffic, write
from tests.support.pipeline import WAIT_S, Pipeline
from tests.support.processes import Child
from tests.support.wait import wait_for

Events = list[tuple[str, int, bytes]]


@pytest.fixture
def pipeline(bootstrap: str, unique: str, tmp_path: Path, spawn: Spawn) -> Pipeline:
    """Return a pipeline of one window and two rules."""
    return Pipeline(bootstrap, unique, tmp_path, spawn, rules=RULES)


def change(pipeline: Pipeline, **sections: Any) -> None:
    """Change the configuration file."""
    data = yaml.safe_load(pipeline.file.read_text(encoding="utf-8")) | sections
    pipeline.file.write_text(yaml.safe_dump(data), encoding="utf-8")
    pipeline.config = pipeline.reload()


def wait_told(pipeline: Pipeline, children: list[Child]) -> None:
    """Wait until monitor knows what aggregate has read, and notify has followed the verdicts."""

    def told() -> bool:
        ours, theirs, last = (pipeline.status(role) for role in ("monitor", "aggregate", "notify"))
        if ours is None or theirs is None or last is None:
            return False
        said = sum(1 for _ in pipeline.read(pipeline.topics.verdicts))
        return (
            all(ours["progress"].get(p) == theirs["positions"] for p in ("0", "1"))
            and sum(last["positions"].values()) >= said > 0
        )

    wait_for(told, WAIT_S, "all to be told", watch=children, interval_s=0.2)


def verdicts(pipeline: Pipeline) -> list[Verdict]:
    """Return everything that monitor has said."""
    return [decode_verdict(r.value or b"") for r in pipeline.read(pipeline.topics.verdicts)]


def differences(pipeline: Pipeline, spawn: Spawn, *options: str) -> dict[str, Any]:
    """Return what `fairstream verify` finds."""
    file = pipeline.file.parent / "verify.json"
    child = spawn(pipeline.command("verify", "--json", str(file), *options), name="verify")
    child.wait(WAIT_S)
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def test_a_new_window_and_a_new_rule_leave_the_others_alone(pipeline: Pipeline, spawn: Spawn) -> None:
    """Old rules say what they would have said; the new one begins after the change; all windows are exact."""
    events = traffic(21, start_ms())
    half = len(events) // 2
    write(pipeline, events[:half])
    children = [pipeline.start(role) for role in ("aggregate", "monitor", "notify")]
    pipeline.wait_at_end(children[0], half)
    wait_told(pipeline, children)
    before = verdicts(pipeline)
    for child in children:
        child.stop()
    old = pipeline.config
    more = {"name": "second", "metric": "impression_share", "window": "5m"}
    change(
        pipeline,
        windows=[{"length": "1m", "slide": "10s"}, {"length": "5m", "slide": "30s"}],
        rules=[*RULES, RULES[0] | more],
    )
    write(pipeline, events[half:])
    children = [pipeline.start(role) for role in ("aggregate", "monitor", "notify")]
    pipeline.wait_at_end(children[0], 1)
    wait_told(pipeline, children)

    found = verdicts(pipeline)
    calm = {key_of(v): v for v in calm_verdicts(old, read_log(pipeline), 2)}
    assert {key_of(v): v for v in found if v.rule != "second"} == calm
    new_ends = [v.pane_end_ms for v in found if v.rule == "second"]
    assert min(new_ends) > max(v.pane_end_ms for v in before) - 60_000
    assert max(new_ends) > max(v.pane_end_ms for v in found) - 60_000
    report = differences(pipeline, spawn)
    assert (report["differences"], report["windows"]["compared"]) == (0, 8)


def with_hair(events: Events) -> Events:
    """Return the same impressions with one more attribute of each item, and engagements alike."""
    changed = []
    for kind, partition, data in events:
        record = json.loads(data)
        for attributes in [item["attrs"] for item in record.get("items", [])] or [record["attrs"]]:
            attributes["hair"] = "long" if attributes["skin_tone"] in "12" else "short"
        changed.append((kind, partition, json.dumps(record).encode()))
    return changed


def test_a_new_attribute_starts_anew_and_mixes_nothing(pipeline: Pipeline, spawn: Spawn) -> None:
    """Monitor refuses snapshots of the old meaning until aggregate has changed too; the alert lives on."""
    events = traffic(22, start_ms())
    half = len(events) // 2  # tone 3 is gone, and fires
    write(pipeline, events[:half])
    aggregate, monitor, notify = (pipeline.start(role) for role in ("aggregate", "monitor", "notify"))
    pipeline.wait_at_end(aggregate, half)
    wait_told(pipeline, [aggregate, monitor, notify])
    for child in (monitor, notify):
        child.stop()
    last_ms = max(v.pane_end_ms for v in verdicts(pipeline))
    attributes: dict[str, Any] = {"viewer": {"gender": {}}, "item": {"skin_tone": {}, "hair": {}}}
    change(pipeline, attributes=attributes, dimensions=["item.hair"])
    monitor, notify = pipeline.start("monitor"), pipeline.start("notify")

    def refused() -> bool:
        status = pipeline.status("monitor")
        return status is not None and status["records"].get("other_configuration", 0) > 0

    wait_for(refused, WAIT_S, "the old snapshots to be refused", watch=[aggregate, monitor])
    assert max(v.pane_end_ms for v in verdicts(pipeline)) == last_ms
    aggregate.stop()
    write(pipeline, with_hair(events[half:]))
    aggregate = pipeline.start("aggregate")
    pipeline.wait_at_end(aggregate, 1)
    wait_told(pipeline, [aggregate, monitor, notify])

    ends = sorted({v.pane_end_ms for v in verdicts(pipeline) if v.rule == "tone-exposure"})
    assert ends == list(range(ends[0], ends[-1] + 1, PANE_MS)), "every pane has its verdict"
    said = [(*v.series, v.pane_end_ms) for v in verdicts(pipeline)]
    assert len(set(said)) == len(said)
    start = datetime.fromtimestamp(last_ms / 1000, UTC).isoformat()
    report = differences(pipeline, spawn, "--from", start)
    assert report["differences"] == 0
    assert report["panes"]["compared"] > 100
    assert report["records_left_out"]["other_configuration"] > 0
    history = [decode_event(r.value or b"") for r in pipeline.read(pipeline.topics.alerts)]
    of_three = [e.state for e in history if (e.rule, e.slice_) == ("tone-exposure", "3")]
    assert of_three == [EventState.PENDING, EventState.FIRING, EventState.RESOLVED]
