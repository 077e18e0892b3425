"""Prometheus Alertmanager, API v2."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from alerts.notices import Delivery, DeliveryError, DeliveryOutcome, Notice
from alerts.sinks.base import Poster

_PATH = "/api/v2/alerts"
_BEST_FIRST = list(DeliveryOutcome)


class AlertmanagerSink:
    """Posts to every member of a cluster: they do not pass alerts on to each other.

    A delivery succeeds when one member took it; the others hear of the alert again at the next re-send.
    """

    def __init__(self, name: str, urls: Sequence[str], poster: Poster) -> None:
        self.name = name
        self._urls = [url.rstrip("/") + _PATH for url in urls]
        self._poster = poster

    def __repr__(self) -> str:
        return f"AlertmanagerSink({self.name!r}, {len(self._urls)} members)"

    async def deliver(self, batch: Sequence[Notice]) -> Delivery:
        """Post the batch to all members at the same time."""
        payload = [posted_alert(notice) for notice in batch]
        answers = await asyncio.gather(*(self._poster.post(url, payload) for url in self._urls))
        best = min(answers, key=lambda answer: _BEST_FIRST.index(answer.outcome))
        failed = [answer for answer in answers if answer.error is not DeliveryError.NONE]
        if not failed or best.outcome is not DeliveryOutcome.DELIVERED:
            return best
        detail = f"{len(failed)} of {len(answers)} members did not take it: {failed[0].detail}"
        return replace(best, error=failed[0].error, detail=detail)


def posted_alert(notice: Notice) -> dict[str, Any]:
    """The alert as the API takes it. The labels are its identity; the contract's win over a rule's own."""
    event = notice.event
    annotations = {
        "summary": event.summary,
        "runbook_url": event.runbook_url,
        "dashboard_url": event.dashboard_url,
    }
    return {
        "labels": {
            **event.labels,
            "alertname": event.rule,
            "severity": event.severity.value,
            "surface": event.surface,
            "dimension": event.dimension,
            "slice": event.slice_,
        },
        "annotations": {name: text for name, text in annotations.items() if text},
        "startsAt": _iso(notice.starts_at_ms),
        "endsAt": _iso(notice.ends_at_ms),
    }


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
