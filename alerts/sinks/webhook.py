"""Any HTTP endpoint that takes alert events as JSON."""

from collections.abc import Sequence
from typing import Any

from alerts.notices import Delivery, DeliveryError, Notice, retryable
from alerts.sinks.base import Poster, Secret, SecretUnreadableError

_VERSION = 1


class WebhookSink:
    """Posts ``{"version": 1, "alerts": [alert event, …]}``.

    A receiver knows an event again by (id, state, at_ms).
    """

    def __init__(self, name: str, url: Secret, poster: Poster) -> None:
        self.name = name
        self._url = url
        self._poster = poster

    def __repr__(self) -> str:
        return f"WebhookSink({self.name!r}, {self._url!r})"

    async def deliver(self, batch: Sequence[Notice]) -> Delivery:
        """Post the batch."""
        try:
            url = self._url.read()
        except SecretUnreadableError as problem:
            return retryable(DeliveryError.SECRET_UNREADABLE, str(problem))
        return await self._poster.post(url, posted_batch(batch))


def posted_batch(batch: Sequence[Notice]) -> dict[str, Any]:
    """The batch as it is posted."""
    return {"version": _VERSION, "alerts": [notice.event for notice in batch]}
