"""The life cycle of an alert, in event time: inactive, pending, firing, and back.

=========  ==========================================  =====================================================
phase      verdict                                     then
=========  ==========================================  =====================================================
inactive   breach                                      pending; firing at once when the rule's ``for`` is 0
pending    breach, ``for`` after the first             firing
pending    breach on the other side of parity          pending; ``for`` starts again
pending    breach after a gap in the data              pending; ``for`` starts again
pending    ok                                          resolved: ``never_fired``
pending    insufficient for longer than ``for``        resolved: ``data_gone``
firing     ok, within the clear threshold              resolved, once that has lasted ``clear_for``
firing     ok, but not within the clear threshold      still firing; ``clear_for`` starts again
firing     breach on the other side, lasting ``for``   firing: ``direction_changed`` (the same alert)
any        insufficient                                otherwise as before: it neither breaches nor clears
=========  ==========================================  =====================================================

Why `insufficient` holds a firing alert, however long: nobody knows that the trouble is over, and an alert
that vanishes with its data looks like an all-clear. A pending alert has called nobody yet, so it is dropped
rather than fired on data that is gone.

A gap is a stretch between two verdicts longer than both ``for`` and the rule's window: part of the time was
then seen by neither.
"""

from collections.abc import Collection

from msgspec.structs import replace

from alerts.events import AlertEvent, EventReason, EventState, alert_id
from alerts.state import AlertState, Phase, Run
from alerts.summary import summarise, summarise_end
from monitor.config import DetectorKind, Rule, parse_duration
from monitor.verdicts import Direction, Outcome, Verdict

_CLEARS_ITSELF = frozenset(DetectorKind) - {DetectorKind.TOLERANCE}
"""Detectors that remember a breach and end it by evidence of their own."""

_EVENT_STATES = {
    Phase.INACTIVE: EventState.RESOLVED,
    Phase.PENDING: EventState.PENDING,
    Phase.FIRING: EventState.FIRING,
}

_Step = tuple[AlertState, EventReason | None]


def advance(
    state: AlertState | None, verdict: Verdict, rule: Rule, *, dashboard_url: str = ""
) -> tuple[AlertState, AlertEvent | None]:
    """The state after a verdict, and the event if the alert changed.

    A verdict that is not newer than the last one changes nothing: it was delivered before.
    ``state`` is None for a series that has not been seen.
    """
    if state is None:
        state = AlertState.unseen(verdict)
    elif verdict.pane_end_ms <= state.last_pane_end_ms:
        return state, None
    state = replace(state, last_pane_end_ms=verdict.pane_end_ms, verdict=verdict)
    since_ms = state.since_ms
    match state.phase:
        case Phase.INACTIVE:
            state, reason = _from_inactive(state, verdict, rule)
            since_ms = state.since_ms
        case Phase.PENDING:
            state, reason = _from_pending(state, verdict, rule)
        case Phase.FIRING:
            state, reason = _from_firing(state, verdict, rule)
    if reason is None:
        return state, None
    event = AlertEvent(
        id=alert_id(state.series, since_ms),
        rule=rule.name,
        severity=rule.severity,
        surface=state.surface,
        dimension=state.dimension,
        slice_=state.slice_,
        state=_EVENT_STATES[state.phase],
        reason=reason,
        at_ms=verdict.pane_end_ms,
        since_ms=since_ms,
        verdict=verdict,
        summary=summarise(verdict, rule, reason),
        runbook_url=rule.runbook_url,
        dashboard_url=dashboard_url,
        labels=rule.labels,
    )
    return state.emitted(event), event


def watches(rule: Rule | None, surfaces: Collection[str], verdict: Verdict) -> EventReason | None:
    """None if the rule still judges the verdict's series, in the same way; else why not.

    ``rule`` is the configured one of the verdict's rule name, None if there is none.
    """
    if (
        rule is None
        or rule.dimension != verdict.dimension
        or verdict.surface not in (rule.surfaces or surfaces)
        or (rule.slices and verdict.slice_ not in rule.slices)
    ):
        return EventReason.RULE_REMOVED
    if rule.metric != verdict.metric or rule.window != verdict.window:
        return EventReason.RULE_CHANGED
    return None


