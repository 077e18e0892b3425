"""One viewer counts for so much in a session and no more."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from monitor.config import Config, parse_config
from monitor.partition import Outcome, SourcePartition
from monitor.snapshots import Kind, is_partial
from streams.verify.compare import sums_of
from streams.verify.recount import LogRecord
from tests.support.core import batch_of, new_decoder
from tests.support.events import engagement, impression

START_MS = 1_700_000_000_000 // 3_600_000 * 3_600_000
MINUTE_MS = 60_000


def a_config(cap: str = "limits: {viewer_cap: {contributions: 3, per: 30m}}") -> Config:
    """Return a configuration of one attribute of items and two actions."""
    return parse_config(
        f"""\
surfaces: [home]
windows: [{{length: 1h, slide: 1m}}]
time: {{pane: 10s, allowed_lateness: 10m}}
attributes: {{item: {{skin_tone: {{}}}}}}
engagement: {{actions: [save, click], attribution_window: 30m, pane: 1m}}
{cap}
"""
    )


def read(
    config: Config, values: list[bytes], kind: Kind = Kind.IMPRESSIONS
) -> tuple[Outcome, dict[str, int]]:
    """Return what became of a log, and the first non-zero measure of each tone."""
    state = SourcePartition(config, kind, new_decoder(config, kind), 0)
    outcome = state.read(batch_of([LogRecord(kind, 0, i, -1, value) for i, value in enumerate(values)]))
    found: dict[str, int] = {}
    for snapshots in state.take_snapshots().values():
        for ((tone,), _), amounts in sums_of(config, kind, snapshots).items():
            found[tone] = found.get(tone, 0) + next(amount for amount in amounts if amount)
    return outcome, found


def test_a_request_counts_as_a_whole_or_not_at_all() -> None:
    """With 2 of 3 used up a request of two items counts; then nothing does until the next session."""
    log = [impression(START_MS + i, tones=("4", "5")) for i in range(4)]
    later = impression(START_MS + 30 * MINUTE_MS, tones=("6",))
    outcome, found = read(a_config(), [*log, later])
    assert found == {"4": 2, "5": 2, "6": 1}
    assert (outcome.accepted, outcome.items, outcome.capped) == (5, 5, 4)


def test_each_viewer_has_a_count_of_its_own() -> None:
    """Others are not touched by somebody who clicks all day."""
    busy = [impression(START_MS + i, "u-1") for i in range(50)]
    others = [impression(START_MS + i, f"u-{i}", tones=("5",)) for i in range(2, 12)]
    assert read(a_config(), busy + others)[1] == {"4": 3, "5": 10}


def test_engagements_count_for_each_action() -> None:
    """Saves use up nothing of the clicks, actions that nobody counts use up nothing."""
    log = [
        engagement(START_MS + i, START_MS, action=action)
        for i in range(5)
        for action in ("save", "click", "hide")
    ]
    outcome, found = read(a_config(), log, Kind.ENGAGEMENTS)
    assert (outcome.accepted, outcome.items, outcome.capped, found) == (15, 6, 4, {"4": 3})


def test_the_session_of_an_engagement_is_that_of_its_impression() -> None:
    """Whatever the time of the click."""
    shown = [START_MS + 29 * MINUTE_MS] * 4 + [START_MS + 30 * MINUTE_MS] * 2
    log = [engagement(START_MS + 31 * MINUTE_MS + i, shown_ms) for i, shown_ms in enumerate(shown)]
    assert read(a_config(), log, Kind.ENGAGEMENTS)[0].capped == 1


def test_the_commit_waits_for_the_session() -> None:
    """The first event of a session is read again until all its panes have closed."""
    config = a_config()
    state = SourcePartition(config, Kind.IMPRESSIONS, new_decoder(config, Kind.IMPRESSIONS), 0)
    for minute in range(0, 40, 2):
        value = impression(START_MS + minute * MINUTE_MS)
        state.read(batch_of([LogRecord("impressions", 0, minute, -1, value)]))
        state.take_snapshots()
        assert state.commit_point()[0] == 0
    state.read(batch_of([LogRecord("impressions", 0, 40, -1, impression(START_MS + 40 * MINUTE_MS))]))
    state.take_snapshots()
    assert state.commit_point()[0] == 30


def test_who_begins_within_a_session_is_partial() -> None:
    """Somebody moved the group's offsets: what viewers had used up before is not known."""
    config = a_config()
    log = [LogRecord("impressions", 0, i, -1, impression(START_MS + i * MINUTE_MS)) for i in range(3)]
    offered = []
    for start in (0, 1):
        state = SourcePartition(config, Kind.IMPRESSIONS, new_decoder(config, Kind.IMPRESSIONS), start)
        state.read(batch_of(log[start:]))
        offered.append({s.pane_start_ms: s for s in state.take_snapshots()["home"]})
    last = START_MS + 2 * MINUTE_MS
    assert is_partial(offered[0][last], offered[1][last])


@pytest.mark.parametrize(("cap", "least", "most"), [("", 0.6, 1.0), (None, 0.48, 0.52)])
def test_bots_do_not_make_a_disparity(cap: str | None, least: float, most: float) -> None:
    """Ten among 2,000 viewers, who look at one tone only, have a quarter of the impressions."""
    chance = Random(3)
    viewers = [f"u-{chance.randrange(2_000)}" for _ in range(3_000)]
    log = [impression(START_MS, viewer, tones=(chance.choice("45"),)) for viewer in viewers]
    log += [impression(START_MS, f"bot-{i % 10}") for i in range(1_000)]
    chance.shuffle(log)
    counted = read(a_config() if cap is None else a_config(cap), log)[1]
    assert least < counted["4"] / np.sum([*counted.values()]) < most
