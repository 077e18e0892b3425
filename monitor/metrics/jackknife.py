"""Intervals for any function of sums: leave out one bucket of viewers at a time.

Impressions of one viewer are correlated, so the unit that is left out is a bucket of viewers. The
jackknife (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, ch. 11) needs no derivatives; what
it needs is a function that is smooth at the truth. Largest, smallest, absolute and sorted values are not:
where two slices are nearly equal no interval of this kind holds, and none is given.
"""

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import chndtr, chndtrinc, ndtri, stdtrit

from monitor.estimates import freedom, t_quantile
from monitor.metrics.rates import rate
from monitor.metrics.shares import Floats, divide, others

Flags = NDArray[np.bool_]
Function = Callable[..., Floats]

LEAST_EVENTS = 10.0
"""A rate has no interval when fewer events are expected of its impressions at everybody's rate."""
LEAST_FILLED = 0.75
"""A divergence has no interval when a smaller part of the buckets holds anybody."""
_FAR = 1e4
"""From here on a noncentral chi-square is normal on the scale of its root."""


class Scale(Enum):
    """The scale on which an estimate is nearly normal, and so its interval symmetric."""

    PLAIN = "plain"
    """What is linear in the shares, and logarithms."""
    LOG = "log"
    """Ratios."""
    LOGIT = "logit"
    """Shares and rates."""
    DIVERGENCE = "divergence"
    """At least 0, and 0 at parity, where it is flat: a scaled noncentral chi-square, not normal."""


class Replicates(NamedTuple):
    """A statistic of all buckets, and without each of them."""

    value: Floats
    """(...)"""
    left: Floats
    """(B, ...)"""

    @property
    def deviations(self) -> Floats:
        """(B, ...) of the replicates from their mean."""
        return np.asarray(self.left - self.left.mean(axis=0))

    @property
    def se(self) -> Floats:
        """Standard error: sqrt((B-1)/B * sum of squared deviations)."""
        buckets = len(self.left)
        return np.asarray(np.sqrt((buckets - 1) / buckets * (self.deviations**2).sum(axis=0)))

    @property
    def bias(self) -> Floats:
        """(B-1) * (mean of the replicates - value) (Quenouille 1956)."""
        return np.asarray((len(self.left) - 1) * (self.left.mean(axis=0) - self.value))

    @property
    def freedom(self) -> Floats:
        """Degrees of freedom of the standard error."""
        return freedom(self.deviations, 0)


class Estimates(NamedTuple):
    """Values with intervals, each of the statistic's shape; NaN where there is none."""

    value: Floats
    lower: Floats
    upper: Floats

    def where(self, enough: Flags) -> "Estimates":
        """The same, with intervals only where there is enough; the values stay."""
        return Estimates(
            self.value, np.where(enough, self.lower, np.nan), np.where(enough, self.upper, np.nan)
        )


def replicate(function: Function, *sums: Floats) -> Replicates:
    """Evaluate a function of sums on the whole, and without each bucket.

    Args:
        function: takes arrays (..., S) with slices last, gives one value each or one for all of them.
        sums: one array (B, ..., S) for each argument of the function: buckets first.

    >>> clicks, shown = np.array([[1.0], [3.0]]), np.array([[10.0], [10.0]])
    >>> replicate(rate, clicks, shown)
    Replicates(value=array([0.2]), left=array([[0.3],
           [0.1]]))
    """
    totals = [x.sum(axis=0) for x in sums]
    left = [total - x for total, x in zip(totals, sums, strict=True)]
    return Replicates(np.asarray(function(*totals)), np.asarray(function(*left)))


