from __future__ import annotations

import pytest
from msgspec.structs import replace

from alerts.delivery import Backoff, Outbox
from alerts.events import AlertEvent, EventReason, EventState
from alerts.notices import DELIVERED, Delivery, DeliveryError, rejected, retryable
from alerts.routing import Routing, SinkPolicy, policies, recipients, route
from alerts.state import AlertState
from monitor.config import Alerts, Severity, SinkSpec, SinkType
from tests.support.timelines import START_MS, Timeline, a_rule, an_event, breach, ok

FIRING = an_event(EventState.FIRING, 10)
RESOLVED = an_event(EventState.RESOLVED, 60)
NEXT_FIRING = an_event(EventState.FIRING, 90, since_s=80)
OTHER_FIRING = an_event(EventState.FIRING, 10, slice_="5")
DOWN = retryable(DeliveryError.SERVER_ERROR)
NO = rejected(DeliveryError.BAD_REQUEST)

ALERTMANAGER = SinkPolicy(name="am", repeats=True)
PAGER = SinkPolicy(name="pager")
RESEND_S = 60


class Clock:
    """One sink of an outbox, with a clock that only the test moves; seconds as in a timeline."""

    def __init__(self, policy: SinkPolicy, resend_s: int = RESEND_S) -> None:
        self.outbox = Outbox([policy], resend_s * 1000)
        self.mailbox = self.outbox.mailboxes[policy.name]

    def put(self, at_s: int, *events: AlertEvent) -> Clock:
        """Put events at a second."""
        for event in events:
            self.outbox.put(event, START_MS + at_s * 1000)
        return self

    def deliver(self, at_s: int, delivery: Delivery = DELIVERED) -> list[tuple[str, str]]:
        """Offer what is due at a second, give the sink's answer, and return what was offered."""
        now_ms = START_MS + at_s * 1000
        notices = self.mailbox.due(now_ms)
        if notices:
            self.mailbox.settle(notices, delivery, now_ms)
        return [(notice.event.state.value, notice.reason.value) for notice in notices]

    def between(self, from_s: int, to_s: int, delivery: Delivery = DELIVERED) -> list[int]:
        """Deliver every second, and return the seconds at which something was offered."""
        return [at_s for at_s in range(from_s, to_s) if self.deliver(at_s, delivery)]

    @property
    def next_s(self) -> float | None:
        """The second at which something is due next."""
        next_ms = self.mailbox.next_ms()
        return None if next_ms is None else (next_ms - START_MS) / 1000


# ---------------------------------------------------------------- a sink that forgets


def test_a_firing_alert_is_sent_at_once_and_again_every_resend() -> None:
    """First as a transition, then as reminders."""
    clock = Clock(ALERTMANAGER).put(10, FIRING)
    assert clock.deliver(10) == [("firing", "transition")]
    assert clock.next_s == 70
    assert clock.between(11, 200) == [70, 130, 190]
    assert clock.deliver(250) == [("firing", "reminder")]


def test_a_firing_alert_is_believed_for_four_resends() -> None:
    """Its end is that far ahead, and its start is its first breach."""
    clock = Clock(ALERTMANAGER).put(10, FIRING)
    (notice,) = clock.mailbox.due(START_MS + 10_000)
    assert notice.starts_at_ms == FIRING.since_ms
    assert notice.ends_at_ms == START_MS + 10_000 + 4 * RESEND_S * 1000


def test_an_ended_alert_is_repeated_for_five_minutes() -> None:
    """Counted from its first delivery; then it is forgotten."""
    clock = Clock(ALERTMANAGER).put(10, FIRING)
    clock.deliver(10)
    clock.put(60, RESOLVED)
    assert clock.deliver(60) == [("resolved", "transition")]
    assert clock.deliver(120) == [("resolved", "repeated_end")]
    assert clock.between(121, 1_000) == [180, 240, 300, 360]
    assert clock.next_s is None


def test_an_ended_alert_ends_at_its_own_time() -> None:
    """In event time, as long as that is not ahead of the clock."""
    clock = Clock(ALERTMANAGER).put(100, RESOLVED)
    (notice,) = clock.mailbox.due(START_MS + 100_000)
    assert (notice.starts_at_ms, notice.ends_at_ms) == (RESOLVED.since_ms, RESOLVED.at_ms)


