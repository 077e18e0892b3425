"""``fairstream verify`` on windows: what a monitor holds against the recount, rankings included."""

from __future__ import annotations

import json
from typing import Any

import pytest

from monitor.config import parse_config
from monitor.store import MemoryStore
from monitor.watch import SurfaceWatch
from streams.monitor import held_window
from streams.verify.compare import Report, compare_windows
from streams.verify.recount import LogRecord
from streams.verify.tally import Tally
from tests.support.core import Listener, told_by

T = 1_700_000_000_000

CONFIG = parse_config("""\
surfaces: [home]
windows: [{length: 1m, slide: 10s}]
attributes: {item: {tone: {values: [a, b]}}, viewer: {gender: {}}}
time: {pane: 10s, allowed_lateness: 0s}
engagement: {actions: [save], attribution_window: 10s, pane: 10s}
dimensions: [viewer.gender, item.tone]
limits: {buckets: 4}
rankings: [{dimension: item.tone, k: 2}]
""")


def _log() -> list[LogRecord]:
    """Return impressions and engagements of seven viewers, and a last one of each that closes the panes."""
    log = []
    for number, ts_ms in enumerate([T, T, T + 1, T + 2, T + 3, T + 4, T + 60_000]):
        viewer = {"viewer_id": f"u{number}", "viewer": {"gender": "fm"[number % 2]}}
        about = {"ts": ts_ms, "request_id": "r", "surface": "home", **viewer}
        items = [{"id": "p", "attrs": {"tone": tone}} for tone in ("aab", "ab", "b?", "?")[number % 4]]
        shown = about | {"items": items}
        saved = about | {"impression_ts": ts_ms, "item_id": "p", "action": "save", "attrs": {"tone": "a"}}
        for kind, event in (("impressions", shown), ("engagements", saved)):
            log.append(LogRecord(kind, 0, number, -1, json.dumps(event).encode()))
    return log


@pytest.fixture
def windows() -> list[dict[str, Any]]:
    """Return the windows of a monitor that followed the log, as its page has them."""
    monitor = Listener(SurfaceWatch(CONFIG, "home", MemoryStore()), CONFIG)
    for told in told_by(CONFIG, _log(), [], 1):
        monitor.hear(told)
    [view] = monitor.watch.panes.views
    held = [held_window(monitor.watch, view, w) for w in (view.closed, view.matured) if w is not None]
    found: list[dict[str, Any]] = json.loads(json.dumps(held))
    return found


def _differences(windows: list[dict[str, Any]]) -> int:
    report = Report()
    compare_windows(report, CONFIG, Tally(CONFIG, _log()), windows, set())
    assert report.counts["windows_compared"] == 6
    return len(report.differences)


def test_windows_with_rankings_equal_the_recount(windows: list[dict[str, Any]]) -> None:
    """In all dimensions, the one of all cells too, closed and matured."""
    assert [set(w["dimensions"]) for w in windows] == [{"viewer.gender", "item.tone", "*"}] * 2
    assert _differences(windows) == 0


@pytest.mark.parametrize("place", [0, 4, 5, 8])
def test_any_sum_that_is_not_the_recount_is_told(windows: list[dict[str, Any]], place: int) -> None:
    """Of impressions and of rankings (from place 4), in every window."""
    for window in windows:
        window["dimensions"]["*"][""][0][place] += 1
    assert _differences(windows) == 2


def test_engagements_are_held_against_the_recount_when_they_are_final(windows: list[dict[str, Any]]) -> None:
    """Until they have matured, more may come."""
    for window in windows:
        window["dimensions"]["*"][""][0][3] += 1
    assert _differences(windows) == 1
