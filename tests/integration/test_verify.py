"""`fairstream verify` agrees with what fairstream holds, and finds exactly what was tampered with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml

from monitor.snapshots import PanesRecord, SourceSnapshots, decode_record, encode_record
from streams.topics import create_topics
from tests.conftest import Spawn
from tests.integration.test_pipeline import start_ms, traffic, write
from tests.support.pipeline import WAIT_S, Pipeline
from tests.support.processes import Child
from tests.support.wait import wait_for


@pytest.fixture
def pipeline(bootstrap: str, unique: str, tmp_path: Path, spawn: Spawn) -> Pipeline:
    """Return a pipeline of half an hour of traffic, some of it bad, that aggregate and monitor have read."""
    shown = ["item.skin_tone", "viewer.gender"]
    found = Pipeline(bootstrap, unique, tmp_path, spawn, dimensions=shown, candidates=True)
    events = traffic(11, start_ms())
    write(found, events)
    late = [events[0][2]] * 3
    found.write(found.topics.impressions, [b"{", None, b'{"ts": 1}', *late])
    aggregate, monitor = found.start("aggregate"), found.start("monitor")
    found.wait_at_end(aggregate, len(events) + 6)
    wait_for(lambda: told_all(found), WAIT_S, "monitor to be told", watch=[aggregate, monitor])
    return found


def told_all(pipeline: Pipeline) -> bool:
    """Whether monitor knows of everything that aggregate has read."""
    ours, theirs = pipeline.status("monitor"), pipeline.status("aggregate")
    if ours is None or theirs is None:
        return False
    return all(ours["progress"].get(p) == theirs["positions"] for p in ("0", "1"))


def verify(pipeline: Pipeline, spawn: Spawn, *options: str) -> tuple[int, dict[str, Any], Child]:
    """Run the command: its exit code, its figures, and the process."""
    file = pipeline.file.parent / "verify.json"
    child = spawn(pipeline.command("verify", "--json", str(file), *options), name="verify")
    code = child.wait(WAIT_S)
    return code, json.loads(file.read_text(encoding="utf-8")), child


def test_everything_agrees(pipeline: Pipeline, spawn: Spawn) -> None:
    """Panes, windows in every dimension and dead letters, to the last integer; or who did not answer."""
    code, found, child = verify(pipeline, spawn)
    assert code == 0, child.describe()
    assert found["differences"] == 0
    assert found["panes"]["compared"] > 600
    assert found["windows"] == {"compared": 4, "gone": 0}
    assert found["events"]["rejected"] == {"malformed": 2, "invalid": 1, "late": 3}
    assert found["dead_letters"] == {"compared": 6, "repeated": 0, "gone": 0}
    assert found["records_left_out"] == {}
    assert found["events"]["read"] == found["events"]["accepted"] + 6
    assert "differences   0" in child.output()

    code, part, _ = verify(pipeline, spawn, "--panes-only", "--to", "2020-01-01T00:00:00Z")
    assert (code, part["panes"]["compared"], part["windows"]["compared"]) == (0, 0, 0)
    assert part["events"] == found["events"], "what is late follows from what came before the stretch"

    code, found, child = verify(pipeline, spawn, "--monitor", "http://127.0.0.1:9")
    assert (code, found["differences"], found["windows"]["compared"]) == (69, 0, 0)
    assert "no monitor answers" in child.output()


def test_what_was_tampered_with_is_found(pipeline: Pipeline, spawn: Spawn) -> None:
    """One impression more than the log has, in one pane; then also a topic of dead letters that is empty."""
    topic = pipeline.topics.panes
    record = next(
        found
        for found in (decode_record(r.value or b"") for r in pipeline.read(topic))
        if isinstance(found, PanesRecord) and found.kind == "impressions"
    )
    partition, snapshot = next(record.each())
    values = np.frombuffer(snapshot.values, dtype="<i8").copy()
    values[0] += 1
    forged = msgspec.structs.replace(snapshot, values=values.tobytes(), end_offset=1 << 40)
    forgery = msgspec.structs.replace(record, sources=[SourceSnapshots(partition, [forged])])
    strange = msgspec.structs.replace(record, meaning="of another configuration")
    pipeline.write(topic, [encode_record(forgery), encode_record(strange), b"{"], key=b"home")
    code, found, child = verify(pipeline, spawn, "--panes-only")
    assert code == 1
    assert {detail["what"] for detail in found["details"]} == {"pane"}
    assert all(str(snapshot.pane_start_ms) in detail["where"] for detail in found["details"])
    assert found["records_left_out"] == {"unreadable": 1, "other_configuration": 1}
    assert "skin" not in child.output(), "no demographic value is printed"
    forged_panes = found["differences"]

    data = yaml.safe_load(pipeline.file.read_text(encoding="utf-8"))
    data["kafka"]["topics"]["dead_letter"] += "-other"
    pipeline.file.write_text(yaml.safe_dump(data), encoding="utf-8")
    create_topics(pipeline.reload())
    code, found, _ = verify(pipeline, spawn, "--panes-only")
    assert (code, found["differences"]) == (1, forged_panes + 6)
    assert {detail["what"] for detail in found["details"]} == {"pane", "dead letter"}


def test_a_cap_on_viewers_holds_through_a_kill(
    bootstrap: str, unique: str, tmp_path: Path, spawn: Spawn, kafka_only: None
) -> None:
    """Who takes over in the middle of a session counts no viewer anew; each item is counted once."""
    cap = {"contributions": 6, "per": "10m"}
    limits = {"suppress_below": 1, "min_viewers": 0, "viewer_cap": cap}
    pipeline = Pipeline(bootstrap, unique, tmp_path, spawn, limits=limits)
    events = traffic(12, start_ms() // 600_000 * 600_000)
    half = len(events) // 2
    counts: list[dict[str, Any]] = []
    for part in (events[:half], events[half:]):
        write(pipeline, part)
        aggregate = pipeline.start("aggregate")
        status = pipeline.wait_at_end(aggregate, len(part))
        counts.append(status["topics"][pipeline.topics.impressions])
        aggregate.kill()
    items = 4 * sum(kind == "impressions" for kind, _, _ in events)
    assert sum(each["contributions"] + each["capped"] for each in counts) == items
    assert min(each["capped"] for each in counts) > items // 5
    assert counts[1]["replayed"] > 0
    code, found, child = verify(pipeline, spawn, "--panes-only")
    assert (code, found["differences"]) == (0, 0), child.describe()
    assert found["panes"]["compared"] > 300
