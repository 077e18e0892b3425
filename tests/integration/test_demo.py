from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from streams.embedded import EmbeddedBrokerError, broker_binary
from streams.replay import SWITCH_MS
from tests.conftest import Spawn

COLLAPSED = {"84c523", "bf9100", "31a4dc", "ab5678"}
"""Slices whose share in the bts week is at most half of that in the random week (the data set's README)."""
RISEN = {"9a2a41", "c605b4"}


def test_the_demo_is_silent_on_random_and_fires_on_what_truly_changed(tmp_path: Path, spawn: Spawn) -> None:
    """The whole pipeline on the embedded broker, replayed in 15 seconds: exit 0, and the right alerts."""
    try:
        broker_binary()
    except EmbeddedBrokerError as missing:
        pytest.skip(str(missing))
    summary_file, picture = tmp_path / "summary.json", tmp_path / "view.svg"
    options = ["--seconds", "15", "--summary", str(summary_file), "--screenshot", str(picture)]
    demo = spawn([sys.executable, "-m", "streams", "demo", *options], name="demo")
    assert demo.wait(120.0) == 0, demo.describe()

    summary = json.loads(summary_file.read_text(encoding="utf-8"))
    assert summary["events"] == {"read": 20_080, "accepted": 20_080, "replayed": 0, "rejected": {}}
    fired = [alert for alert in summary["alerts"] if alert["fired_ms"] is not None]
    assert all(alert["fired_ms"] > SWITCH_MS for alert in fired), "an alert in the random week"
    paging = [alert for alert in fired if alert["rule"] == "exposure-share" and alert["state"] == "firing"]
    firing = {(alert["slice"], alert["direction"]) for alert in paging}
    assert {(slice_, "low") for slice_ in COLLAPSED} <= firing
    first: dict[str, dict[str, object]] = {}
    for alert in sorted(fired, key=lambda alert: alert["fired_ms"]):
        first.setdefault(alert["slice"], alert)
    for slices, direction in ((COLLAPSED, "low"), (RISEN, "high")):
        for slice_ in slices:
            assert first[slice_]["direction"] == direction
            assert int(str(first[slice_]["fired_ms"])) - SWITCH_MS < 36 * 3_600_000
    told = demo.output()
    assert "no alert fired" in told
    assert "has stopped everything it started" in told
    assert picture.read_text(encoding="utf-8").startswith("<svg")
