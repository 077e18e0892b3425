from __future__ import annotations

from typing import Any

import pytest

from alerts.events import EventReason, EventState, alert_id
from alerts.lifecycle import advance, retire, watches
from alerts.state import Phase
from monitor.config import DetectorKind, DetectorSpec, Severity, Tolerance
from monitor.verdicts import Direction, Verdict
from tests.support.timelines import SERIES, START_MS, Timeline, a_rule, breach, insufficient, ok


def test_a_breach_that_lasts_fires_and_resolves() -> None:
    """The whole life: pending at once, firing after `for`, resolved after `clear_for`."""
    line = Timeline(a_rule(hold_s=60, clear_for_s=30))
    line.between(0, 100, ok()).between(100, 200, breach()).between(200, 260, ok())
    assert line.changes == [
        (100, "pending", "breach_started"),
        (160, "firing", "breach_held"),
        (230, "resolved", "cleared"),
    ]
    assert len({event.id for event in line.events}) == 1
    assert {event.since_ms for event in line.events} == {START_MS + 100_000}


def test_without_for_the_first_breach_fires() -> None:
    """With `for: 0s` there is no pending event."""
    line = Timeline(a_rule()).at(0, breach()).at(10, ok())
    assert line.changes == [(0, "firing", "breach_held"), (10, "resolved", "cleared")]


def test_a_short_breach_never_fires() -> None:
    """A pending alert whose breach ends is resolved as `never_fired`, and sinks are not told."""
    line = Timeline(a_rule(hold_s=60)).between(0, 60, breach()).at(60, ok())
    assert line.changes == [(0, "pending", "breach_started"), (60, "resolved", "never_fired")]
    assert not any(event.tellable for event in line.events)


def test_every_episode_has_its_own_id() -> None:
    """The next breach of the same series is another alert."""
    line = Timeline(a_rule()).at(0, breach()).at(10, ok()).at(20, breach()).at(30, ok())
    first, _, second, _ = [event.id for event in line.events]
    assert first == alert_id(SERIES, START_MS)
    assert second == alert_id(SERIES, START_MS + 20_000)


def test_hysteresis_keeps_a_low_alert_until_its_clear_threshold() -> None:
    """An `ok` below `clear_low` neither clears nor lets `clear_for` run."""
    rule = a_rule(clear_for_s=20, tolerance=Tolerance(low=0.8, clear_low=0.9))
    line = Timeline(rule).at(0, breach(0.5)).between(10, 100, ok(0.85))
    assert line.phase is Phase.FIRING
    line.at(100, ok(0.95)).at(110, ok(0.89)).between(120, 150, ok(0.9))
    assert line.changes[1:] == [(140, "resolved", "cleared")]


def test_hysteresis_keeps_a_high_alert_until_its_clear_threshold() -> None:
    """On the high side the threshold is `clear_high`, and `clear_low` has no say."""
    rule = a_rule(tolerance=Tolerance(low=0.8, high=1.25, clear_low=0.99, clear_high=1.1))
    line = Timeline(rule).at(0, breach(1.5)).at(10, ok(1.2)).at(20, ok(0.85))
    assert line.changes[1:] == [(20, "resolved", "cleared")]


def test_an_ok_outside_the_tolerance_does_not_clear() -> None:
    """Without `clear_low`, `low` is the threshold: an interval that straddles it is no recovery."""
    line = Timeline(a_rule()).at(0, breach(0.5)).at(10, ok(0.79)).at(20, ok(0.8))
    assert line.changes[1:] == [(20, "resolved", "cleared")]


@pytest.mark.parametrize("kind", [kind for kind in DetectorKind if kind is not DetectorKind.TOLERANCE])
def test_a_detector_with_a_memory_clears_when_it_says_so(kind: DetectorKind) -> None:
    """Drift is change, an e-detector has evidence of its own: the window's level does not keep the alert."""
    rule = a_rule(detectors=[DetectorSpec(kind=kind)])
    line = Timeline(rule).at(0, breach(0.5)).at(10, ok(0.6))
    assert line.changes[1:] == [(10, "resolved", "cleared")]


def test_a_clear_without_a_side_needs_both_thresholds() -> None:
    """A breach that names no direction clears only within both limits."""
    line = Timeline(a_rule()).at(0, breach(0.5, direction=Direction.NONE)).at(10, ok(0.7)).at(20, ok(1.3))
    assert line.phase is Phase.FIRING
    assert line.at(30, ok(1.0)).phase is Phase.INACTIVE


