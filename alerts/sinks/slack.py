"""Slack, by incoming webhook."""

from collections.abc import Sequence

from alerts.events import AlertEvent, EventState
from alerts.notices import Delivery, DeliveryError, Notice, retryable
from alerts.sinks.base import Poster, Secret, SecretUnreadableError

_SIGNS = {EventState.FIRING: ":red_circle:", EventState.RESOLVED: ":large_green_circle:"}
_LINE_LIMIT = 2_000
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class SlackSink:
    """Posts one message for a batch: Slack takes about one message a second."""

    def __init__(self, name: str, url: Secret, poster: Poster) -> None:
        self.name = name
        self._url = url
        self._poster = poster

    def __repr__(self) -> str:
        return f"SlackSink({self.name!r}, {self._url!r})"

    async def deliver(self, batch: Sequence[Notice]) -> Delivery:
        """Post the batch as one message."""
        try:
            url = self._url.read()
        except SecretUnreadableError as problem:
            return retryable(DeliveryError.SECRET_UNREADABLE, str(problem))
        return await self._poster.post(url, {"text": message(batch)})


def message(batch: Sequence[Notice]) -> str:
    """The batch in Slack's own markup, one paragraph for each alert."""
    return "\n\n".join(_paragraph(notice.event) for notice in batch)


def _paragraph(event: AlertEvent) -> str:
    head = f"{_SIGNS.get(event.state, '')} *{event.state.upper()}* {event.severity} · {_escape(event.rule)}"
    links = [
        f"<{url}|{name}>"
        for name, url in (("runbook", event.runbook_url), ("dashboard", event.dashboard_url))
        if url
    ]
    return "\n".join([head, _escape(event.summary)[:_LINE_LIMIT], " · ".join([*links, f"`{event.id}`"])])


def _escape(text: str) -> str:
    return text.translate(_ESCAPES)
