"""Metrics of single rankings: tables worked by hand, and a slow second way over random batches."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from monitor.metrics.rankings import (
    Rankings,
    div_at_k,
    infeasible_count,
    infeasible_index,
    ndkl,
    order_rankings,
    ranking_awrf,
)

Floats = NDArray[np.float64]
LOG2 = 1 / np.log2(np.arange(2, 12))


def rankings(*texts: str, groups: str = "ab") -> Rankings:
    """Return a batch of rankings, each a text of groups from the top; `?` is an unknown one."""
    rows = [(r, p + 1, groups.find(g)) for r, text in enumerate(texts) for p, g in enumerate(text)]
    request, position, group = np.array(rows).T
    return order_rankings(request, position, group, len(groups))


def test_ndkl_by_hand() -> None:
    """The definition of Geyik et al. written out for the ranking a, a, b, b with halves as target."""
    kl = [
        math.log(2),  # 1 and 0
        math.log(2),  # 2 and 0
        2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3),  # 2 and 1
        0.0,  # 2 and 2
    ]
    weights = [1 / math.log2(i + 1) for i in (1, 2, 3, 4)]
    expected = sum(w * d for w, d in zip(weights, kl, strict=True)) / sum(weights)
    found = ndkl(rankings("aabb", "abab"), np.array([0.5, 0.5]))
    assert found[0] == pytest.approx(expected)
    assert found[1] < found[0]


def test_infeasible_by_hand() -> None:
    """With a target of 1/2 each, one b is due from rank 2, two from rank 4; each prefix that lacks it counts.

    `aaab`: rank 2 lacks one b, rank 3 too, rank 4 lacks the second. `abab` lacks nothing.
    """
    batch = rankings("aaab", "abab", "bbbb")
    target = np.array([0.5, 0.5])
    assert infeasible_index(batch, target, 4).tolist() == [3, 0, 3]
    assert infeasible_index(batch, target, 2).tolist() == [1, 0, 1]
    three = rankings("aaaaaa", groups="abc")
    # due b: 0 0 1 1 1 2, due c the same: from rank 3 both are short
    assert infeasible_count(three, np.array([1 / 3, 1 / 3, 1 / 3]), 6).tolist() == [8]
    assert infeasible_index(three, np.array([1 / 3, 1 / 3, 1 / 3]), 6).tolist() == [4]


def test_div_at_k_by_hand() -> None:
    """Every group within the top k; a short ranking is all of its top k; unknown items show no group."""
    batch = rankings("aab", "aaab", "ab", "a?b", "??")
    found = div_at_k(batch, 3)
    assert found[:4].tolist() == [1, 0, 1, 1]
    assert np.isnan(found[4])
    assert np.nanmean(div_at_k(batch, 2)) == 0.25


def test_awrf_of_a_ranking_by_hand() -> None:
    """The ranking a, b has exposures 1 and 1/log2(3)."""
    second = 1 / math.log2(3)
    share = 1 / (1 + second)
    expected = 1 - float(jensenshannon([share, 1 - share], [0.5, 0.5], base=2)) ** 2
    assert ranking_awrf(rankings("ab"), LOG2, np.array([0.5, 0.5]))[0] == pytest.approx(expected)


def test_items_of_unknown_group_keep_their_rank() -> None:
    """They are in no distribution, and what comes below them is seen less."""
    target = np.array([0.5, 0.5])
    weights = [1 / math.log2(i + 1) for i in (2, 3)]
    expected = weights[0] * math.log(2) / sum(weights)
    assert ndkl(rankings("?ab"), target)[0] == pytest.approx(expected)
    assert np.isnan(ndkl(rankings("??"), target)[0])
    low, high = ranking_awrf(rankings("a??b", "ab"), LOG2, target)
    assert low < high


def test_a_group_without_a_target_has_no_divergence() -> None:
    """It would be infinite."""
    assert np.isnan(ndkl(rankings("ab"), np.array([1.0, 0.0]))[0])


def slow(rows: list[tuple[int, int]], target: Floats, k: int) -> tuple[float, float, float, float]:
    """Return NDKL, DIV@k, InfeasibleIndex and AWRF of one ranking of (position, group), item by item."""
    groups = [g for _, g in sorted(rows)]
    top, z, bad = 0.0, 0.0, 0
    for i in range(1, len(groups) + 1):
        counts = [groups[:i].count(g) for g in range(len(target))]
        w = 1 / math.log2(i + 1)
        top, z = top + w * float(entropy(counts, target)), z + w
        bad += i <= k and any(c < math.floor(q * i + 1e-9) for c, q in zip(counts, target, strict=True))
    div = all(g in groups[:k] for g in range(len(target)))
    seen = [sum(LOG2[r] for r, g in enumerate(groups) if g == h) for h in range(len(target))]
    return top / z, float(div), float(bad), 1 - float(jensenshannon(seen, target, base=2)) ** 2


def test_batches_agree_with_the_slow_way() -> None:
    """200 rankings of 1 to 10 items in any order of rows, with gaps in their positions."""
    chance = np.random.default_rng(8)
    target, k = np.array([0.5, 0.3, 0.2]), 5
    rows = [
        (request, int(position), int(chance.integers(3)))
        for request in range(200)
        for position in chance.choice(np.arange(1, 30), chance.integers(1, 11), replace=False)
    ]
    request, position, group = np.array(rows)[chance.permutation(len(rows))].T
    batch = order_rankings(request, position, group, 3)
    expected = np.array([slow([(p, g) for r, p, g in rows if r == i], target, k) for i in range(200)]).T
    assert ndkl(batch, target) == pytest.approx(expected[0])
    assert div_at_k(batch, k) == pytest.approx(expected[1])
    assert infeasible_index(batch, target, k) == pytest.approx(expected[2])
    assert ranking_awrf(batch, LOG2, target) == pytest.approx(expected[3])


def test_no_rankings_have_no_metrics() -> None:
    """An empty batch gives empty results."""
    none = np.zeros(0, dtype=np.int64)
    batch = order_rankings(none, none, none, 2)
    target = np.array([0.5, 0.5])
    assert len(ndkl(batch, target)) == len(div_at_k(batch, 3)) == len(infeasible_index(batch, target, 3)) == 0