def test_event_time_ahead_of_the_clock_is_not_passed_on() -> None:
    """Alertmanager refuses a start after the end, and an end in the future is none."""
    behind_ms = START_MS - 1_000_000
    for event in (FIRING, RESOLVED):
        outbox = Outbox([ALERTMANAGER], 60_000)
        outbox.put(event, behind_ms)
        (notice,) = outbox.mailboxes["am"].due(behind_ms)
        assert notice.starts_at_ms == behind_ms
        assert notice.ends_at_ms == behind_ms + (240_000 if event is FIRING else 0)


def test_a_new_alert_stops_the_repetition_of_the_old_ones_end() -> None:
    """Otherwise the old end would resolve the new alert, which has the same labels."""
    clock = Clock(ALERTMANAGER).put(60, RESOLVED)
    clock.deliver(60)
    clock.put(90, NEXT_FIRING)
    assert clock.deliver(90) == [("firing", "transition")]
    assert clock.deliver(150) == [("firing", "reminder")]


def test_a_forgetful_sink_that_is_down_is_asked_again() -> None:
    """With growing pauses, and everything that still holds is sent when it is back."""
    clock = Clock(ALERTMANAGER).put(0, FIRING, OTHER_FIRING)
    assert clock.between(0, 60, DOWN) == [0, 1, 3, 7, 15, 31]
    assert clock.next_s == 63
    assert clock.deliver(63) == [("firing", "transition")] * 2


def test_a_rejected_batch_waits_for_its_next_turn() -> None:
    """Alertmanager stores the good alerts of a bad batch, so there is nothing to hurry for."""
    clock = Clock(ALERTMANAGER).put(0, FIRING)
    assert clock.deliver(0, NO) == [("firing", "transition")]
    assert clock.between(1, 100) == [60]
    assert clock.outbox.receipts(FIRING.series) == {"am": FIRING.transition}


def test_what_changed_while_it_was_under_way_is_sent_at_once() -> None:
    """The answer to the old event does not settle the new one."""
    clock = Clock(ALERTMANAGER).put(10, FIRING)
    notices = clock.mailbox.due(START_MS + 10_000)
    clock.put(11, RESOLVED)
    clock.mailbox.settle(notices, DELIVERED, START_MS + 12_000)
    assert clock.deliver(12) == [("resolved", "transition")]


def test_a_batch_has_its_limit() -> None:
    """The rest follows in the next request, the longest overdue first."""
    clock = Clock(replace(ALERTMANAGER, batch_limit=1)).put(10, OTHER_FIRING).put(5, FIRING)
    (first,) = clock.mailbox.due(START_MS + 20_000)
    assert first.event == FIRING
    assert clock.between(20, 30) == [20, 21]


# ---------------------------------------------------------------- a sink that remembers


def test_every_transition_is_delivered_once_and_in_order() -> None:
    """No reminders; what was put twice is sent once."""
    clock = Clock(PAGER).put(10, FIRING, FIRING).put(11, RESOLVED)
    assert clock.deliver(12) == [("firing", "transition"), ("resolved", "transition")]
    assert clock.put(13, RESOLVED).between(13, 500) == []
    assert clock.next_s is None


def test_a_change_of_direction_is_another_transition() -> None:
    """The same alert fires again, and that is news."""
    turned = replace(FIRING, reason=EventReason.DIRECTION_CHANGED, at_ms=FIRING.at_ms + 1)
    clock = Clock(PAGER).put(0, FIRING)
    clock.deliver(0)
    assert clock.put(1, turned).deliver(1) == [("firing", "transition")]


def test_a_sink_that_is_down_gets_it_when_it_is_back() -> None:
    """Nothing is given up, and the pause does not grow beyond a minute."""
    clock = Clock(PAGER).put(0, FIRING)
    tried_s = clock.between(0, 400, DOWN)
    assert tried_s == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363]
    assert clock.deliver(423) == [("firing", "transition")]
    assert clock.mailbox.backoff.failures == 0