def test_a_breach_while_clearing_starts_clear_for_again() -> None:
    """`clear_for` has to pass in one piece."""
    line = Timeline(a_rule(clear_for_s=30)).at(0, breach()).between(10, 40, ok()).at(40, breach())
    line.between(50, 80, ok())
    assert line.phase is Phase.FIRING
    assert line.at(80, ok()).phase is Phase.INACTIVE


def test_insufficient_changes_nothing_of_an_inactive_alert() -> None:
    """Too little data is no breach."""
    assert Timeline(a_rule()).between(0, 600, insufficient()).changes == []


def test_insufficient_holds_a_firing_alert() -> None:
    """Nobody knows that the trouble is over, so an alert does not end with its data."""
    line = Timeline(a_rule(hold_s=10)).between(0, 20, breach()).between(20, 90_000, insufficient())
    assert line.phase is Phase.FIRING


def test_insufficient_alone_does_not_complete_clear_for() -> None:
    """An alert on its way out waits for an `ok` that says so."""
    line = Timeline(a_rule(clear_for_s=30)).at(0, breach()).at(10, ok()).between(20, 100, insufficient())
    assert line.phase is Phase.FIRING
    assert line.at(100, ok()).phase is Phase.INACTIVE


def test_a_pending_alert_survives_a_short_lack_of_data() -> None:
    """No longer than `for` without an answer, the breach counts as going on."""
    line = Timeline(a_rule(hold_s=60)).between(0, 30, breach()).between(30, 60, insufficient())
    assert line.at(60, breach()).changes[1:] == [(60, "firing", "breach_held")]


def test_a_pending_alert_whose_data_goes_away_ends() -> None:
    """Longer than `for` without an answer, it is resolved as `data_gone`, untold."""
    line = Timeline(a_rule(hold_s=60)).between(0, 30, breach()).between(30, 120, insufficient())
    assert line.changes[1:] == [(90, "resolved", "data_gone")]
    assert not line.events[-1].tellable


def test_after_a_silent_gap_for_starts_again() -> None:
    """Two breaches further apart than `for` and the window say nothing of the time between."""
    line = Timeline(a_rule(hold_s=60)).at(0, breach()).at(301, breach())
    assert line.phase is Phase.PENDING
    assert line.at(361, breach()).changes[1:] == [(361, "firing", "breach_held")]


def test_a_slide_longer_than_for_is_no_gap() -> None:
    """Verdicts that come every five minutes can still fire after a minute."""
    assert Timeline(a_rule(hold_s=60)).at(0, breach()).at(300, breach()).phase is Phase.FIRING


def test_a_pending_breach_that_changes_sides_starts_for_again() -> None:
    """A disparity that swings from side to side is not one that lasts."""
    line = Timeline(a_rule(hold_s=30)).between(0, 30, breach(0.5)).between(30, 60, breach(2.0))
    assert line.phase is Phase.PENDING
    assert line.at(60, breach(2.0)).changes[1:] == [(60, "firing", "breach_held")]
    assert line.known.direction is Direction.HIGH


def test_a_firing_alert_that_changes_sides_says_so_once() -> None:
    """It stays the same alert, and tells the new side once that has lasted for `for`."""
    line = Timeline(a_rule(hold_s=20)).between(0, 30, breach(0.5)).between(30, 90, breach(2.0))
    assert line.changes[1:] == [(20, "firing", "breach_held"), (50, "firing", "direction_changed")]
    assert len({event.id for event in line.events}) == 1
    line.at(90, ok(1.3)).at(100, ok(1.2))
    assert line.changes[3:] == [(100, "resolved", "cleared")]


def test_a_moment_on_the_other_side_is_not_told() -> None:
    """A swing shorter than `for` changes nothing."""
    line = Timeline(a_rule(hold_s=20)).between(0, 30, breach(0.5)).at(30, breach(2.0)).at(40, breach(0.5))
    line.at(50, breach(2.0)).at(60, breach(2.0))
    assert line.changes[2:] == []


def test_a_swing_to_the_other_side_starts_clear_for_again() -> None:
    """A breach on either side is no recovery."""
    line = Timeline(a_rule(hold_s=20, clear_for_s=30)).between(0, 30, breach(0.5)).between(30, 60, ok())
    line.at(60, breach(2.0)).between(70, 100, ok())
    assert line.phase is Phase.FIRING
    assert line.at(100, ok()).phase is Phase.INACTIVE


