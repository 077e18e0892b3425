"""From what detectors and estimates found to verdicts: what is told of a slice, and what is not."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.config import DetectorKind, Rule, Tolerance
from monitor.detectors import Status
from monitor.suppression import SUPPRESSED
from monitor.verdicts import Direction, Estimate, Outcome, ToleranceBand, Verdict

Floats = NDArray[np.float64]

# members of enums are slow to ask for, and to compare
_OK, _BREACH = Outcome.OK, Outcome.BREACH
_INSUFFICIENT, _BREACHED = int(Status.INSUFFICIENT), int(Status.BREACH)
_DIRECTIONS = {-1: Direction.LOW, 0: Direction.NONE, 1: Direction.HIGH}


class Finding(NamedTuple):
    """What is known of one slice at the end of a pane."""

    slice_: str
    support: int
    enough: bool
    hidden: bool
    """It is judged, but not shown."""
    known: bool
    """Whether its disparity is."""
    status: int
    detector: str
    """The one that decided."""
    direction: int
    evidence: float
    value: float | None
    """The disparity …"""
    lower: float | None
    upper: float | None
    share: float | None
    """… the slice's share or rate …"""
    reference: float | None
    """… and what it was held against."""


class Conclusions:
    """Writes the verdicts of one rule on one surface."""

    def __init__(self, rule: Rule, surface: str, default_detector: str) -> None:
        """``default_detector`` is named where none decided."""
        self._rule = rule
        self._fixed = (rule.name, surface, rule.dimension, rule.metric.value, rule.window)
        self._tolerance = band(rule.tolerance)
        self._default_detector = default_detector
        self._few, self._unknown = "too few impressions", "nothing to compare with, or warming up"
        if rule.metric.of_requests:
            self._few, self._unknown = "too few requests", "too few viewers"

    def conclude(self, end_ms: int, found: Finding) -> Verdict:
        """The verdict on one slice."""
        breached = found.status == _BREACHED
        if found.hidden:
            return self.hide(found.slice_, end_ms, found if breached and self._is_told(found) else None)
        if found.status == _INSUFFICIENT or not found.known:
            reason = self._unknown if found.enough else self._few
            return self.insufficient(found.slice_, end_ms, reason, found.support)
        rule, surface, dimension, metric, window = self._fixed
        return Verdict(  # by position: keywords take four times as long
            rule,
            surface,
            dimension,
            found.slice_,
            metric,
            window,
            end_ms,
            _BREACH if breached else _OK,
            Estimate(found.value, found.lower, found.upper, found.support),
            self._tolerance,
            found.evidence,
            found.detector,
            _DIRECTIONS[found.direction],
            found.share,
            found.reference,
            "it has none at all" if found.value is None else "",
        )

    def _is_told(self, found: Finding) -> bool:
        """Whether the breach of a hidden slice is told, without a number.

        One is that it is hardly shown any more, as one that is not shown at all: or the worst disparities
        would be those that nobody is told of. The other is an e-detector's page, which rests on many more
        viewers than those in this window.
        """
        if found.detector == DetectorKind.E_DETECTOR:
            return True
        return self._rule.reference is not None and found.direction < 0

    def hide(self, slice_: str, end_ms: int, told: Finding | None = None) -> Verdict:
        """A verdict that tells no number of a slice, not even its impressions; ``told``: its breach."""
        if told is None:
            return self.insufficient(slice_, end_ms, SUPPRESSED)
        direction = _DIRECTIONS[told.direction]
        return self._bare(slice_, end_ms, _BREACH, SUPPRESSED, detector=told.detector, direction=direction)

    def insufficient(self, slice_: str, end_ms: int, reason: str, support: int = 0) -> Verdict:
        """A verdict that nothing can be said."""
        detector = self._default_detector
        return self._bare(slice_, end_ms, Outcome.INSUFFICIENT, reason, support=support, detector=detector)

    def _bare(
        self,
        slice_: str,
        end_ms: int,
        outcome: Outcome,
        reason: str,
        *,
        detector: str,
        support: int = 0,
        direction: Direction = Direction.NONE,
    ) -> Verdict:
        """A verdict without a number."""
        rule, surface, dimension, metric, window = self._fixed
        return Verdict(
            rule,
            surface,
            dimension,
            slice_,
            metric,
            window,
            end_ms,
            outcome,
            Estimate(support=support),
            self._tolerance,
            detector=detector,
            direction=direction,
            reason=reason,
        )


def band(tolerance: Tolerance) -> ToleranceBand:
    """The tolerance as verdicts carry it."""
    return ToleranceBand(low=tolerance.low, high=tolerance.high)


def finite(*columns: Floats) -> list[list[float | None]]:
    """Columns (S,) as lists, with None for what is no number.

    >>> finite(np.array([0.5, np.nan]), np.array([np.inf, 2.0]))
    [[0.5, None], [None, 2.0]]
    """
    numbers = np.stack(columns)
    known = np.isfinite(numbers)
    plain: list[list[float | None]] = numbers.tolist()
    if not known.all():
        for column, row in np.argwhere(~known).tolist():
            plain[column][row] = None
    return plain
