"""What ``fairstream demo`` knows at one moment: the input of its view and of its words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from alerts.events import AlertEvent
from alerts.state import Phase
from monitor.verdicts import Direction, Estimate, ToleranceBand


class RoleHealth(StrEnum):
    """How a role's process is."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class SliceRow:
    """One slice as it is now."""

    slice_: str
    share: float | None = None
    reference: float | None = None
    estimate: Estimate = field(default_factory=Estimate)
    """The disparity: share over reference, 1 is parity."""
    trend: Sequence[float] = ()
    """Shares over time, the latest last."""
    phase: Phase = Phase.INACTIVE
    direction: Direction = Direction.NONE


@dataclass(frozen=True, kw_only=True)
class DemoSnapshot:
    """All that the view shows. Times are event time."""

    title: str
    dimension: str
    progress: float
    """0 to 1."""
    phases: Sequence[tuple[str, float]] = (("random ranker", 0.0), ("bts ranker", 0.5))
    """What is replayed, each from which progress on."""
    watermark_ms: int | None = None
    read: int = 0
    accepted: int = 0
    rejected: int = 0
    rows: Sequence[SliceRow] = ()
    alerts: Sequence[AlertEvent] = ()
    """Everything on ``fairness.alerts`` so far, the latest last."""
    roles: Mapping[str, RoleHealth] = field(default_factory=dict)
    tolerance: ToleranceBand = field(default_factory=ToleranceBand)

    @property
    def phase(self) -> str:
        """What is being replayed now."""
        return next((name for name, start in reversed(self.phases) if self.progress >= start), "")


def moment(ts_ms: int) -> str:
    """An event time for people, e.g. ``Sun 01 Dec 12:00``, in UTC."""
    return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%a %d %b %H:%M")


def percent(share: float | None) -> str:
    """A share for people."""
    return "-" if share is None else f"{100 * share:.1f} %"
