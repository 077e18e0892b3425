"""Why an event was not counted: the closed set of reasons of the dead-letter topic."""

from dataclasses import dataclass
from enum import StrEnum

WHOLE = -1
"""In place of a row: the whole record."""


class Reason(StrEnum):
    """Header ``reason`` of a dead letter (contract)."""

    MALFORMED = "malformed"
    """Neither JSON nor an Arrow stream, or no value."""
    INVALID = "invalid"
    """Readable, but not the contract's record."""
    LATE = "late"
    """Its pane had closed in its source partition."""
    FUTURE = "future"
    """Further ahead of its record's time than the allowed skew."""
    UNATTRIBUTED = "unattributed"
    """An engagement that cannot be credited to an impression."""
    OVERSIZED = "oversized"
    """Larger than ``limits.max_record_bytes``."""


class BadStreamError(ValueError):
    """An Arrow stream that is rejected as a whole; what it says is the detail."""

    def __init__(self, reason: Reason, detail: str) -> None:
        """``malformed``, if it cannot be read, or ``invalid``, if it has other columns."""
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Rejected:
    """A rejected record: where it is in the log, and why it was not counted."""

    index: int
    """Position in the batch that it came with."""
    reason: Reason
    detail: str
    row: int = WHOLE
    """Which row of an Arrow stream."""
