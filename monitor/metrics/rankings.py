"""Metrics of single rankings (one request each), for a whole batch of them at once.

A batch is three columns with one row for each item shown: ``request`` numbers the rankings from 0,
``position`` counts from 1, ``group`` numbers the slices from 0; a negative group is an item whose
attribute is not known. Targets are shares that add up to 1. Results have one value for each ranking;
average them over requests.

A ranking's values do not depend, not even in the last bit, on what else is in the batch: logarithms are
those of ``math``, and sums run in a fixed order. Groups go by number, items from the top.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.metrics.shares import Floats, share

Ints = NDArray[np.int64]


class Rankings(NamedTuple):
    """A batch in order: requests ascending, and the items of each from the top."""

    request: Ints
    group: Ints
    rank: Ints
    """1, 2, … within the request, whatever gaps the positions have."""
    counts: Ints
    """(N, G) how often each group stands at this rank or above."""
    requests: int


def order_rankings(request: Ints, position: Ints, group: Ints, groups: int) -> Rankings:
    """Sort a batch; equal positions of a request keep their order.

    >>> order_rankings(np.array([0, 0]), np.array([2, 1]), np.array([0, 1]), 2).counts
    array([[0, 1],
           [1, 1]])
    """
    order = np.lexsort((position, request))
    request, group = request[order], group[order]
    starts = np.flatnonzero(np.diff(request, prepend=-1))
    lengths = np.diff(np.append(starts, len(request)))
    rank = np.arange(len(request)) - np.repeat(starts, lengths) + 1
    running = np.cumsum(group[:, None] == np.arange(groups), axis=0, dtype=np.int64)
    before = np.concatenate((np.zeros((1, groups), np.int64), running))[starts]
    requests = int(request[-1]) + 1 if len(request) else 0
    return Rankings(request, group, rank, running - np.repeat(before, lengths, axis=0), requests)


def ndkl(rankings: Rankings, target: Floats) -> Floats:
    """Normalised discounted cumulative KL divergence; 0 is parity (Geyik et al., KDD 2019).

    (1/Z) * sum over i of KL(D_i || q) / log2(i + 1), where D_i is the distribution of groups in the top i
    and Z the sum of the weights. Items of unknown group keep their rank and are in no D_i; NaN if a group
    without a target is shown, or no known one.

    >>> batch = order_rankings(np.array([0, 0]), np.array([1, 2]), np.array([0, 1]), 2)
    >>> ndkl(batch, np.array([0.5, 0.5])).round(4)  # (ln 2 + 0 / log2(3)) / (1 + 1 / log2(3))
    array([0.425])
    """
    shown = rankings.counts.sum(axis=1)
    places = range(1, int(rankings.rank.max(initial=0)) + 1)
    logs = np.array([0.0, *map(math.log, places)])
    discounts = np.array([0.0, *(1 / math.log2(i + 1) for i in places)])
    weights: Floats = np.where(shown > 0, discounts[rankings.rank], 0.0)
    divergences = np.zeros(len(shown))
    for count, part in zip(rankings.counts.T, target.tolist(), strict=True):
        due = math.log(part) if part > 0 else math.nan
        there = count / np.maximum(shown, 1)
        divergences += np.where(count > 0, there * (logs[count] - logs[shown] - due), 0.0)
    total, weight = _sum(rankings, weights * divergences), _sum(rankings, weights)
    return np.asarray(np.where(weight > 0, total / np.where(weight > 0, weight, 1), np.nan))


def div_at_k(rankings: Rankings, k: int) -> Floats:
    """1 if the top k shows every group at least once, else 0: DIV@k (Silva et al., FAccT 2023).

    Of a ranking with fewer than k items the top k is all of it. NaN without any item of a known group.

    >>> batch = order_rankings(np.array([0, 0, 1, 1]), np.array([1, 2, 1, 2]), np.array([0, 1, 1, 1]), 2)
    >>> div_at_k(batch, 2)
    array([1., 0.])
    """
    top = rankings.rank <= k
    seen = _by_group(rankings, top & (rankings.group >= 0), None, rankings.counts.shape[1]) > 0
    return np.asarray(np.where(seen.any(axis=1), seen.all(axis=1), np.nan))


def infeasible_index(rankings: Rankings, target: Floats, k: int) -> Floats:
    """Number of prefixes up to k that have too few of any group (InfeasibleIndex; Geyik et al., KDD 2019).

    A prefix of i items has too few of a group when its count is below floor(q i).

    >>> batch = order_rankings(np.array([0, 0, 0]), np.array([1, 2, 3]), np.array([0, 0, 0]), 3)
    >>> infeasible_index(batch, np.array([0.2, 0.4, 0.4]), 3)  # in the top 3 one of each is due
    array([1.])
    """
    return _sum(rankings, np.asarray(_short(rankings, target, k).any(axis=1), dtype=np.float64))


def infeasible_count(rankings: Rankings, target: Floats, k: int) -> Floats:
    """Number of (prefix, group) pairs with too few (InfeasibleCount; Geyik et al., KDD 2019).

    >>> batch = order_rankings(np.array([0, 0, 0]), np.array([1, 2, 3]), np.array([0, 0, 0]), 3)
    >>> infeasible_count(batch, np.array([0.2, 0.4, 0.4]), 3)
    array([2.])
    """
    return _sum(rankings, np.asarray(_short(rankings, target, k).sum(axis=1), dtype=np.float64))


def ranking_awrf(rankings: Rankings, weights: Floats, target: Floats) -> Floats:
    """AWRF of each ranking (TREC Fair Ranking 2022); ``weights[i]`` is the attention of rank i + 1.

    Ranks beyond the weights have none; NaN for a ranking without attention to a known group.

    >>> batch = order_rankings(np.array([0, 0]), np.array([1, 2]), np.array([0, 1]), 2)
    >>> ranking_awrf(batch, np.array([1.0, 1.0]), np.array([0.5, 0.5]))
    array([1.])
    """
    counted = (rankings.group >= 0) & (rankings.rank <= len(weights))
    exposure = _by_group(rankings, counted, weights[rankings.rank[counted] - 1], len(target))
    divergence = np.zeros(rankings.requests)
    for part, due in zip(share(exposure).T, target.tolist(), strict=True):
        middle = (part + due) / 2
        divergence += part * _log(np.where(part > 0, part / middle, 1.0))
        divergence += due * _log(np.where(due > 0, due / middle, 1.0))
    return np.asarray(1 - divergence / (2 * math.log(2)))


def _by_group(rankings: Rankings, counted: NDArray[np.bool_], amounts: Floats | None, groups: int) -> Floats:
    """(R, G) amounts of the rows that are counted (None: 1 each), summed from the top."""
    place = rankings.request[counted] * groups + rankings.group[counted]
    sums = np.bincount(place, weights=amounts, minlength=rankings.requests * groups)
    return sums.reshape(rankings.requests, groups).astype(np.float64)


def _log(values: Floats) -> Floats:
    """The logarithms of ``math``: those of numpy may differ by a bit from one processor to the other."""
    return np.array(list(map(math.log, values.tolist())), dtype=np.float64)


def _short(rankings: Rankings, target: Floats, k: int) -> NDArray[np.bool_]:
    """(N, G) whether the prefix that ends here has too few of a group; False beyond k."""
    due = np.floor(target * rankings.rank[:, None] + 1e-9)  # 0.29 * 100 is 28.999…
    return np.asarray((rankings.counts < due) & (rankings.rank <= k)[:, None])


def _sum(rankings: Rankings, amounts: Floats) -> Floats:
    sums = np.bincount(rankings.request, weights=amounts, minlength=rankings.requests)
    return sums.astype(np.float64)