def retire(
    state: AlertState, rule: Rule | None, surfaces: Collection[str]
) -> tuple[AlertState, AlertEvent | None]:
    """End an alert whose rule is gone, or says something else than when the alert began.

    To be called for every state when a configuration takes effect; ``rule`` is the configured one of
    the state's rule name. A changed severity or label also ends the alert: they are its identity in
    Alertmanager, and what was told to a sink has to be taken back from that sink. The event is that of the
    last verdict's time, so that calling this again after a crash gives the same event.
    """
    told = state.event
    if state.phase is Phase.INACTIVE or told is None:
        return state, None
    reason = watches(rule, surfaces, state.verdict)
    if reason is None and rule is not None and (rule.severity, rule.labels) != (told.severity, told.labels):
        reason = EventReason.RULE_CHANGED
    if reason is None:
        return state, None
    event = replace(
        told,
        state=EventState.RESOLVED,
        reason=reason if state.phase is Phase.FIRING else EventReason.NEVER_FIRED,
        at_ms=state.last_pane_end_ms,
        verdict=state.verdict,
        summary=summarise_end(told.summary, reason),
    )
    return state.ended().emitted(event), event


def _from_inactive(state: AlertState, verdict: Verdict, rule: Rule) -> _Step:
    if verdict.verdict is not Outcome.BREACH:
        return state, None
    now_ms = verdict.pane_end_ms
    state = replace(
        state, phase=Phase.PENDING, since_ms=now_ms, direction=verdict.direction, breach=Run.at(now_ms)
    )
    return _fired(state) if rule.hold <= 0 else (state, EventReason.BREACH_STARTED)


def _from_pending(state: AlertState, verdict: Verdict, rule: Rule) -> _Step:
    now_ms = verdict.pane_end_ms
    last_ms = state.breach.until_ms if state.breach else state.since_ms
    if verdict.verdict is Outcome.OK:
        return state.ended(), EventReason.NEVER_FIRED
    if verdict.verdict is Outcome.INSUFFICIENT:
        gone = now_ms - last_ms > rule.hold
        return (state.ended(), EventReason.DATA_GONE) if gone else (state, None)
    turned = _opposite(state.direction, verdict.direction)
    run = Run.extended(None if turned else state.breach, now_ms, _patience_ms(rule, rule.hold))
    state = replace(state, breach=run, direction=_side(state.direction, verdict.direction))
    return _fired(state) if run.length_ms >= rule.hold else (state, None)


def _from_firing(state: AlertState, verdict: Verdict, rule: Rule) -> _Step:
    match verdict.verdict:
        case Outcome.INSUFFICIENT:
            return state, None
        case Outcome.BREACH:
            return _still_breached(state, verdict, rule)
        case Outcome.OK:
            return _perhaps_over(state, verdict, rule)


def _still_breached(state: AlertState, verdict: Verdict, rule: Rule) -> _Step:
    now_ms = verdict.pane_end_ms
    if not _opposite(state.direction, verdict.direction):
        side = _side(state.direction, verdict.direction)
        return replace(state, direction=side, breach=None, clear=None), None
    run = Run.extended(state.breach, now_ms, _patience_ms(rule, rule.hold))
    if run.length_ms < rule.hold:
        return replace(state, breach=run, clear=None), None
    state = replace(state, direction=verdict.direction, breach=None, clear=None)
    return state, EventReason.DIRECTION_CHANGED


def _perhaps_over(state: AlertState, verdict: Verdict, rule: Rule) -> _Step:
    now_ms = verdict.pane_end_ms
    if not _clears(verdict.estimate.value, state.direction, rule):
        return replace(state, breach=None, clear=None), None
    run = Run.extended(state.clear, now_ms, _patience_ms(rule, rule.clear_for))
    if run.length_ms < rule.clear_for:
        return replace(state, breach=None, clear=run), None
    return state.ended(), EventReason.CLEARED


def _fired(state: AlertState) -> _Step:
    return replace(state, phase=Phase.FIRING, breach=None), EventReason.BREACH_HELD


def _clears(value: float | None, direction: Direction, rule: Rule) -> bool:
    """Whether a disparity that is `ok` is also within the clear threshold on the alert's side.

    Without a ``clear_low`` the threshold is ``low``. Where no detector goes by the window's figure, as drift
    detectors and the e-detector do not, the threshold counts only if it is given.
    """
    if value is None:
        return True
    limits = rule.tolerance
    given_only = all(spec.kind in _CLEARS_ITSELF for spec in rule.detectors)
    low = limits.low if limits.clear_low is None and not given_only else limits.clear_low
    high = limits.high if limits.clear_high is None and not given_only else limits.clear_high
    above = direction is Direction.HIGH or low is None or value >= low
    below = direction is Direction.LOW or high is None or value <= high
    return above and below


def _opposite(before: Direction, now: Direction) -> bool:
    """Whether a breach changed sides; one without a side fits either."""
    return Direction.NONE not in {before, now} and before is not now


def _side(before: Direction, now: Direction) -> Direction:
    return before if now is Direction.NONE else now


def _patience_ms(rule: Rule, length_ms: int) -> int:
    """The longest gap between two verdicts across which a finding counts as lasting."""
    return max(length_ms, parse_duration(rule.window))
