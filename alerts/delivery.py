"""What is due to be delivered when: bookkeeping in wall-clock time, the only stage that retries.

An :class:`Outbox` has one :class:`Mailbox` for each sink. A mailbox of a sink that forgets
(Alertmanager) sends firing alerts again every ``resend_ms`` and ended ones for five minutes more. A mailbox
of any other sink sends every transition once, in order. After a retryable answer the mailbox waits, twice
as long each time, up to a minute; it never gives up, since an alert that nobody heard of is worth nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from alerts.events import AlertEvent, EventState, Series, alert_of
from alerts.notices import Delivery, DeliveryOutcome, Notice, NoticeReason
from alerts.routing import Routing, SinkPolicy, recipients, route
from alerts.state import AlertState

BELIEF_RESENDS = 4
"""A firing alert is believed for this many ``resend_ms`` after it was last heard of."""
REPEAT_END_MS = 300_000
FIRST_RETRY_MS = 1_000
LAST_RETRY_MS = 60_000
LONGEST_RETRY_AFTER_MS = 600_000
"""A sink that wishes for a longer pause is asked again after this."""


class Backoff(Struct, frozen=True):
    """When a sink may be asked next, and how often it has failed since it last answered."""

    until_ms: int = 0
    failures: int = 0

    def after(self, delivery: Delivery, now_ms: int, spacing_ms: int) -> "Backoff":
        """The pause after an answer.

        >>> from alerts.notices import DeliveryError, retryable
        >>> Backoff().after(retryable(DeliveryError.TIMEOUT), 0, 0)
        Backoff(until_ms=1000, failures=1)
        """
        if delivery.outcome is not DeliveryOutcome.RETRYABLE:
            return Backoff(now_ms + spacing_ms)
        pause_ms = min(FIRST_RETRY_MS << min(self.failures, 10), LAST_RETRY_MS)
        wished_ms = min(delivery.retry_after_ms or 0, LONGEST_RETRY_AFTER_MS)
        return Backoff(now_ms + max(pause_ms, wished_ms), self.failures + 1)


class Mailbox(Protocol):
    """What waits for one sink."""

    backoff: Backoff
    receipts: dict[Series, str]
    """The transition that the sink was told last, by series."""

    def put(self, event: AlertEvent, now_ms: int) -> None:
        """Take a firing or resolved event."""

    def forget(self, series: Series) -> None:
        """Drop all of a series: another process has it now."""

    def due(self, now_ms: int) -> list[Notice]:
        """What is to be sent now, in one request; nothing may be under way. The same until it is settled."""

    def settle(self, notices: Sequence[Notice], delivery: Delivery, now_ms: int) -> None:
        """Note the sink's answer to what was due."""

    def next_ms(self) -> int | None:
        """When something is due next; None if nothing waits."""

    def waiting(self) -> int:
        """How many transitions the sink has not been told of."""


class _Entry(Struct, frozen=True, kw_only=True):
    """An alert that a forgetful sink is kept up to date on."""

    event: AlertEvent
    next_ms: int
    reason: NoticeReason = NoticeReason.TRANSITION
    until_ms: int | None = None
    """Of an ended alert that has been delivered: when to stop repeating it."""


