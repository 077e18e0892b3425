from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.delivery import OnceMailbox, RepeatingMailbox
from alerts.events import AlertEvent, EventReason, EventState, Series
from alerts.lifecycle import advance
from alerts.notices import DELIVERED, Delivery, DeliveryError, DeliveryOutcome, retryable
from alerts.routing import SinkPolicy
from alerts.state import AlertState, Phase, decode_state, encode_state
from monitor.config import Rule, Tolerance
from monitor.verdicts import Direction, Outcome, Verdict
from tests.support.timelines import STEP_S, a_rule, a_verdict, an_event

pytestmark = pytest.mark.property

WINDOW_MS = 300_000

seconds = st.sampled_from([0, 10, 30, 60, 400])
rules = st.builds(
    lambda hold_s, clear_for_s, clear_low: a_rule(
        hold_s=hold_s,
        clear_for_s=clear_for_s,
        tolerance=Tolerance(low=0.8, high=1.25, clear_low=clear_low),
    ),
    seconds,
    seconds,
    st.sampled_from([None, 0.95]),
)
answers = st.sampled_from(
    [
        *[(Outcome.OK, 1.0), (Outcome.OK, 0.9), (Outcome.OK, 0.75)],
        *[(Outcome.BREACH, 0.5)] * 4,
        (Outcome.BREACH, 2.0),
        (Outcome.INSUFFICIENT, None),
    ]
)
gaps = st.sampled_from([*[STEP_S] * 8, 2 * STEP_S, 350, 500])


@st.composite
def verdicts(draw: st.DrawFn) -> list[Verdict]:
    """Verdicts on one slice, in runs of the same answer, now and then with a gap."""
    at_s, told = 0, []
    for (outcome, value), length in draw(st.lists(st.tuples(answers, st.integers(1, 8)), max_size=12)):
        for _ in range(length):
            told.append(a_verdict(outcome, at_s, value))
            at_s += STEP_S
        at_s += draw(gaps)
    return told


def live(rule: Rule, told: list[Verdict]) -> tuple[AlertState | None, list[AlertEvent]]:
    """Return the state and the events after all verdicts."""
    state: AlertState | None = None
    events = []
    for verdict in told:
        state, event = advance(state, verdict, rule)
        if event is not None:
            events.append(event)
    return state, events


@given(rules, verdicts(), st.data())
def test_delivering_any_stretch_again_changes_nothing(
    rule: Rule, told: list[Verdict], data: st.DataObject
) -> None:
    """Verdicts that come again, in any number and order, leave the state and the events as they were."""
    expected = live(rule, told)
    replayed = list(told)
    if told:
        crash = data.draw(st.integers(0, len(told) - 1))
        again = data.draw(st.lists(st.sampled_from(told[: crash + 1]), max_size=10))
        replayed = [*told[: crash + 1], *again, *told[: crash + 1], *told[crash + 1 :]]
    assert live(rule, replayed) == expected


@given(rules, verdicts(), st.integers(0, 100))
def test_a_restart_changes_nothing(rule: Rule, told: list[Verdict], crash: int) -> None:
    """A state that was written and read back goes on as if nothing had happened."""
    before, events = live(rule, told[:crash])
    state = None if before is None else decode_state(encode_state(before))
    for verdict in told[crash:]:
        state, event = advance(state, verdict, rule)
        events += [event] if event is not None else []
    assert (state, events) == live(rule, told)


@given(rules, verdicts())
def test_events_follow_each_other_as_they_should(rule: Rule, told: list[Verdict]) -> None:
    """Pending, firing, resolved: each alert begins once, ends once, and does not overlap the next."""
    state, events = live(rule, told)
    allowed = {
        None: {EventState.PENDING} if rule.hold else {EventState.FIRING},
        EventState.PENDING: {EventState.FIRING, EventState.RESOLVED},
        EventState.FIRING: {EventState.FIRING, EventState.RESOLVED},
    }
    previous: AlertEvent | None = None
    for event in events:
        begins = previous is None or previous.state is EventState.RESOLVED
        assert event.state in allowed[None if begins or previous is None else previous.state]
        assert begins != (previous is not None and event.id == previous.id)
        turned = event.reason is EventReason.DIRECTION_CHANGED
        assert turned == (not begins and previous is not None and event.state is previous.state)
        unfired = event.state is EventState.RESOLVED and not event.tellable
        if event.state is EventState.RESOLVED and previous is not None:
            assert unfired == (previous.state is EventState.PENDING)
        previous = event
    phases = {None: Phase.INACTIVE, EventState.RESOLVED: Phase.INACTIVE}
    last = previous.state if previous else None
    expected = phases.get(last) or Phase(str(last))
    assert (state.phase if state else Phase.INACTIVE) is expected
    assert len({event.transition for event in events}) == len(events)
    assert all(first.at_ms < second.at_ms for first, second in pairwise(events))


@given(rules, verdicts())
def test_nothing_fires_without_a_breach_that_lasted(rule: Rule, told: list[Verdict]) -> None:
    """At least `for` long: no `ok` in it, no other side, no gap, and never longer without an answer."""
    _, events = live(rule, told)
    for event in events:
        if event.state is not EventState.FIRING:
            continue
        breaches = [v for v in told if v.verdict is Outcome.BREACH and v.pane_end_ms <= event.at_ms]
        first = max(v.pane_end_ms for v in breaches if v.pane_end_ms <= event.at_ms - rule.hold)
        stretch = [v for v in told if first <= v.pane_end_ms <= event.at_ms]
        assert Outcome.OK not in {v.verdict for v in stretch}
        assert {v.direction for v in stretch if v.verdict is Outcome.BREACH} == {event.verdict.direction}
        answered = [v.pane_end_ms for v in stretch if v.verdict is Outcome.BREACH]
        assert all(b - a <= max(rule.hold, WINDOW_MS) for a, b in pairwise(answered))


