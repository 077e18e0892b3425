"""Intervals of any function of sums: against slow formulas, and the truth by a small simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from monitor.metrics.divergence import kl_divergence
from monitor.metrics.jackknife import (
    Replicates,
    Scale,
    estimate,
    estimate_rate_differences,
    estimate_rates,
    replicate,
)
from monitor.metrics.rates import rate, rate_difference
from monitor.metrics.shares import Floats, share
from tests.statistics.coverage import Row, simulate
from tests.statistics.traffic import item_side, true_rates

BUCKETS = 32


def some_sums(*means: float, seed: int = 2) -> Floats:
    """Return random sums (B, S)."""
    return np.random.default_rng(seed).poisson(means, (BUCKETS, len(means))).astype(np.float64)


def test_replicates_leave_out_one_bucket() -> None:
    """The value is of all buckets; each replicate of all but one; the error is the textbook's."""
    y, n = some_sums(8, 2), some_sums(100, 30, seed=3)
    found = replicate(rate, y, n)
    assert found.value == pytest.approx(y.sum(0) / n.sum(0))
    left = np.array([np.delete(y, b, 0).sum(0) / np.delete(n, b, 0).sum(0) for b in range(BUCKETS)])
    assert found.left == pytest.approx(left)
    assert found.se == pytest.approx(np.sqrt((BUCKETS - 1) * left.var(axis=0)))
    assert found.bias == pytest.approx((BUCKETS - 1) * (left.mean(axis=0) - found.value))


def test_axes_between_buckets_and_slices_are_carried_along() -> None:
    """Many windows at once give what each gives alone."""
    many = np.stack([some_sums(9, 5, seed=s) for s in range(4)], axis=1)
    together = estimate(replicate(share, many), Scale.LOGIT)
    for w in range(4):
        alone = estimate(replicate(share, many[:, w]), Scale.LOGIT)
        assert np.array(together)[:, w] == pytest.approx(np.array(alone))


def test_degrees_of_freedom_are_those_of_the_buckets_that_matter() -> None:
    """B-1 when all deviate alike, few when one bucket carries nearly all of the spread."""
    alike = Replicates(np.array(1.0), np.array([0.9, 1.1] * 16))
    assert alike.freedom == BUCKETS - 1
    one = Replicates(np.array(1.0), np.array([2.0] + [1.0] * 31))
    assert 1 <= one.freedom < 3


def test_scales_are_symmetric_where_they_say() -> None:
    """Plain around the value, ratios in proportion, shares in odds."""
    found = replicate(share, some_sums(30, 10))
    for scale, forward in (
        (Scale.PLAIN, np.asarray),
        (Scale.LOG, np.log),
        (Scale.LOGIT, lambda p: np.log(p / (1 - p))),
    ):
        value, lower, upper = (forward(x) for x in estimate(found, scale))
        assert upper - value == pytest.approx(value - lower)
    wide, narrow = (estimate(found, Scale.LOGIT, confidence) for confidence in (0.99, 0.5))
    assert (wide.lower < narrow.lower).all()
    assert (wide.upper > narrow.upper).all()


def test_what_is_certain_is_a_point_and_what_is_unknown_nothing() -> None:
    """Equal replicates have an interval of no width; a rate of 0 has none on the logit."""
    certain = estimate(Replicates(np.array(1.0), np.ones(BUCKETS)), Scale.PLAIN)
    assert certain.lower == certain.upper == 1
    none = estimate(replicate(rate, np.zeros((BUCKETS, 1)), some_sums(100)), Scale.LOGIT)
    assert none.value == 0
    assert np.isnan([none.lower, none.upper]).all()


