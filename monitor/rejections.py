"""Why an event was not counted: the closed set of reasons of the dead-letter topic."""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Header ``reason`` of a dead letter (contract)."""

    MALFORMED = "malformed"
    """Not JSON at all, or no value."""
    INVALID = "invalid"
    """JSON, but not the contract's record."""
    LATE = "late"
    """Its pane had closed in its source partition."""
    FUTURE = "future"
    """Further ahead of its record's time than the allowed skew."""
    UNATTRIBUTED = "unattributed"
    """An engagement that cannot be credited to an impression."""
    OVERSIZED = "oversized"
    """Larger than ``limits.max_record_bytes``."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A rejected record: where it is in the log, and why it was not counted."""

    index: int
    """Position in the batch that it came with."""
    reason: Reason
    detail: str