def test_a_sinks_wish_for_a_pause_is_granted() -> None:
    """Retry-After counts where it is longer than our own pause, up to ten minutes."""
    clock = Clock(PAGER).put(0, FIRING)
    clock.deliver(0, retryable(DeliveryError.THROTTLED, retry_after_ms=30_000))
    assert clock.next_s == 30
    clock.deliver(30, retryable(DeliveryError.THROTTLED, retry_after_ms=86_400_000))
    assert clock.next_s == 630


def test_an_alert_that_came_and_went_unheard_is_dropped() -> None:
    """While the sink is down, nobody is to be called later for what is over by then."""
    clock = Clock(PAGER).put(0, OTHER_FIRING)
    clock.deliver(0, DOWN)
    clock.put(1, FIRING, RESOLVED)
    assert clock.deliver(1) == [("firing", "transition")]
    assert clock.outbox.receipts(FIRING.series) == {}
    assert clock.next_s is None


def test_an_alert_that_may_have_been_heard_is_resolved() -> None:
    """A request that failed can have been taken, so the end is delivered too."""
    clock = Clock(PAGER).put(0, FIRING)
    clock.deliver(0, retryable(DeliveryError.TIMEOUT))
    clock.put(1, RESOLVED)
    clock.deliver(1, retryable(DeliveryError.TIMEOUT))
    assert clock.deliver(3) == [("firing", "transition"), ("resolved", "transition")]


def test_the_end_of_an_alert_that_was_heard_waits_for_the_sink() -> None:
    """The incident was opened, so it has to be closed."""
    clock = Clock(PAGER).put(0, FIRING)
    clock.deliver(0)
    clock.put(1, RESOLVED)
    clock.deliver(1, DOWN)
    clock.deliver(2, DOWN)
    assert clock.deliver(4) == [("resolved", "transition")]


def test_the_end_of_an_alert_that_was_heard_is_not_dropped_when_others_fail() -> None:
    """Even if the sink went down between the two."""
    clock = Clock(PAGER).put(0, FIRING)
    clock.deliver(0)
    clock.put(1, OTHER_FIRING).deliver(1, DOWN)
    clock.put(2, RESOLVED)
    assert clock.deliver(2) == [("firing", "transition"), ("resolved", "transition")]


def test_one_rejected_alert_does_not_take_others_with_it() -> None:
    """Of a rejected batch each is offered alone, and only the bad one is dropped."""
    clock = Clock(PAGER).put(0, OTHER_FIRING, FIRING, RESOLVED)
    assert len(clock.deliver(0, NO)) == 3
    assert len(clock.deliver(1, NO)) == 1
    assert len(clock.deliver(2)) == 1
    assert clock.deliver(3) == [("resolved", "transition")]
    assert clock.outbox.receipts(OTHER_FIRING.series) == {}


def test_requests_are_spaced_as_the_policy_says() -> None:
    """Slack takes about one message a second."""
    clock = Clock(replace(PAGER, spacing_ms=2_000, batch_limit=1)).put(0, FIRING, OTHER_FIRING)
    assert clock.between(0, 10) == [0, 2]


def test_waiting_counts_what_has_not_been_told() -> None:
    """Reminders do not count."""
    for policy in (ALERTMANAGER, PAGER):
        clock = Clock(policy).put(0, FIRING, OTHER_FIRING)
        assert clock.outbox.waiting() == 2
        clock.deliver(0)
        assert clock.outbox.waiting() == 0


def test_asking_changes_nothing() -> None:
    """What is due stays due until it is settled."""
    for policy in (ALERTMANAGER, PAGER):
        mailbox = Clock(policy).put(0, FIRING).mailbox
        assert mailbox.due(START_MS) == mailbox.due(START_MS) != []


# ---------------------------------------------------------------- restarts


def after(*, told: AlertEvent | None, ended: bool) -> AlertState:
    """Return the state of an alert that fired at 0 s and perhaps ended at 10 s, as the sinks know it."""
    line = Timeline(a_rule()).at(0, breach())
    if ended:
        line.at(10, ok())
    receipts = dict.fromkeys(("am", "pager"), told.transition) if told else {}
    return replace(line.known, receipts=receipts)


FIRED, ENDED = Timeline(a_rule()).at(0, breach()).at(10, ok()).events


