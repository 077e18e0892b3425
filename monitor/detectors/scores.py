"""Scores of slices against the rest or a reference: linear in what happened, so panes and strata add up.

A score array has the shape (S, 4, B): for each of S series and B viewer buckets the weighted events and
the weight of the slice, and those of what it is held against. With W the weight of a pane and stratum,

    SLICE = W * y_A,b / n_A,  SLICE_WEIGHT = W * n_A,b / n_A,
    REST = W * y_R,b / n_R,   REST_WEIGHT = W * n_R,b / n_R

so that either weight sums to W over the buckets, SLICE / W is the slice's rate and REST / W that of the rest.
"""

import numpy as np
from numpy.typing import NDArray

from monitor.estimates import freedom

Floats = NDArray[np.float64]

SLICE, SLICE_WEIGHT, REST, REST_WEIGHT = range(4)


def rate_scores(events: Floats, trials: Floats, rest_events: Floats, rest_trials: Floats) -> Floats:
    """Rates against the rest's; arguments (S, K, B) for K strata, the result (S, 4, B).

    W = n_A n_R / (n_A + n_R) for each stratum (Mantel & Haenszel 1959): the contrast W * (r_A - r_R) is
    linear in the events, so it has no bias of small counts, and strata in which one side is empty drop out.

    >>> one = np.ones((1, 1, 2))
    >>> rate_scores(one, 2 * one, 6 * one, 6 * one).sum(axis=2).tolist()
    [[1.5, 3.0, 3.0, 3.0]]
    """
    n, m = trials.sum(axis=2), rest_trials.sum(axis=2)
    both = (n > 0) & (m > 0)
    weight = np.divide(n * m, n + m, out=np.zeros_like(n), where=both)
    mine = np.divide(weight, n, out=np.zeros_like(n), where=both)[..., None]
    theirs = np.divide(weight, m, out=np.zeros_like(n), where=both)[..., None]
    parts = (mine * events, mine * trials, theirs * rest_events, theirs * rest_trials)
    return np.stack([part.sum(axis=1) for part in parts], axis=1)


def share_scores(part: Floats, whole: Floats, share: Floats) -> Floats:
    """Shares against reference shares: W is the whole, and the reference has its share of it without noise.

    Args:
        part: (S, B) the slices' sums.
        whole: (S, B) the sums of everybody.
        share: (S,) the reference; where it is not above 0 the score is 0.

    >>> share_scores(np.array([[1.0, 2.0]]), np.array([[10.0, 10.0]]), np.array([0.2])).tolist()
    [[[1.0, 2.0], [10.0, 10.0], [2.0, 2.0], [10.0, 10.0]]]
    """
    scores = np.stack([part, whole, share[:, None] * whole, whole], axis=1)
    return np.where((share > 0)[:, None, None], scores, 0.0)


def bucket_scores(scores: Floats, tolerance: Floats, rate: Floats) -> Floats:
    """How much too little the slice got in each bucket, (S, B); the sum is G = W * (tolerance * r_R - r_A).

    Each bucket is centred at ``rate`` (S,), a rate of the rest that was known before:
    tolerance * (REST - rate * REST_WEIGHT) - (SLICE - tolerance * rate * SLICE_WEIGHT). When the disparity is
    exactly ``tolerance`` (S,), every bucket's mean is about 0, whatever its number of impressions.
    """
    limit, centre = tolerance[:, None], rate[:, None]
    theirs = scores[:, REST] - centre * scores[:, REST_WEIGHT]
    mine = scores[:, SLICE] - limit * centre * scores[:, SLICE_WEIGHT]
    return np.asarray(limit * theirs - mine)


def residuals(scores: Floats) -> tuple[Floats, Floats]:
    """Residuals of slice and rest in each bucket, from their own rates; (S, B) each."""
    found = []
    for events, weight in ((SLICE, SLICE_WEIGHT), (REST, REST_WEIGHT)):
        total = scores[:, weight].sum(axis=1)
        level = np.divide(scores[:, events].sum(axis=1), total, out=np.zeros_like(total), where=total > 0)
        found.append(scores[:, events] - scores[:, weight] * level[:, None])
    return found[0], found[1]


def spread(scores: Floats) -> Floats:
    """Variances and covariance of the slice's and the rest's sum over buckets: (S, 3).

    B / (B-1) times the sums of squared residuals, of their products, of squared residuals of the rest;
    :func:`variance` makes the variance of G of them for any tolerance.
    """
    mine, rest = residuals(scores)
    buckets = mine.shape[1]
    sums = np.stack([(mine**2).sum(axis=1), (mine * rest).sum(axis=1), (rest**2).sum(axis=1)], axis=1)
    return np.asarray(buckets / (buckets - 1) * sums)


def variance(spreads: Floats, tolerance: Floats) -> Floats:
    """Variance of G = tolerance * rest - slice, (S,): R = B/(B-1) * sum of U_b squared.

    >>> variance(np.array([[4.0, 1.0, 2.0]]), np.array([0.5])).tolist()
    [3.5]
    """
    mine, both, rest = spreads.T
    return np.asarray(np.maximum(tolerance**2 * rest - 2 * tolerance * both + mine, 0.0))


def degrees_of_freedom(scores: Floats) -> Floats:
    """Of a variance between buckets, (S,): B-1 of normal residuals, fewer when few buckets hold most."""
    mine, rest = residuals(scores)
    return freedom(rest - mine, 1)
