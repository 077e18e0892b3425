"""Metrics of slices and dimensions: against fairlearn, tables worked by hand, and slow second ways."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_difference,
    demographic_parity_ratio,
    selection_rate,
)
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from monitor.metrics import divergence, inequality, rates, shares
from monitor.metrics.dimensions import inequality_metrics, skew_metrics, target_metrics

Floats = NDArray[np.float64]


def log_of(
    groups: Sequence[str], counts: Sequence[int], events: Sequence[int]
) -> tuple[list[str], list[int]]:
    """Return one row for each impression: its group, and whether it was engaged with."""
    group = [g for g, n in zip(groups, counts, strict=True) for _ in range(n)]
    engaged = [int(i < y) for n, y in zip(counts, events, strict=True) for i in range(n)]
    return group, engaged


@pytest.mark.parametrize(
    ("counts", "events"), [([50, 20], [5, 1]), ([317, 211, 97], [31, 8, 0]), ([7, 13, 19, 23], [3, 3, 3, 3])]
)
def test_rates_are_fairlearns_to_the_last_digit(counts: list[int], events: list[int]) -> None:
    """Rates by group, largest difference and smallest ratio are the same floating point numbers."""
    names = [f"g{i}" for i in range(len(counts))]
    group, engaged = log_of(names, counts, events)
    frame = MetricFrame(metrics=selection_rate, y_true=engaged, y_pred=engaged, sensitive_features=group)
    y, n = np.array(events, float), np.array(counts, float)
    assert rates.rate(y, n).tolist() == frame.by_group.tolist()
    theirs = demographic_parity_difference(engaged, engaged, sensitive_features=group)
    assert float(rates.demographic_parity_difference(y, n)) == theirs
    theirs = demographic_parity_ratio(engaged, engaged, sensitive_features=group)
    assert float(rates.demographic_parity_ratio(y, n)) == theirs


def test_one_slice_against_the_rest_is_fairlearns_with_two_groups() -> None:
    """The difference and the ratio of a slice and everybody else."""
    counts, events = [317, 211, 97], [31, 8, 4]
    group, engaged = log_of(["a", "b", "c"], counts, events)
    y, n = np.array(events, float), np.array(counts, float)
    for i, name in enumerate("abc"):
        mine = [g == name for g in group]
        frame = MetricFrame(metrics=selection_rate, y_true=engaged, y_pred=engaged, sensitive_features=mine)
        slice_rate, rest_rate = frame.by_group[True], frame.by_group[False]
        assert rates.rate_difference(y, n)[i] == slice_rate - rest_rate
        assert rates.rate_ratio(y, n)[i] == slice_rate / rest_rate
        assert abs(rates.rate_difference(y, n)[i]) == demographic_parity_difference(
            engaged, engaged, sensitive_features=mine
        )


# ---------------------------------------------------------------- worked by hand


def test_shares_and_ratios_by_hand() -> None:
    """60, 30 and 10 of 100 against a supply of 2, 1 and 1 of 4."""
    exposure, supply = np.array([60.0, 30.0, 10.0]), np.array([2.0, 1.0, 1.0])
    assert shares.share(exposure) == pytest.approx([0.6, 0.3, 0.1])
    assert shares.exposure_ratio(exposure, supply) == pytest.approx([0.6 / 0.5, 0.3 / 0.25, 0.1 / 0.25])
    # 60 for 2 against 40 for 2; 30 for 1 against 70 for 3; 10 for 1 against 90 for 3
    assert shares.exposure_ratio_to_rest(exposure, supply) == pytest.approx([30 / 20, 30 / (70 / 3), 10 / 30])
    assert shares.skew_at_k(exposure, supply) == pytest.approx([math.log(1.2), math.log(1.2), math.log(0.4)])
    assert float(shares.min_skew(exposure, supply)) == pytest.approx(math.log(0.4))
    assert float(shares.max_skew(exposure, supply)) == pytest.approx(math.log(1.2))


def test_divergences_by_hand() -> None:
    """3/4 and 1/4 against halves."""
    p, q = np.array([3.0, 1.0]), np.array([1.0, 1.0])
    assert float(divergence.kl_divergence(p, q)) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    # the middle is 5/8 and 3/8
    jsd = 0.5 * (
        0.75 * math.log2(6 / 5) + 0.25 * math.log2(2 / 3) + 0.5 * math.log2(4 / 5) + 0.5 * math.log2(4 / 3)
    )
    assert float(divergence.awrf(p, q)) == pytest.approx(1 - jsd)
    assert float(divergence.equity_of_attention(p, q)) == 0.5
    assert float(divergence.expected_exposure_loss(p, q)) == 2 * 0.25**2
    assert float(divergence.expected_exposure_disparity(p)) == 10 / 16
    assert float(divergence.expected_exposure_relevance(p, q)) == 1.0
    assert float(inequality.theil(p)) == pytest.approx(float(divergence.kl_divergence(p, q)))
    assert float(inequality.gini(np.array([1.0, 2.0, 5.0]))) == pytest.approx((1 + 4 + 3) / 3 / 3 / (8 / 3))


def test_divergences_agree_with_scipy_and_slow_formulas() -> None:
    """On random distributions with a zero."""
    chance = np.random.default_rng(5)
    for _ in range(20):
        p, q = chance.dirichlet(np.ones(5)), chance.dirichlet(np.ones(5))
        p[2] = 0
        p /= p.sum()
        assert float(divergence.kl_divergence(p, q)) == pytest.approx(float(entropy(p, q)))
        assert float(divergence.js_divergence(p, q)) == pytest.approx(float(jensenshannon(p, q, base=2)) ** 2)
        pairs = sum(abs(a - b) for a, b in combinations(p, 2)) / 5**2
        assert float(inequality.gini(p)) == pytest.approx(pairs * 5)
        loss = (
            divergence.expected_exposure_disparity(p) - divergence.expected_exposure_relevance(p, q) + q @ q
        )
        assert float(divergence.expected_exposure_loss(p, q)) == pytest.approx(float(loss))


# ---------------------------------------------------------------- too little, never a made-up number


def test_nothing_gives_no_number() -> None:
    """Of empty sums every metric is NaN; so is what would be infinite."""
    none, q = np.zeros(3), np.array([0.5, 0.3, 0.2])
    for found in (
        shares.share(none),
        shares.exposure_ratio(none, q),
        shares.exposure_ratio_to_rest(none, q),
        shares.skew_at_k(none, q),
        shares.min_skew(none, q),
        shares.max_skew(none, q),
        shares.min_skew(q, none),
        shares.max_skew(q, none),
        rates.rate(none, none),
        rates.rate_ratio(none, none),
        rates.rate_difference(none, none),
        rates.demographic_parity_difference(none, none),
        rates.demographic_parity_ratio(none, none),
        rates.demographic_parity_ratio(none, q),
        divergence.kl_divergence(none, q),
        divergence.awrf(none, q),
        divergence.equity_of_attention(none, q),
        divergence.expected_exposure_loss(none, q),
        divergence.expected_exposure_disparity(none),
        divergence.expected_exposure_relevance(none, q),
        inequality.gini(none),
        inequality.theil(none),
    ):
        assert np.isnan(found).all()


def test_what_would_be_infinite_gives_no_number() -> None:
    """Exposure without a target, a slice without a place, a rest without events."""
    some, q = np.array([2.0, 0.0]), np.array([0.0, 1.0])
    assert np.isnan(divergence.kl_divergence(some, q))
    assert np.isnan(shares.exposure_ratio(some, q)[0])
    assert np.isnan(shares.skew_at_k(some, np.array([0.5, 0.5]))[1])
    assert np.isnan(shares.min_skew(some, np.array([0.5, 0.5])))
    assert float(shares.max_skew(some, np.array([0.5, 0.5]))) == pytest.approx(math.log(2))
    assert np.isnan(rates.rate_ratio(some, np.array([4.0, 4.0]))[0])


def test_a_slice_without_trials_takes_no_part_in_extremes() -> None:
    """Its rate is unknown, not 0."""
    y, n = np.array([5.0, 1.0, 0.0]), np.array([50.0, 20.0, 0.0])
    assert float(rates.demographic_parity_difference(y, n)) == 0.05
    assert float(rates.demographic_parity_ratio(y, n)) == 0.5


# ---------------------------------------------------------------- of a dimension


def spread(*amounts: float, buckets: int = 32) -> Floats:
    """Return sums (B, S) that differ a little between buckets."""
    chance = np.random.default_rng(3)
    return chance.poisson(np.array(amounts) / buckets, (buckets, len(amounts))).astype(float)


def test_metrics_of_a_dimension_have_their_names_and_intervals() -> None:
    """Smooth ones with an interval around the value; sorted, absolute and extreme ones without."""
    exposure, target = spread(6_000, 3_000, 1_000), np.tile([0.5, 0.3, 0.2], (32, 1)) / 32
    found = {
        m.name: m
        for m in (
            *inequality_metrics(exposure),
            *target_metrics(exposure, target),
            *skew_metrics(exposure, target),
        )
    }
    bare = {"gini", "equity_of_attention", "min_skew", "max_skew"}
    assert set(found) == bare | {
        "theil",
        "awrf",
        "kl_divergence",
        "expected_exposure_disparity",
        "expected_exposure_loss",
        "expected_exposure_relevance",
    }
    for name, metric in found.items():
        if name in bare:
            assert np.isnan([metric.lower, metric.upper]).all()
        else:
            assert metric.lower < metric.value < metric.upper
    assert found["awrf"].value == pytest.approx(float(divergence.awrf(exposure.sum(0), target.sum(0))))


def test_at_exact_parity_the_interval_begins_at_parity() -> None:
    """Also when rounding leaves the divergence below 0."""
    even = np.ones((32, 3))
    for metric in target_metrics(even, even):
        if metric.name in {"kl_divergence", "expected_exposure_loss"}:
            assert metric.value == 0


def test_few_viewers_give_a_value_without_an_interval() -> None:
    """With anybody in fewer than three quarters of the buckets."""
    for filled, shown in ((23, False), (24, True)):
        exposure = spread(6_000, 3_000)
        exposure[filled:] = 0
        [theil] = [m for m in inequality_metrics(exposure) if m.name == "theil"]
        assert np.isfinite(theil.value)
        assert np.isfinite(theil.upper) == shown


def test_one_slice_has_no_inequality() -> None:
    """There is nothing to compare; nor in an empty window."""
    assert list(inequality_metrics(spread(6_000))) == []
    assert list(inequality_metrics(np.zeros((32, 3)))) == []
    assert list(target_metrics(np.zeros((32, 3)), np.ones((32, 3)))) == []