def test_a_rate_needs_expected_events_not_events() -> None:
    """The floor asks what the impressions should bring at everybody's rate."""
    n = np.tile([100.0, 5.0], (BUCKETS, 1))
    y = np.tile([10.0, 0.0], (BUCKETS, 1))
    y[:12, 1] = 1
    found = estimate_rates(y, n)
    assert np.isfinite(found.upper).all()
    y[:, 0] = 4  # now 160 impressions of the second bring 7 at the rate of all
    found = estimate_rates(y, n)
    assert np.isfinite(found.upper).tolist() == [True, False]
    assert np.isfinite(found.value).all()
    assert np.isnan(estimate_rate_differences(y, n).upper).all()  # nor has the first anything to differ from


def test_rate_differences_are_values_of_the_metric_within_their_interval() -> None:
    """The value is the plain difference; thin rates reach further up than down."""
    y, n = some_sums(20, 0.6), some_sums(400, 12, seed=4)
    found = estimate_rate_differences(y, n)
    assert found.value == pytest.approx(rate_difference(y.sum(0), n.sum(0)))
    assert (found.lower < found.value).all()
    assert (found.value < found.upper).all()
    assert found.upper[1] - found.value[1] > found.value[1] - found.lower[1]
    assert found.upper[0] - found.value[0] == pytest.approx(found.value[1] - found.lower[1])


def test_far_from_parity_a_divergence_is_normal_on_its_root() -> None:
    """Where D is many errors away from 0, its root has the jackknife's error with Student's t."""
    sums = 1_000 * some_sums(60, 30, 10)
    found = replicate(lambda a: kl_divergence(a, np.ones(3)), sums)
    value, lower, upper = estimate(found, Scale.DIVERGENCE, slices=3)
    roots = Replicates(np.sqrt(found.value), np.sqrt(found.left))
    reach = stats.t.ppf(0.975, roots.freedom) * roots.se
    assert math.sqrt(lower) == pytest.approx(math.sqrt(value) - reach, rel=0.02)
    assert math.sqrt(upper) == pytest.approx(math.sqrt(value) + reach, rel=0.02)


def test_near_parity_a_divergence_is_not_told_from_0() -> None:
    """When 60 draws come from the target itself the lower end is 0 in nearly all cases, the upper above 0."""
    p = np.array([0.5, 0.3, 0.2])
    chance = np.random.default_rng(6)
    sums = chance.multinomial(40, p, (BUCKETS, 60)).astype(float)
    _, lower, upper = estimate(replicate(lambda a: kl_divergence(a, p), sums), Scale.DIVERGENCE, slices=3)
    assert (lower == 0).sum() >= 55
    assert (upper > 0).sum() >= 58


# ---------------------------------------------------------------- coverage


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Return the coverage of every metric at two levels of traffic: a small form of `make bench-coverage`."""
    return simulate((100, 1_000), 250, 20_191_124, lambda _: None)


def test_intervals_cover_the_truth_wherever_they_are_shown(rows: list[Row]) -> None:
    """Nominal 95 %: with 250 runs (and up to 5 slices) between 91 and 99.6 % of what is shown."""
    seen = [row for row in rows if row.shown >= 0.2]
    assert len(seen) >= 0.8 * len(rows)
    assert {(r.metric, r.side): r.coverage for r in seen if not 0.91 <= r.coverage <= 0.996} == {}


def test_binomial_intervals_do_not(rows: list[Row]) -> None:
    """As if impressions were independent: of shares they hold the truth in less than 70 of 100 cases."""
    naive = [row.naive for row in rows if row.naive is not None and "share" in row.metric]
    assert naive
    assert max(naive) < 0.7
    rates = [
        row.naive for row in rows if row.naive is not None and "rate" in row.metric and row.side == "viewer"
    ]
    assert max(rates) < 0.9


def test_the_simulation_knows_its_truth() -> None:
    """Over many runs the rates are those that the intervals are held against."""
    sums = item_side(np.random.default_rng(9), 100, 1_000)
    found = sums.events.sum((0, 1)) / sums.impressions.sum((0, 1))
    assert found == pytest.approx(true_rates(), rel=0.05)
