"""Ratios of sums with intervals from the leave-one-bucket-out jackknife.

Impressions of one viewer are correlated, so the unit that is left out is a bucket of
viewers, never an impression.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Floats = NDArray[np.float64]


class Ratios(NamedTuple):
    """Estimates for S series; NaN where there is none. Arrays of shape (S,)."""

    value: Floats
    lower: Floats
    upper: Floats
    log_se: Floats
    """Standard error of log(value)."""


def t_quantile(confidence: float, buckets: int) -> float:
    """Two-sided quantile of Student's t with ``buckets`` - 1 degrees of freedom.

    >>> round(t_quantile(0.95, 32), 3)
    2.04
    """
    return float(stdtrit(buckets - 1, 0.5 + confidence / 2))


def jackknife_se(logs: Floats) -> Floats:
    """Standard errors from leave-one-out replicates, (S, B) -> (S,).

    sqrt((B-1)/B * sum((x_b - mean)^2)); Efron & Tibshirani, An Introduction to the
    Bootstrap, 1993, ch. 11.
    """
    return _error(_deviations(logs))


def _deviations(logs: Floats) -> Floats:
    return np.asarray(logs - logs.sum(axis=1, keepdims=True) / logs.shape[1])


def _error(deviations: Floats) -> Floats:
    buckets = deviations.shape[1]
    return np.asarray(np.sqrt((buckets - 1) / buckets * (deviations**2).sum(axis=1)))


def freedom(deviations: Floats, axis: int) -> Floats:
    """Degrees of freedom of a jackknife's error: 2 B / (kurtosis - 1) of its deviations, at most B-1.

    A variance of B values has a relative variance of (kurtosis - 1) / B, one with d degrees of
    freedom 2 / d: when few buckets carry most of the spread, they are what there is.

    >>> deviations = np.array([[1.0, -1.0] * 16, [31.0] + [-1.0] * 31])
    >>> freedom(deviations, 1).round(1)
    array([31. ,  2.2])
    """
    buckets, squares = deviations.shape[axis], deviations**2
    with np.errstate(divide="ignore", invalid="ignore"):
        kurtosis = buckets * (squares**2).sum(axis=axis) / squares.sum(axis=axis) ** 2
    least = 2 * buckets / (buckets - 1)
    return np.asarray(2 * buckets / np.maximum(np.nan_to_num(kurtosis, nan=1.0) - 1, least))


def double_ratio(terms: "Terms", confidence: float, *, adaptive: bool = False) -> Ratios:
    """(a/b) / (c/d) with a log-t interval; ``adaptive``: of as much freedom as the buckets show.

    Shares need it with few viewers; rates have the Poisson floor, and would get too wide.

    ``value`` is exact, 0 for an absent slice included. For the interval only, an ``a`` of 0 is
    taken as half an average contribution (Haldane 1956; Anscombe 1956), so that absence has an
    upper end. NaN where b, c or d is 0, or where one of them lies in a single bucket.
    """
    a, b, c, d = (np.asarray(x, dtype=np.float64) for x in terms[:4])
    totals = [x.sum(axis=1) for x in (a, b, c, d)]
    known = (totals[1] > 0) & (totals[2] > 0) & (totals[3] > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = (totals[0] / totals[1]) / (totals[2] / totals[3])
        left = [t[:, None] - x for t, x in zip(totals, (a, b, c, d), strict=True)]
        left[0] = np.where(left[0] > 0, left[0], terms.half[:, None])
        logs = np.log(left[0] * left[3] / (left[1] * left[2]))
        known &= np.isfinite(logs).all(axis=1)
        deviations = _deviations(logs)
        se = np.maximum(_error(deviations), terms.least_se)
        centre = np.where(totals[0] > 0, value, terms.half / totals[1] / (totals[2] / totals[3]))
        free = freedom(deviations, 1) if adaptive else a.shape[1] - 1
        reach = np.exp(stdtrit(free, 0.5 + confidence / 2) * se)
        lower = np.where(totals[0] > 0, centre / reach, 0.0)
        found = [np.where(known, x, np.nan) for x in (value, lower, centre * reach, se)]
    return Ratios(*found)


class Terms(NamedTuple):
    """What :func:`double_ratio` compares. The first four have shape (S, B): sums per viewer bucket."""

    a: Floats
    b: Floats
    c: Floats
    d: Floats
    half: Floats
    """(S,) half an average contribution, in the unit of ``a``."""
    least_se: Floats
    """(S,) floor on the standard error of log(value): the Poisson noise of the counts behind ``a``.

    Viewers can only add to it; and buckets that all hold nothing agree with each other.
    """


def share_terms(
    part: Floats,
    whole: Floats,
    reference: tuple[Floats, Floats],
    impressions: Floats,
    *,
    paired: bool = False,
) -> Terms:
    """Shares against reference shares.

    Args:
        part: (S, B) the slices' sums of the measure.
        whole: (B,) the surface's sums of the measure.
        reference: (S, B) and (B,): part and whole of the reference; for a fixed share s,
            s/B and 1/B in every bucket.
        impressions: (S,) impressions n behind ``part``; with a share s of the whole the error of its
            logarithm is at least sqrt((1 - s) / (n + 1/2)), as of independent impressions (Anscombe 1956);
            the others have at least half of one (Haldane 1956), also where nothing else was shown.
        paired: the reference are the candidates of the same requests; they explain part of the noise of
            impressions, so that only an absent slice has such a floor.
    """
    total, reference_total = np.full_like(part, whole), np.full_like(part, reference[1])
    seen = np.where(part.sum(axis=1) > 0, impressions, 0.0)  # shown, but never where it counts: absent
    with np.errstate(divide="ignore", invalid="ignore"):
        average = np.where(seen > 0, part.sum(axis=1) / seen, _mean_contribution(part, impressions))
        others = 1 - np.nan_to_num(part.sum(axis=1) / whole.sum())
    floored = np.where(seen > 0, 0.0, 1.0) if paired else np.maximum(others, 0.5 / (impressions.sum() + 0.5))
    least = np.sqrt(floored / (seen + 0.5))
    return Terms(part, total, reference[0], reference_total, average / 2, least)


def _mean_contribution(part: Floats, impressions: Floats) -> float:
    count = impressions.sum()
    return float(part.sum() / count) if count else float("nan")


def rate_terms(events: Floats, trials: Floats, counts: Floats | None = None) -> Terms:
    """Each slice's rate against the rate of all other slices together.

    Args:
        events: (S, B) engagements (or exposure) per slice.
        trials: (S, B) impressions per slice.
        counts: (S,) counts behind ``events`` where these are amounts (exposure), which have no Poisson
            noise of their own; default: the events are counts.
    """
    rest_events = events.sum(axis=0) - events
    rest_trials = trials.sum(axis=0) - trials
    seen = events.sum(axis=1)
    if counts is None:
        rest = seen.sum() - seen
        least = np.sqrt(1 / (seen + 0.5) + 1 / (rest + 0.5))
        half = np.full(len(seen), 0.5)
    else:
        least = np.where(seen > 0, 0.0, np.sqrt(2))  # as of a count of 0
        half = np.full(len(seen), _mean_contribution(events, counts) / 2)
    return Terms(events, trials, rest_events, rest_trials, half, least)


def levels(terms: Terms) -> tuple[Floats, Floats]:
    """(S,) each: the share or rate itself, and what it is held against."""
    with np.errstate(divide="ignore", invalid="ignore"):
        level = terms.a.sum(axis=1) / terms.b.sum(axis=1)
        reference = terms.c.sum(axis=1) / terms.d.sum(axis=1)
    return level, reference
