"""Alert events: the append-only history of what each alert did (contract record)."""

import hashlib
from enum import StrEnum
from typing import TypeAlias

import msgspec
from msgspec import Struct, field

from monitor.config import Severity
from monitor.verdicts import UnknownVersionError, Verdict

Series: TypeAlias = tuple[str, str, str, str]
"""Identity of an alert over time: (rule, surface, dimension, slice)."""


class EventState(StrEnum):
    """What the alert became."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


class EventReason(StrEnum):
    """Why it became so."""

    BREACH_STARTED = "breach_started"
    """pending: the first breach."""
    BREACH_HELD = "breach_held"
    """firing: the breach lasted for the rule's ``for``."""
    DIRECTION_CHANGED = "direction_changed"
    """firing, again: the disparity is now on the other side of parity, and has been for ``for``."""
    CLEARED = "cleared"
    """resolved: beyond the clear threshold for ``clear_for``."""
    NEVER_FIRED = "never_fired"
    """resolved: a pending alert ended before ``for`` was over; no one was told of it."""
    DATA_GONE = "data_gone"
    """resolved: a pending alert had too little data for longer than ``for``; no one was told of it."""
    RULE_REMOVED = "rule_removed"
    """resolved: the configuration no longer watches it."""
    RULE_CHANGED = "rule_changed"
    """resolved: its rule now says something else; a breach that lasts begins a new alert."""


_UNFIRED = frozenset({EventReason.NEVER_FIRED, EventReason.DATA_GONE})


class AlertEvent(Struct, frozen=True, kw_only=True):
    """One transition of one alert.

    ``id`` is that of the episode: the pending, firing and resolved events of one stretch of trouble share
    it. Times are event time: ``at_ms`` of the transition, ``since_ms`` of the episode's first breach.
    ``verdict`` is the one that decided. ``version`` is of this record; a reader refuses a larger one.
    """

    id: str
    rule: str
    severity: Severity
    surface: str
    dimension: str
    slice_: str = field(name="slice")
    state: EventState
    reason: EventReason
    at_ms: int
    since_ms: int
    verdict: Verdict
    summary: str = ""
    runbook_url: str = ""
    dashboard_url: str = ""
    labels: dict[str, str] = {}
    version: int = 1

    @property
    def series(self) -> Series:
        """Identity over time: (rule, surface, dimension, slice)."""
        return (self.rule, self.surface, self.dimension, self.slice_)

    @property
    def tellable(self) -> bool:
        """Whether sinks may be told: the alert fires, or it ends after having fired."""
        return self.state is not EventState.PENDING and self.reason not in _UNFIRED

    @property
    def transition(self) -> str:
        """Identity of this event: the same when it is emitted again after a crash."""
        return f"{self.id}:{self.state}:{self.at_ms}"


def alert_id(series: Series, since_ms: int) -> str:
    """Identity of the episode of a series that began at ``since_ms``; 16 hex digits.

    >>> alert_id(("skin-tone", "home", "item.skin_tone", "4"), 1_700_000_000_000)
    '3b09a254207d52d1'
    """
    return hashlib.blake2b(msgspec.json.encode((*series, since_ms)), digest_size=8).hexdigest()


def alert_of(transition: str) -> str:
    """The alert id in an :attr:`AlertEvent.transition`.

    >>> alert_of("3b09a254207d52d1:firing:1700000000000")
    '3b09a254207d52d1'
    """
    return transition.split(":", maxsplit=1)[0]


_VERSION = 1
_decoder = msgspec.json.Decoder(AlertEvent)


def encode_event(event: AlertEvent) -> bytes:
    """The event as one line of JSON."""
    return msgspec.json.encode(event)


def decode_event(data: bytes) -> AlertEvent:
    """Inverse of :func:`encode_event`.

    Raises:
        UnknownVersionError: the record is newer than this program.
        msgspec.DecodeError: not an alert event.
    """
    event = _decoder.decode(data)
    if event.version > _VERSION:
        raise UnknownVersionError(f"alert event version {event.version}, this program knows up to {_VERSION}")
    return event
