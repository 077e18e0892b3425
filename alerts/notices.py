"""What goes to a sink, and what comes back."""

from enum import StrEnum

from msgspec import Struct

from alerts.events import AlertEvent


class NoticeReason(StrEnum):
    """Why a sink is told."""

    TRANSITION = "transition"
    """The alert has changed."""
    REMINDER = "reminder"
    """It still fires, and the sink forgets alerts that are not sent again."""
    REPEATED_END = "repeated_end"
    """It has ended not long ago; sent again in case the sink has missed it."""


class Notice(Struct, frozen=True, kw_only=True):
    """One event for one sink, in wall-clock time.

    ``starts_at_ms`` is never in the future. ``ends_at_ms`` of an alert that has ended is not either; of one
    that fires it is how long the sink may believe so without hearing of it again.
    """

    event: AlertEvent
    reason: NoticeReason
    starts_at_ms: int
    ends_at_ms: int


class DeliveryOutcome(StrEnum):
    """How a delivery ended."""

    DELIVERED = "delivered"
    RETRYABLE = "retryable"
    """The same again may succeed later."""
    REJECTED = "rejected"
    """The sink will never take this."""


class DeliveryError(StrEnum):
    """What went wrong: a closed set, the values of a metric label."""

    NONE = "none"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    """No connection, or one that broke."""
    TLS = "tls"
    THROTTLED = "throttled"
    SERVER_ERROR = "server_error"
    UNAUTHORIZED = "unauthorized"
    NOT_FOUND = "not_found"
    """The address is wrong, or what it led to is gone."""
    TOO_LARGE = "too_large"
    BAD_REQUEST = "bad_request"
    UNEXPECTED = "unexpected"
    """An answer that the sink's protocol does not know, such as a redirect."""
    SECRET_UNREADABLE = "secret_unreadable"
    """The file that names the address or key is missing or empty."""


class Delivery(Struct, frozen=True, kw_only=True):
    """Answer of a sink.

    A delivered one can have an ``error``: a member of a cluster did not take it, others did.
    ``retry_after_ms`` is the sink's wish. ``detail`` is for the log and names no slice and no secret.
    """

    outcome: DeliveryOutcome
    error: DeliveryError = DeliveryError.NONE
    detail: str = ""
    retry_after_ms: int | None = None


DELIVERED = Delivery(outcome=DeliveryOutcome.DELIVERED)


def retryable(error: DeliveryError, detail: str = "", retry_after_ms: int | None = None) -> Delivery:
    """The same again may succeed later."""
    return Delivery(
        outcome=DeliveryOutcome.RETRYABLE, error=error, detail=detail, retry_after_ms=retry_after_ms
    )


def rejected(error: DeliveryError, detail: str = "") -> Delivery:
    """The sink will never take this."""
    return Delivery(outcome=DeliveryOutcome.REJECTED, error=error, detail=detail)