@pytest.mark.parametrize(
    ("state", "pager", "am"),
    [
        (after(told=None, ended=False), ["firing"], ["firing"]),
        (after(told=FIRED, ended=False), [], ["firing"]),
        (after(told=FIRED, ended=True), ["resolved"], ["resolved"]),
        (after(told=ENDED, ended=True), [], []),
        (after(told=None, ended=True), [], []),
    ],
)
def test_a_restarted_outbox_takes_up_where_the_last_one_was(
    state: AlertState, pager: list[str], am: list[str]
) -> None:
    """What the receipts show as told is not told again, except to a sink that forgets."""
    told = state.news
    assert told is not None
    for policy, expected in ((PAGER, pager), (ALERTMANAGER, am)):
        clock = Clock(policy)
        clock.outbox.restore(state, START_MS)
        assert [name for name, _ in clock.deliver(0)] == expected
        assert clock.outbox.receipts(state.series) == (
            {policy.name: told.transition} if expected or state.receipts else {}
        )


def test_a_series_that_moved_away_is_forgotten() -> None:
    """After a rebalance another process speaks for it."""
    for policy in (ALERTMANAGER, PAGER):
        clock = Clock(policy).put(0, FIRING, OTHER_FIRING)
        clock.outbox.forget(FIRING.series)
        assert clock.deliver(0) == [("firing", "transition")]
        assert clock.outbox.receipts(FIRING.series) == {}


# ---------------------------------------------------------------- routing


def test_nobody_is_called_for_what_has_not_fired() -> None:
    """Pending alerts and their ends stay in the history."""
    untold = [
        an_event(EventState.PENDING),
        an_event(EventState.RESOLVED, reason=EventReason.NEVER_FIRED),
        an_event(EventState.RESOLVED, reason=EventReason.DATA_GONE),
    ]
    assert [route(event, PAGER) for event in untold] == [
        Routing.PENDING,
        Routing.NEVER_FIRED,
        Routing.NEVER_FIRED,
    ]
    assert not any(Outbox([PAGER], 1_000).put(event, 0) for event in untold)


@pytest.mark.parametrize(
    ("severity", "expected"),
    [
        (Severity.INFO, ["all"]),
        (Severity.WARNING, ["all", "loud"]),
        (Severity.CRITICAL, ["all", "loud", "loudest"]),
    ],
)
def test_a_sink_hears_what_is_loud_enough(severity: Severity, expected: list[str]) -> None:
    """Both the firing and the resolved event, from the sink's least severity up."""
    sinks = [
        SinkPolicy(name="all"),
        SinkPolicy(name="loud", min_severity=Severity.WARNING),
        SinkPolicy(name="loudest", min_severity=Severity.CRITICAL),
    ]
    for state in (EventState.FIRING, EventState.RESOLVED):
        event = an_event(state, severity=severity)
        assert recipients(event, sinks) == expected
        assert Outbox(sinks, 1_000).put(event, 0) == expected
    assert route(an_event(EventState.FIRING, severity=Severity.INFO), sinks[1]) is Routing.BELOW_SEVERITY


def test_policies_follow_the_configuration() -> None:
    """Only Alertmanager forgets; PagerDuty takes one event at a time; Slack wants pauses."""
    sinks = [SinkSpec(type=kind, name=f"the-{kind}", min_severity=Severity.WARNING) for kind in SinkType]
    by_name = {policy.name: policy for policy in policies(Alerts(sinks=sinks))}
    assert [name for name, policy in by_name.items() if policy.repeats] == ["the-alertmanager"]
    assert by_name["the-pagerduty"].batch_limit == 1
    assert by_name["the-slack"].spacing_ms == 1_000
    assert {policy.min_severity for policy in by_name.values()} == {Severity.WARNING}


def test_the_pause_doubles_up_to_a_minute() -> None:
    """One answer, even a rejection, ends it."""
    backoff, pauses_s = Backoff(), []
    for _ in range(9):
        backoff = backoff.after(DOWN, 0, 0)
        pauses_s.append(backoff.until_ms / 1000)
    assert pauses_s == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert backoff.after(NO, 0, 500) == Backoff(500, 0)