@given(rules, verdicts())
def test_nothing_clears_without_a_recovery_that_lasted(rule: Rule, told: list[Verdict]) -> None:
    """At least `clear_for` long: no breach in it, and no disparity outside the clear threshold."""
    _, events = live(rule, told)
    sides: dict[str, Direction] = {}
    for event in events:
        if event.state is EventState.FIRING:
            sides[event.id] = event.verdict.direction
        if event.reason is not EventReason.CLEARED:
            continue
        fine = [v for v in told if v.verdict is Outcome.OK and v.pane_end_ms <= event.at_ms - rule.clear_for]
        first = max(v.pane_end_ms for v in fine)
        stretch = [v for v in told if first <= v.pane_end_ms <= event.at_ms]
        assert Outcome.BREACH not in {v.verdict for v in stretch}
        low = rule.tolerance.clear_low or 0.8
        if sides[event.id] is Direction.LOW:
            values = [v.estimate.value for v in stretch if v.verdict is Outcome.OK]
            assert all(value is not None and value >= low for value in values)


# ---------------------------------------------------------------- delivery

NOW_AND_THEN = st.lists(
    st.tuples(
        st.sampled_from(["4", "5", "6"]),
        st.sampled_from([DELIVERED, DELIVERED, retryable(DeliveryError.TIMEOUT)]),
        st.booleans(),
        st.integers(0, 90),
    ),
    max_size=40,
)


@given(NOW_AND_THEN, st.integers(1, 3))
def test_a_sink_that_remembers_hears_all_that_it_must(
    steps: list[tuple[str, Delivery, bool, int]], batch_limit: int
) -> None:
    """Each transition at most once and in order; what it heard fire it hears end; it ends up to date."""
    mailbox = OnceMailbox(SinkPolicy(name="pager", batch_limit=batch_limit))
    heard: dict[Series, list[AlertEvent]] = defaultdict(list)
    latest: dict[Series, AlertEvent] = {}
    now_s = 0
    drain = [(None, DELIVERED, True, 90)] * (len(steps) + 1)
    for slice_, delivery, served, pause_s in [*steps, *drain]:
        now_s += pause_s + 1
        if slice_ is not None:
            event = _next_event(latest, slice_, now_s)
            latest[event.series] = event
            mailbox.put(event, now_s * 1000)
        if served:
            notices = mailbox.due(now_s * 1000)
            assert len(notices) <= batch_limit
            mailbox.settle(notices, delivery, now_s * 1000)
            if delivery.outcome is DeliveryOutcome.DELIVERED:
                for notice in notices:
                    heard[notice.event.series].append(notice.event)
    for series, event in latest.items():
        states = [one.state for one in heard[series]]
        assert all(a is not b for a, b in pairwise(states))
        assert states[:1] in ([], [EventState.FIRING])
        assert all(a.at_ms < b.at_ms for a, b in pairwise(heard[series]))
        assert states[-1:] == [event.state] or (not states and event.state is EventState.RESOLVED)
    assert mailbox.waiting() == 0
    assert mailbox.next_ms() is None


@given(NOW_AND_THEN, st.integers(5, 90))
def test_a_sink_that_forgets_is_kept_up_to_date(
    steps: list[tuple[str, Delivery, bool, int]], resend_s: int
) -> None:
    """Once it answers again, it holds exactly the alerts that fire, and goes on believing in them."""
    mailbox = RepeatingMailbox(SinkPolicy(name="am", repeats=True), resend_s * 1000)
    latest: dict[Series, AlertEvent] = {}
    held_until_ms: dict[Series, int] = {}
    now_s = 0
    drain = [(None, DELIVERED, True, resend_s)] * 20
    for slice_, delivery, served, pause_s in [*steps, *drain]:
        now_s += pause_s + 1
        if slice_ is not None:
            event = _next_event(latest, slice_, now_s)
            latest[event.series] = event
            mailbox.put(event, now_s * 1000)
        if served:
            notices = mailbox.due(now_s * 1000)
            mailbox.settle(notices, delivery, now_s * 1000)
            if delivery.outcome is DeliveryOutcome.DELIVERED:
                held_until_ms |= {notice.event.series: notice.ends_at_ms for notice in notices}
    held = {series for series, until_ms in held_until_ms.items() if until_ms > now_s * 1000}
    assert held == {series for series, event in latest.items() if event.state is EventState.FIRING}
    assert mailbox.waiting() == 0


def _next_event(latest: dict[Series, AlertEvent], slice_: str, now_s: int) -> AlertEvent:
    """Return a firing event of the slice if it is quiet, and its end if it fires."""
    fresh = an_event(EventState.FIRING, now_s, since_s=now_s, slice_=slice_)
    before = latest.get(fresh.series)
    if before is None or before.state is EventState.RESOLVED:
        return fresh
    since_s = now_s - (fresh.since_ms - before.since_ms) // 1000
    return an_event(EventState.RESOLVED, now_s, since_s=since_s, slice_=slice_)