def estimate(found: Replicates, scale: Scale, confidence: float = 0.95, slices: int = 2) -> Estimates:
    """The value with its interval on a scale; of a divergence, over how many ``slices`` it is.

    >>> halves = Replicates(np.array(2.0), np.array([1.9, 2.1] * 16))
    >>> [float(x.round(2)) for x in estimate(halves, Scale.PLAIN)]
    [2.0, 0.86, 3.14]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        if scale is Scale.DIVERGENCE:
            lower, upper = _noncentral(found, confidence, slices)
        else:
            forward, back = _TRANSFORMS[scale]
            moved = Replicates(forward(found.value), forward(found.left))
            reach = stdtrit(moved.freedom, 0.5 + confidence / 2) * moved.se
            lower, upper = back(moved.value - reach), back(moved.value + reach)
    known = np.isfinite(found.value) & np.isfinite(lower) & np.isfinite(upper)
    return Estimates(found.value, lower, upper).where(known)


def _noncentral(found: Replicates, confidence: float, slices: int) -> tuple[Floats, Floats]:
    """Interval of a divergence D, which near parity is a quadratic form in normal deviations.

    D / c is then about noncentral chi-square with d degrees of freedom, where the jackknife's bias is
    c d and its variance 4 c D. Near parity the latter says little of c (D is mostly bias there), so c is
    drawn towards bias / (S-1), as of equal directions. Student's t for c's own error. The interval holds
    c times every noncentrality under which what was seen is not extreme; at parity its lower end is 0.
    """
    value = found.value
    bias = np.clip(found.bias, 0.0, value)
    along = found.se**2 / (4 * value)
    unit = along + np.maximum(bias / (slices - 1) - along, 0.0) * bias / value
    freedom = np.maximum(bias / unit, 1.0)
    tail = (1 - confidence) / 2
    unit = unit * (stdtrit(found.freedom, 1 - tail) / ndtri(1 - tail)) ** 2
    seen = value / unit
    ends = []
    for level in (1 - tail, tail):
        far = np.maximum(np.sqrt(seen) - ndtri(level), 0.0) ** 2
        near = np.minimum(seen, _FAR)
        inside = chndtr(near, freedom, 0.0) > level
        ends.append(unit * np.where(seen > _FAR, far, np.where(inside, chndtrinc(near, freedom, level), 0.0)))
    return ends[0], ends[1]


def estimate_rates(
    events: Floats, trials: Floats, confidence: float = 0.95, scale: Scale = Scale.LOGIT
) -> Estimates:
    """Rates (S,) of events per trial, both (B, S), with a floor of 10 expected events.

    On the logit, unless a trial may have several events. With 10 to 20 events intervals are a little wide
    (97 % for 95): buckets of few events look as if few viewers made them. Where few did, as with very
    unequal sessions, that width is needed.
    """
    found = estimate(replicate(rate, events, trials), scale, confidence)
    return found.where(enough(events, trials))


def estimate_rate_differences(events: Floats, trials: Floats, confidence: float = 0.95) -> Estimates:
    """Each slice's rate minus that of all others, from the intervals of both (MOVER).

    A difference of small rates is not normal, while each rate is on the logit. With interval (l, u) of
    each rate p and r their correlation over the buckets, the lower end is p1 - p2 -
    sqrt((p1 - l1)^2 + (u2 - p2)^2 - 2 r (p1 - l1) (u2 - p2)), the upper end likewise (Zou & Donner,
    Statistics in Medicine 2008; Zou 2007 for correlated ones). Arrays are (B, ..., S).
    """
    mine, theirs = replicate(rate, events, trials), replicate(rate, others(events), others(trials))
    (p, below, above), (q, below_rest, above_rest) = (_arms(x, confidence) for x in (mine, theirs))
    with np.errstate(divide="ignore", invalid="ignore"):
        r = divide(
            (mine.deviations * theirs.deviations).sum(axis=0),
            np.sqrt((mine.deviations**2).sum(axis=0) * (theirs.deviations**2).sum(axis=0)),
        )
        r = np.nan_to_num(r)  # of buckets that all agree
        lower = p - q - _joined(below, above_rest, r)
        upper = p - q + _joined(above, below_rest, r)
    known = enough(events, trials) & enough(others(events), others(trials))
    return Estimates(np.asarray(p - q), lower, upper).where(known & np.isfinite(lower) & np.isfinite(upper))


def _arms(found: Replicates, confidence: float) -> Estimates:
    """A rate, and how far its interval reaches below and above it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = Replicates(_logit(found.value), _logit(found.left))
        reach = t_quantile(confidence, len(found.left)) * moved.se
        lower, upper = _expit(moved.value - reach), _expit(moved.value + reach)
    return Estimates(found.value, np.asarray(found.value - lower), np.asarray(upper - found.value))


def _joined(a: Floats, b: Floats, r: Floats) -> Floats:
    return np.asarray(np.sqrt(np.maximum(a**2 + b**2 - 2 * r * a * b, 0.0)))


def enough(events: Floats, trials: Floats) -> Flags:
    """(S,) whether the trials should bring :data:`LEAST_EVENTS` at the rate of all; what came does not count.

    A floor on what came would show a thin slice only when its rate is high.
    """
    n = trials.sum(axis=0)
    pooled = divide(events.sum(axis=0).sum(axis=-1, keepdims=True), n.sum(axis=-1, keepdims=True))
    return np.asarray(n * pooled >= LEAST_EVENTS)


def _logit(share: Floats) -> Floats:
    return np.asarray(np.log(share) - np.log1p(-share))


def _expit(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))


_TRANSFORMS: dict[Scale, tuple[Function, Function]] = {
    Scale.PLAIN: (np.asarray, np.asarray),
    Scale.LOG: (np.log, np.exp),
    Scale.LOGIT: (_logit, _expit),
}