class RepeatingMailbox:
    """For a sink that forgets: the latest event of every series, sent again while it matters."""

    def __init__(self, policy: SinkPolicy, resend_ms: int) -> None:
        self.policy = policy
        self.resend_ms = resend_ms
        self.backoff = Backoff()
        self.receipts: dict[Series, str] = {}
        self._entries: dict[Series, _Entry] = {}

    def put(self, event: AlertEvent, now_ms: int) -> None:
        """Take a firing or resolved event, in place of an earlier one of the series."""
        self._entries[event.series] = _Entry(event=event, next_ms=now_ms)

    def forget(self, series: Series) -> None:
        """Drop all of a series."""
        self._entries.pop(series, None)
        self.receipts.pop(series, None)

    def due(self, now_ms: int) -> list[Notice]:
        """What is to be sent now, the longest overdue first."""
        if now_ms < self.backoff.until_ms:
            return []
        due = sorted(
            (entry for entry in self._entries.values() if entry.next_ms <= now_ms),
            key=lambda entry: entry.next_ms,
        )
        belief_ms = BELIEF_RESENDS * self.resend_ms
        return [_notice(e.event, e.reason, now_ms, belief_ms) for e in due[: self.policy.batch_limit]]

    def settle(self, notices: Sequence[Notice], delivery: Delivery, now_ms: int) -> None:
        """Note the answer. What was rejected is offered again at its next turn, as if delivered."""
        self.backoff = self.backoff.after(delivery, now_ms, self.policy.spacing_ms)
        if delivery.outcome is DeliveryOutcome.RETRYABLE:
            return
        for notice in notices:
            series, entry = notice.event.series, self._entries.get(notice.event.series)
            if delivery.outcome is DeliveryOutcome.DELIVERED:
                self.receipts[series] = notice.event.transition
            if entry is None or entry.event.transition != notice.event.transition:
                continue
            following = self._following(entry, now_ms)
            if following is None:
                del self._entries[series]
            else:
                self._entries[series] = following

    def _following(self, entry: _Entry, now_ms: int) -> _Entry | None:
        next_ms = now_ms + self.resend_ms
        if entry.event.state is EventState.FIRING:
            return replace(entry, next_ms=next_ms, reason=NoticeReason.REMINDER)
        until_ms = now_ms + REPEAT_END_MS if entry.until_ms is None else entry.until_ms
        if next_ms > until_ms:
            return None
        return replace(entry, next_ms=next_ms, reason=NoticeReason.REPEATED_END, until_ms=until_ms)

    def next_ms(self) -> int | None:
        """When something is due next."""
        first_ms = min((entry.next_ms for entry in self._entries.values()), default=None)
        return None if first_ms is None else max(first_ms, self.backoff.until_ms)

    def waiting(self) -> int:
        """How many transitions the sink has not been told of."""
        return sum(entry.reason is NoticeReason.TRANSITION for entry in self._entries.values())


class OnceMailbox:
    """For a sink that remembers: a queue of transitions, each delivered once and in order.

    While the sink fails, an alert that began and ended without having been offered is dropped as a whole:
    calling somebody for what is over helps nobody, and the queue stays bounded. One that has been offered
    may have been taken, whatever the answer was, so its end is delivered too.
    """

    def __init__(self, policy: SinkPolicy) -> None:
        self.policy = policy
        self.backoff = Backoff()
        self.receipts: dict[Series, str] = {}
        self._queue: list[AlertEvent] = []
        self._offered: set[str] = set()
        """Ids of alerts that wait and whose delivery has been tried."""
        self._singly = 0
        """How many at the head of the queue are offered one by one, to find which one is rejected."""

    def put(self, event: AlertEvent, now_ms: int) -> None:  # noqa: ARG002 - the same call for every mailbox
        """Take a firing or resolved event, behind those that wait, unless it is known already."""
        known = {waiting.transition for waiting in self._queue} | {self.receipts.get(event.series)}
        if event.transition not in known:
            self._queue.append(event)

    def forget(self, series: Series) -> None:
        """Drop all of a series."""
        self._queue = [event for event in self._queue if event.series != series]
        self.receipts.pop(series, None)

    def due(self, now_ms: int) -> list[Notice]:
        """The head of the queue."""
        if now_ms < self.backoff.until_ms:
            return []
        if self.backoff.failures:
            self._drop_unheard()
        limit = 1 if self._singly else self.policy.batch_limit
        return [_notice(event, NoticeReason.TRANSITION, now_ms, 0) for event in self._queue[:limit]]

    def settle(self, notices: Sequence[Notice], delivery: Delivery, now_ms: int) -> None:
        """Note the answer. Of a rejected batch each one is offered alone, and dropped if rejected again."""
        self.backoff = self.backoff.after(delivery, now_ms, self.policy.spacing_ms)
        if delivery.outcome is DeliveryOutcome.RETRYABLE:
            self._offered |= {notice.event.id for notice in notices}
        elif delivery.outcome is DeliveryOutcome.REJECTED and len(notices) > 1:
            self._singly = len(notices)
        else:
            self._offered -= {notice.event.id for notice in notices}
            self._singly = max(0, self._singly - len(notices))
            settled = {notice.event.transition for notice in notices}
            self._queue = [event for event in self._queue if event.transition not in settled]
            if delivery.outcome is DeliveryOutcome.DELIVERED:
                self.receipts |= {notice.event.series: notice.event.transition for notice in notices}

    def _drop_unheard(self) -> None:
        told = {alert_of(transition) for transition in self.receipts.values()}
        ended = {event.id for event in self._queue if event.state is EventState.RESOLVED}
        unheard = ended - told - self._offered
        self._queue = [event for event in self._queue if event.id not in unheard]

    def next_ms(self) -> int | None:
        """When something is due next."""
        return self.backoff.until_ms if self._queue else None

    def waiting(self) -> int:
        """How many transitions the sink has not been told of."""
        return len(self._queue)


