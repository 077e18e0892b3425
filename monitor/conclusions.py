"""From what detectors and estimates found to verdicts: what is told of a slice, and what is not."""

from math import isfinite
from typing import Any, NamedTuple

from monitor.config import DetectorKind, Rule, Tolerance
from monitor.detectors import Status
from monitor.suppression import SUPPRESSED
from monitor.verdicts import Direction, Estimate, Outcome, ToleranceBand, Verdict

_DIRECTIONS = {-1: Direction.LOW, 0: Direction.NONE, 1: Direction.HIGH}


class Findings(NamedTuple):
    """What verdicts are made of: columns of plain values, since reading arrays one by one is slow."""

    slices: list[str]
    end_ms: int
    support: list[int]
    enough: list[bool]
    hidden: list[bool]
    """Slices that are judged, but not shown."""
    figures: list[tuple[float, ...]]
    """Disparity, its lower and upper end; the slice's share or rate, and what it was held against."""
    known: list[bool]
    status: list[int]
    detector: list[str]
    """The one that decided."""
    direction: list[int]
    evidence: list[float]


class Conclusions:
    """Writes the verdicts of one rule on one surface."""

    def __init__(self, rule: Rule, surface: str, default_detector: str) -> None:
        """``default_detector`` is named where none decided."""
        self._rule = rule
        self._fixed: dict[str, Any] = {
            "rule": rule.name,
            "surface": surface,
            "dimension": rule.dimension,
            "metric": rule.metric.value,
            "window": rule.window,
            "tolerance": band(rule.tolerance),
        }
        self._undecided = {"verdict": Outcome.INSUFFICIENT, "detector": default_detector}
        self._few, self._unknown = "too few impressions", "nothing to compare with, or warming up"
        if rule.metric.of_requests:
            self._few, self._unknown = "too few requests", "too few viewers"

    def conclude(self, found: Findings, i: int) -> Verdict:
        """The verdict on one slice."""
        slice_, end_ms, status = found.slices[i], found.end_ms, found.status[i]
        if found.hidden[i]:
            if status == Status.BREACH and self._is_told(found, i):
                return self.hide(slice_, end_ms, _DIRECTIONS[found.direction[i]], found.detector[i])
            return self.hide(slice_, end_ms)
        if status == Status.INSUFFICIENT or not found.known[i]:
            reason = self._unknown if found.enough[i] else self._few
            return self.verdict(slice_, end_ms, Estimate(support=found.support[i]), reason=reason)
        value, lower, upper, share, reference = (x if isfinite(x) else None for x in found.figures[i])
        return self.verdict(
            slice_,
            end_ms,
            Estimate(value=value, lower=lower, upper=upper, support=found.support[i]),
            verdict=Outcome.BREACH if status == Status.BREACH else Outcome.OK,
            detector=found.detector[i],
            evidence=found.evidence[i],
            direction=_DIRECTIONS[found.direction[i]],
            share=share,
            reference=reference,
            reason="" if value is not None else "it has none at all",
        )

    def _is_told(self, found: Findings, i: int) -> bool:
        """Whether the breach of a hidden slice is told, without a number.

        One is that it is hardly shown any more, as one that is not shown at all: or the worst disparities
        would be those that nobody is told of. The other is an e-detector's page, which rests on many more
        viewers than those in this window.
        """
        if found.detector[i] == DetectorKind.E_DETECTOR:
            return True
        return self._rule.reference is not None and found.direction[i] < 0

    def hide(
        self, slice_: str, end_ms: int, breach: Direction = Direction.NONE, detector: str = ""
    ) -> Verdict:
        """A verdict that tells no number of a slice, not even its impressions; ``breach``: on which side."""
        if breach is Direction.NONE:
            return self.verdict(slice_, end_ms, Estimate(), reason=SUPPRESSED)
        answer = {"verdict": Outcome.BREACH, "direction": breach, "detector": detector}
        return self.verdict(slice_, end_ms, Estimate(), reason=SUPPRESSED, **answer)

    def verdict(self, slice_: str, end_ms: int, estimate: Estimate, **decision: Any) -> Verdict:
        """A verdict of this rule; ``insufficient`` unless decided otherwise."""
        answer = self._undecided | decision
        return Verdict(slice_=slice_, pane_end_ms=end_ms, estimate=estimate, **self._fixed, **answer)


def band(tolerance: Tolerance) -> ToleranceBand:
    """The tolerance as verdicts carry it."""
    return ToleranceBand(low=tolerance.low, high=tolerance.high)
