"""Verdicts at stated times, and what the alert does: tests of life cycles read as timelines."""

from __future__ import annotations

from typing import Any

from alerts.events import AlertEvent, EventReason, EventState, alert_id
from alerts.lifecycle import advance
from alerts.state import AlertState, Phase
from monitor.config import Compare, Duration, Metric, Rule, Severity, Tolerance
from monitor.verdicts import Direction, Estimate, Outcome, ToleranceBand, Verdict

START_MS = 1_700_000_000_000
"""Second 0 of a timeline."""
STEP_S = 10
"""The slide of its window."""
SERIES = ("skin-tone", "home", "item.skin_tone", "4")


def a_rule(*, hold_s: int = 0, clear_for_s: int = 0, **fields: Any) -> Rule:
    """Return a rule on the exposure share of each skin tone, over windows of five minutes."""
    chosen = {
        "name": "skin-tone",
        "metric": Metric.EXPOSURE_SHARE,
        "dimension": "item.skin_tone",
        "window": "5m",
        "compare": Compare.REFERENCE,
        "tolerance": Tolerance(low=0.8, high=1.25),
        **fields,
    }
    return Rule(hold=Duration(hold_s * 1000), clear_for=Duration(clear_for_s * 1000), **chosen)


def a_verdict(outcome: Outcome, at_s: int = 0, value: float | None = None, **fields: Any) -> Verdict:
    """Return a verdict of that rule on slice 4, `at_s` seconds into a timeline."""
    estimate = Estimate(support=12)
    if value is not None:
        estimate = Estimate(value=value, lower=value * 0.9, upper=value * 1.1, support=1_000)
    direction = Direction.NONE
    if outcome is Outcome.BREACH and value is not None:
        direction = Direction.LOW if value < 1 else Direction.HIGH
    rule, surface, dimension, slice_ = SERIES
    chosen = {
        "rule": rule,
        "surface": surface,
        "dimension": dimension,
        "slice_": slice_,
        "metric": "exposure_share",
        "window": "5m",
        "tolerance": ToleranceBand(low=0.8, high=1.25),
        "direction": direction,
        "detector": "tolerance",
        **fields,
    }
    return Verdict(verdict=outcome, pane_end_ms=START_MS + at_s * 1000, estimate=estimate, **chosen)


def breach(value: float = 0.5, **fields: Any) -> Verdict:
    """Return a breach at a disparity; on the low side if that is below 1."""
    return a_verdict(Outcome.BREACH, value=value, **fields)


def ok(value: float = 1.0, **fields: Any) -> Verdict:
    """Return an `ok` at a disparity."""
    return a_verdict(Outcome.OK, value=value, **fields)


def insufficient(**fields: Any) -> Verdict:
    """Return an `insufficient`."""
    return a_verdict(Outcome.INSUFFICIENT, reason="12 of 100 impressions", **fields)


def an_event(
    state: EventState,
    at_s: int = 0,
    *,
    since_s: int = 0,
    slice_: str = "4",
    reason: EventReason | None = None,
    severity: Severity = Severity.WARNING,
) -> AlertEvent:
    """Return an event of the episode that began `since_s` seconds into a timeline."""
    usual = {
        EventState.PENDING: EventReason.BREACH_STARTED,
        EventState.FIRING: EventReason.BREACH_HELD,
        EventState.RESOLVED: EventReason.CLEARED,
    }
    series = (*SERIES[:3], slice_)
    since_ms = START_MS + since_s * 1000
    return AlertEvent(
        id=alert_id(series, since_ms),
        rule=series[0],
        severity=severity,
        surface=series[1],
        dimension=series[2],
        slice_=slice_,
        state=state,
        reason=reason or usual[state],
        at_ms=START_MS + at_s * 1000,
        since_ms=since_ms,
        verdict=a_verdict(Outcome.BREACH, at_s, 0.5, slice_=slice_),
        summary=f"item.skin_tone={slice_} on home: exposure share 8.1 %",
        runbook_url="https://runbooks.example/skin-tone",
        dashboard_url="https://grafana.example/d/fairness",
        labels={"team": "ranking"},
    )


class Timeline:
    """Feeds verdicts to one alert, each at its second, and keeps the events."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.state: AlertState | None = None
        self.events: list[AlertEvent] = []

    def at(self, at_s: int, verdict: Verdict) -> Timeline:
        """Give a verdict at a second."""
        outcome, value = verdict.verdict, verdict.estimate.value
        timed = a_verdict(outcome, at_s, value, direction=verdict.direction, reason=verdict.reason)
        self.state, event = advance(self.state, timed, self.rule, dashboard_url="https://grafana.example")
        if event is not None:
            self.events.append(event)
        return self

    def between(self, from_s: int, to_s: int, verdict: Verdict, every_s: int = STEP_S) -> Timeline:
        """Give the verdict at every step from the first second on, the last one left out."""
        for at_s in range(from_s, to_s, every_s):
            self.at(at_s, verdict)
        return self

    @property
    def known(self) -> AlertState:
        """The state, after at least one verdict."""
        assert self.state is not None
        return self.state

    @property
    def phase(self) -> Phase:
        """The phase, after at least one verdict."""
        return self.known.phase

    @property
    def changes(self) -> list[tuple[int, str, str]]:
        """Second, state and reason of every event."""
        return [
            ((event.at_ms - START_MS) // 1000, event.state.value, event.reason.value) for event in self.events
        ]