def test_an_ok_between_swings_starts_for_again() -> None:
    """Two moments on the other side with an `ok` between them are not one stretch."""
    line = Timeline(a_rule(hold_s=20, clear_for_s=60)).between(0, 30, breach(0.5))
    line.at(30, breach(2.0)).at(40, ok()).at(50, breach(2.0)).at(60, breach(2.0))
    assert line.changes[2:] == []
    assert line.at(70, breach(2.0)).changes[2:] == [(70, "firing", "direction_changed")]


def test_a_verdict_delivered_again_changes_nothing() -> None:
    """One that is not newer than the last gives the very same state and no event."""
    line = Timeline(a_rule(hold_s=20)).between(0, 20, breach())
    before = line.known
    line.at(0, breach()).at(10, ok()).at(10, breach())
    assert line.known is before
    assert len(line.events) == 1


def test_the_same_verdict_gives_the_same_event() -> None:
    """What a crash makes us emit twice is recognisable as the same transition."""
    rule, verdict = a_rule(), breach()
    assert advance(None, verdict, rule) == advance(None, verdict, rule)


def test_an_event_carries_what_the_rule_says() -> None:
    """Severity, labels, runbook and dashboard go with every event."""
    rule = a_rule(severity=Severity.CRITICAL, labels={"team": "ranking"}, runbook_url="https://runbook")
    event = Timeline(rule).at(0, breach()).events[0]
    assert (event.severity, event.labels) == (Severity.CRITICAL, {"team": "ranking"})
    assert (event.runbook_url, event.dashboard_url) == ("https://runbook", "https://grafana.example")


def test_a_firing_alert_of_a_removed_rule_is_resolved() -> None:
    """With reason `rule_removed`, at the time of its last verdict, and only once."""
    line = Timeline(a_rule()).between(0, 30, breach())
    state, event = retire(line.known, None, ["home"])
    assert event is not None
    assert (event.state, event.reason) == (EventState.RESOLVED, EventReason.RULE_REMOVED)
    assert (event.id, event.at_ms) == (line.events[0].id, START_MS + 20_000)
    assert event.tellable
    assert event.summary.endswith("no longer watched by the configuration")
    assert state.phase is Phase.INACTIVE
    assert retire(state, None, ["home"]) == (state, None)


def test_a_pending_alert_of_a_removed_rule_never_fired() -> None:
    """Sinks that have not heard of it are not told of its end."""
    line = Timeline(a_rule(hold_s=60)).at(0, breach())
    _, event = retire(line.known, None, ["home"])
    assert event is not None
    assert event.reason is EventReason.NEVER_FIRED


@pytest.mark.parametrize(
    "changed",
    [
        {"severity": Severity.CRITICAL},
        {"labels": {"team": "search"}},
        {"window": "1h"},
        {"metric": "top_k_share"},
    ],
)
def test_a_changed_rule_ends_its_alerts(changed: dict[str, Any]) -> None:
    """What makes up the identity or the meaning of an alert does not change under way."""
    line = Timeline(a_rule()).at(0, breach())
    _, event = retire(line.known, a_rule(**changed), ["home"])
    assert event is not None
    assert event.reason is EventReason.RULE_CHANGED
    assert event.severity is Severity.WARNING


def test_a_rule_that_says_the_same_keeps_its_alerts() -> None:
    """A new runbook, `for` or tolerance is no reason to end an alert."""
    line = Timeline(a_rule()).at(0, breach())
    rule = a_rule(hold_s=600, runbook_url="https://new", tolerance=Tolerance(low=0.9))
    assert retire(line.known, rule, ["home"]) == (line.known, None)


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({"surfaces": ["search"]}, breach()),
        ({"slices": ["1", "2"]}, breach()),
        ({"dimension": "viewer.gender"}, breach()),
        ({}, breach(surface="ads")),
    ],
)
def test_a_rule_watches_what_it_names(fields: dict[str, Any], verdict: Verdict) -> None:
    """Another surface, slice or dimension is not watched by the rule."""
    assert watches(a_rule(), ["home", "search"], breach()) is None
    assert watches(a_rule(**fields), ["home", "search"], verdict) is EventReason.RULE_REMOVED


def test_the_news_of_a_state_is_what_sinks_are_told() -> None:
    """While a new alert is pending, the end of the one before it is not forgotten."""
    line = Timeline(a_rule(hold_s=10)).between(0, 20, breach()).at(20, ok())
    resolved = line.events[-1]
    assert line.known.news == resolved
    assert line.at(30, breach()).known.news == resolved
    assert line.at(40, ok()).known.news == resolved
    line.between(50, 70, breach())
    assert line.known.news == line.events[-1]
    assert line.known.earlier is None