class Outbox:
    """The mailboxes of all sinks, by name."""

    def __init__(self, sinks: Iterable[SinkPolicy], resend_ms: int) -> None:
        self.policies = {policy.name: policy for policy in sinks}
        self.mailboxes: Mapping[str, Mailbox] = {
            name: RepeatingMailbox(policy, resend_ms) if policy.repeats else OnceMailbox(policy)
            for name, policy in self.policies.items()
        }

    def put(self, event: AlertEvent, now_ms: int) -> list[str]:
        """Take an event for the sinks that are to be told of it, and name them."""
        names = recipients(event, self.policies.values())
        for name in names:
            self.mailboxes[name].put(event, now_ms)
        return names

    def restore(self, state: AlertState, now_ms: int) -> None:
        """Take up a series after a restart: what its receipts do not show as told is due again.

        A sink that has not heard that an alert fired is not told that it ended.
        """
        event = state.news
        if event is None:
            return
        for name, policy in self.policies.items():
            told, mailbox = state.receipts.get(name, ""), self.mailboxes[name]
            if told:
                mailbox.receipts[event.series] = told
            if event.state is EventState.FIRING:
                open_ = policy.repeats or told != event.transition
            else:
                open_ = told != event.transition and alert_of(told) == event.id
            if open_ and route(event, policy) is Routing.SEND:
                mailbox.put(event, now_ms)

    def receipts(self, series: Series) -> dict[str, str]:
        """What each sink was told last of a series, to be kept in its state."""
        told = {name: mailbox.receipts.get(series) for name, mailbox in self.mailboxes.items()}
        return {name: transition for name, transition in told.items() if transition is not None}

    def waiting(self) -> int:
        """How many transitions have not reached their sinks, over all sinks."""
        return sum(mailbox.waiting() for mailbox in self.mailboxes.values())

    def forget(self, series: Series) -> None:
        """Drop all of a series: another process has it now."""
        for mailbox in self.mailboxes.values():
            mailbox.forget(series)


def _notice(event: AlertEvent, reason: NoticeReason, now_ms: int, belief_ms: int) -> Notice:
    """The event in the terms of the clock that delivers; event time may run ahead of it."""
    starts_at_ms = min(event.since_ms, now_ms)
    if event.state is EventState.FIRING:
        ends_at_ms = now_ms + belief_ms
    else:
        ends_at_ms = max(starts_at_ms, min(event.at_ms, now_ms))
    return Notice(event=event, reason=reason, starts_at_ms=starts_at_ms, ends_at_ms=ends_at_ms)
