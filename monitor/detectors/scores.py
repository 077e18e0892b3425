"""Scores of slices against the rest or a reference: linear in what happened, so panes and strata add up.

A score array has the shape (S, 4, B): for each of S series and B viewer buckets the weighted events and
the weight of the slice, and those of what it is held against. With W the weight of a pane and stratum,

    SLICE = W * y_A,b / n_A,  SLICE_WEIGHT = W * n_A,b / n_A,
    REST = W * y_R,b / n_R,   REST_WEIGHT = W * n_R,b / n_R

so that either weight sums to W over the buckets, SLICE / W is the slice's rate and REST / W that of the rest.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.estimates import freedom

Floats = NDArray[np.float64]

SLICE, SLICE_WEIGHT, REST, REST_WEIGHT = range(4)
_ROUNDING = 1e-12
"""Squares of residuals below this part of the squares of what they are left of are rounding."""


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
    mine = np.divide(weight, n, out=np.zeros_like(n), where=both)
    theirs = np.divide(weight, m, out=np.zeros_like(n), where=both)
    scores = np.empty((len(n), 4, trials.shape[2]))
    parts = ((mine, events), (mine, trials), (theirs, rest_events), (theirs, rest_trials))
    for place, (scale, part) in enumerate(parts):
        np.einsum("sk,skb->sb", scale, part, out=scores[:, place])
    return scores


def candidate_scores(part: Floats, whole: Floats, candidates: Floats, all_candidates: Floats) -> Floats:
    """Shares against those of the candidates of the same panes, which vary between viewers too.

    All arguments (S, B). W is the whole; where there are no candidates the score is 0.

    >>> one = np.ones((1, 2))
    >>> candidate_scores(one, 4 * one, 2 * one, 10 * one).tolist()
    [[[1.0, 1.0], [4.0, 4.0], [0.8, 0.8], [4.0, 4.0]]]
    """
    total, wanted = all_candidates.sum(axis=1), whole.sum(axis=1)
    scale = np.divide(wanted, total, out=np.zeros_like(total), where=total > 0)[:, None]
    scores = np.stack((part, whole, scale * candidates, scale * all_candidates), axis=1)
    scores[(candidates.sum(axis=1) <= 0) | (wanted <= 0)] = 0.0
    return scores


def share_scores(part: Floats, whole: Floats, share: Floats) -> Floats:
    """Shares against reference shares: W is the whole, and the reference has its share of it without noise.

    Args:
        part: (S, B) the slices' sums.
        whole: (S, B) the sums of everybody.
        share: (S,) the reference; where it is not above 0 the score is 0.

    >>> share_scores(np.array([[1.0, 2.0]]), np.array([[10.0, 10.0]]), np.array([0.2])).tolist()
    [[[1.0, 2.0], [10.0, 10.0], [2.0, 2.0], [10.0, 10.0]]]
    """
    scores = np.empty((len(part), 4, part.shape[1]))
    scores[:, SLICE], scores[:, SLICE_WEIGHT], scores[:, REST_WEIGHT] = part, whole, whole
    np.multiply(share[:, None], whole, out=scores[:, REST])
    scores[~(share > 0)] = 0.0
    return scores


class Moments(NamedTuple):
    """Sums of scores over buckets, (4, S), and of their products, (4, 4, S)."""

    sums: Floats
    products: Floats

    def of(self, rows: NDArray[np.bool_]) -> "Moments":
        """Those of some series."""
        return Moments(self.sums[:, rows], self.products[:, :, rows])


def moments(scores: Floats) -> Moments:
    """Of (S, 4, B): all that bets and variances need to know, whatever the tolerance.

    >>> moments(np.array([[[1.0, 2.0], [3.0, 3.0], [0.0, 0.0], [0.0, 0.0]]])).products[:2, :2, 0].tolist()
    [[5.0, 9.0], [9.0, 18.0]]
    """
    products = scores @ scores.transpose(0, 2, 1)
    return Moments(scores.sum(axis=2).T, np.ascontiguousarray(products.transpose(1, 2, 0)))


def bucket_scores(of: Moments, tolerance: Floats, rate: Floats) -> tuple[Floats, Floats]:
    """How much too little the slice got for T tolerances: sum and sum of squares over buckets, (S, T).

    Each bucket is centred at ``rate`` (S,), a rate of the rest that was known before:
    u_b = tolerance * (REST - rate * REST_WEIGHT) - (SLICE - tolerance * rate * SLICE_WEIGHT). When the
    disparity is exactly ``tolerance`` (S, T), every bucket's mean is about 0, whatever its number of
    impressions. The sum is G = W * (tolerance * r_R - r_A).

    >>> of = moments(np.array([[[1.0, 2.0], [9.0, 1.0], [2.0, 2.0], [5.0, 5.0]]]))
    >>> [found.round(9).tolist() for found in bucket_scores(of, np.array([[0.5]]), np.array([0.4]))]
    [[[-1.0]], [[3.88]]]
    """
    (aa, ac, ar, aw), (_, cc, cr, cw), (_, _, rr, rw), (_, _, _, ww) = of.products[..., None]
    a, c, r, w = of.sums[..., None]
    centre = tolerance * rate[:, None]
    total = tolerance * r - a + centre * (c - w)
    square = aa + tolerance * (tolerance * rr - 2 * ar)
    square += centre * (2 * (tolerance * (cr - rw) - ac + aw) + centre * (cc - 2 * cw + ww))
    return np.asarray(total), np.maximum(square, 0.0)


def _levels(sums: Floats) -> Floats:
    """(2, S) rates of slice and rest, from sums (4, S); 0 of nothing."""
    events, weights = sums[::2], sums[1::2]
    return np.divide(events, weights, out=np.zeros(events.shape), where=weights > 0)


def spread(of: Moments, buckets: int) -> Floats:
    """Variances and covariance of the slice's and the rest's sum over buckets: (S, 3).

    B / (B-1) times the sums of squared residuals, of their products, of squared residuals of the rest;
    :func:`variance` makes the variance of G of them for any tolerance. Residuals below a millionth of what
    they are left of are rounding, and none.
    """
    (aa, ac, ar, aw), (_, cc, cr, cw), (_, _, rr, rw), (_, _, _, ww) = of.products
    level, rest_level = _levels(of.sums)
    mine = aa - level * (2 * ac - level * cc)
    rest = rr - rest_level * (2 * rw - rest_level * ww)
    both = ar - rest_level * aw - level * (cr - rest_level * cw)
    mine = np.where(mine > _ROUNDING * aa, mine, 0.0)
    rest = np.where(rest > _ROUNDING * rr, rest, 0.0)
    both = np.where((mine > 0) & (rest > 0), both, 0.0)
    return np.asarray(buckets / (buckets - 1) * np.array((mine, both, rest)).T)


def variance(spreads: Floats, tolerance: Floats) -> Floats:
    """Variance of G = tolerance * rest - slice for T tolerances, (..., S, T), from spreads (..., S, 3).

    R = B/(B-1) * sum of U_b squared.

    >>> variance(np.array([[4.0, 1.0, 2.0]]), np.array([[0.5, 1.0]])).tolist()
    [[3.5, 4.0]]
    """
    mine, both, rest = (spreads[..., i : i + 1] for i in range(3))
    return np.asarray(np.maximum(tolerance * (tolerance * rest - 2 * both) + mine, 0.0))


def degrees_of_freedom(scores: Floats) -> Floats:
    """Of a variance between buckets, (S,): B-1 of normal residuals, fewer when few buckets hold most."""
    level, rest_level = _levels(scores.sum(axis=2).T)[..., None]
    mine = scores[:, SLICE] - level * scores[:, SLICE_WEIGHT]
    rest = scores[:, REST] - rest_level * scores[:, REST_WEIGHT]
    return freedom(rest - mine, 1)
