"""PagerDuty, Events API v2."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from alerts.events import EventState
from alerts.notices import DELIVERED, Delivery, DeliveryError, DeliveryOutcome, Notice, retryable
from alerts.sinks.base import Poster, Secret, SecretUnreadableError

EVENTS_URL = "https://events.pagerduty.com/v2/enqueue"
_SUMMARY_LIMIT = 1_024


class PagerDutySink:
    """Opens an incident when an alert fires and closes it when it resolves.

    The ``dedup_key`` is the alert's id. It is the same in the firing and the resolved event of one episode
    and in no other, so an end closes its own incident, a repetition opens none, and another
    deployment on the same routing key (staging, another region) cannot close it.
    """

    def __init__(self, name: str, routing_key: Secret, poster: Poster, url: str = EVENTS_URL) -> None:
        self.name = name
        self._routing_key = routing_key
        self._poster = poster
        self._url = url

    def __repr__(self) -> str:
        return f"PagerDutySink({self.name!r}, {self._routing_key!r})"

    async def deliver(self, batch: Sequence[Notice]) -> Delivery:
        """Send the events one after the other (the API takes one at a time), up to the first that fails."""
        try:
            routing_key = self._routing_key.read()
        except SecretUnreadableError as problem:
            return retryable(DeliveryError.SECRET_UNREADABLE, str(problem))
        for notice in batch:
            answer = await self._poster.post(self._url, enqueued(notice, routing_key))
            if answer.outcome is not DeliveryOutcome.DELIVERED:
                return answer
        return DELIVERED


def enqueued(notice: Notice, routing_key: str) -> dict[str, Any]:
    """The event as the API takes it."""
    event = notice.event
    head = {"routing_key": routing_key, "dedup_key": event.id}
    if event.state is EventState.RESOLVED:
        return {**head, "event_action": "resolve"}
    return {
        **head,
        "event_action": "trigger",
        "client": "fairstream",
        **({"client_url": event.dashboard_url} if event.dashboard_url else {}),
        "links": [{"href": event.runbook_url, "text": "runbook"}] if event.runbook_url else [],
        "payload": {
            "summary": f"{event.rule}: {event.summary}"[:_SUMMARY_LIMIT],
            "source": event.surface,
            "severity": event.severity.value,
            "timestamp": datetime.fromtimestamp(notice.starts_at_ms / 1000, UTC).isoformat(),
            "component": event.dimension,
            "group": event.rule,
            "class": event.verdict.metric,
            "custom_details": {
                "slice": event.slice_,
                "estimate": event.verdict.estimate,
                "tolerance": event.verdict.tolerance,
                "window": event.verdict.window,
                "detector": event.verdict.detector,
                "labels": event.labels,
            },
        },
    }
