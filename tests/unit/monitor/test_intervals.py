"""Disparities and their intervals: against slow formulas, fairlearn, and the truth by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame, demographic_parity_ratio, selection_rate
from numpy.typing import NDArray
from scipy import stats

from monitor.estimates import Ratios, Terms, double_ratio, rate_terms, share_terms, t_quantile

Floats = NDArray[np.float64]
BUCKETS = 32


def slow_double_ratio(
    a: Floats, b: Floats, c: Floats, d: Floats, confidence: float
) -> tuple[float, float, float]:
    """Value and interval of (a/b)/(c/d) for one slice, bucket by bucket in plain Python."""
    count = len(a)
    value = (sum(a) / sum(b)) / (sum(c) / sum(d))
    logs = []
    for left_out in range(count):
        sums = [sum(x[i] for i in range(count) if i != left_out) for x in (a, b, c, d)]
        logs.append(math.log((sums[0] / sums[1]) / (sums[2] / sums[3])))
    mean = sum(logs) / count
    se = math.sqrt((count - 1) / count * sum((x - mean) ** 2 for x in logs))
    reach = math.exp(float(stats.t.ppf((1 + confidence) / 2, count - 1)) * se)
    return value, value / reach, value * reach


def test_double_ratio_equals_the_slow_formula() -> None:
    """Vectorised and plain jackknife agree for every slice, at any confidence."""
    chance = np.random.default_rng(7)
    a, b, c, d = (chance.integers(50, 500, (5, BUCKETS)).astype(np.float64) for _ in range(4))
    for confidence in (0.5, 0.95, 0.999):
        found = double_ratio(Terms(a, b, c, d, np.full(5, 0.5), np.zeros(5)), confidence)
        for i in range(5):
            expected = slow_double_ratio(a[i], b[i], c[i], d[i], confidence)
            assert (found.value[i], found.lower[i], found.upper[i]) == pytest.approx(expected, rel=1e-9)


def test_rates_agree_with_fairlearn() -> None:
    """Two slices: the smaller of a disparity and its inverse is fairlearn's demographic parity ratio."""
    chance = np.random.default_rng(11)
    group = chance.choice(["f", "m"], 2_000, p=[0.3, 0.7])
    saved = (chance.random(2_000) < np.where(group == "f", 0.10, 0.16)).astype(int)
    bucket = chance.integers(0, BUCKETS, 2_000)
    trials, events = np.zeros((2, BUCKETS)), np.zeros((2, BUCKETS))
    for i, name in enumerate(["f", "m"]):
        np.add.at(trials[i], bucket[group == name], 1)
        np.add.at(events[i], bucket[(group == name) & (saved == 1)], 1)
    ratios = double_ratio(rate_terms(events, trials), 0.95)
    theirs = demographic_parity_ratio(saved, saved, sensitive_features=group)
    assert min(ratios.value[0], ratios.value[1]) == pytest.approx(theirs)
    rates = MetricFrame(metrics=selection_rate, y_true=saved, y_pred=saved, sensitive_features=group).by_group
    assert events.sum(axis=1) / trials.sum(axis=1) == pytest.approx([rates["f"], rates["m"]])


def test_each_slice_against_all_others_agrees_with_fairlearn() -> None:
    """With more slices, one against the rest is fairlearn's ratio of that slice and everybody else."""
    chance = np.random.default_rng(12)
    group = chance.choice(["1", "4", "7"], 3_000)
    saved = (chance.random(3_000) < 0.1 + 0.05 * (group == "4")).astype(int)
    trials, events = np.zeros((3, BUCKETS)), np.zeros((3, BUCKETS))
    bucket = chance.integers(0, BUCKETS, 3_000)
    for i, name in enumerate(["1", "4", "7"]):
        np.add.at(trials[i], bucket[group == name], 1)
        np.add.at(events[i], bucket[(group == name) & (saved == 1)], 1)
    ratios = double_ratio(rate_terms(events, trials), 0.95)
    for i, name in enumerate(["1", "4", "7"]):
        theirs = demographic_parity_ratio(saved, saved, sensitive_features=group == name)
        assert min(ratios.value[i], 1 / ratios.value[i]) == pytest.approx(theirs)


def test_the_quantile_is_students() -> None:
    """Two-sided, with one degree of freedom less than buckets."""
    for confidence, buckets in ((0.5, 4), (0.95, 32), (0.999, 256)):
        expected = float(stats.t.ppf((1 + confidence) / 2, buckets - 1))
        assert t_quantile(confidence, buckets) == pytest.approx(expected)


# ---------------------------------------------------------------- absence and too little


def fixed(*shares: float) -> tuple[Floats, Floats]:
    """Return reference shares that are certain."""
    part = np.repeat(np.array(shares)[:, None] / BUCKETS, BUCKETS, axis=1)
    return part, np.full(BUCKETS, 1 / BUCKETS)


def spread(*totals: float) -> Floats:
    """Return totals spread evenly over the buckets."""
    return np.repeat(np.array(totals, dtype=np.float64)[:, None] / BUCKETS, BUCKETS, axis=1)


def test_an_absent_slice_has_disparity_0_and_an_upper_end() -> None:
    """Of 1000 expected none came: surely below any tolerance. Of 2 expected none came: nobody knows."""
    for total, surely in ((4_000, True), (8, False)):
        part = spread(0, total)
        ratios = double_ratio(
            share_terms(part, part.sum(axis=0), fixed(0.25, 0.75), np.array([0.0, total])), 0.95
        )
        assert ratios.value[0] == ratios.lower[0] == 0
        assert (ratios.upper[0] < 0.8) == surely


def test_shown_but_never_where_it_counts_is_absent() -> None:
    """A slice whose many impressions are all below the top k has share 0, not no answer."""
    part = spread(0, 3_000)
    impressions = np.array([1_000.0, 3_000.0])
    ratios = double_ratio(share_terms(part, part.sum(axis=0), fixed(0.25, 0.75), impressions), 0.95)
    assert ratios.value[0] == 0
    assert ratios.upper[0] < 0.8
    rates = double_ratio(rate_terms(part, spread(1_000, 3_000), impressions), 0.95)
    assert rates.value[0] == 0
    assert rates.upper[0] < 0.8


def test_nothing_is_known_from_a_single_bucket_or_from_nothing() -> None:
    """One viewer's traffic has no interval; an empty window has no value."""
    one = np.zeros((2, BUCKETS))
    one[:, 3] = 500
    for part in (one, np.zeros((2, BUCKETS))):
        terms = share_terms(part, part.sum(axis=0), fixed(0.5, 0.5), part.sum(axis=1))
        assert np.isnan(np.array(double_ratio(terms, 0.95))).all()


def test_an_unknown_reference_gives_no_number() -> None:
    """A slice without a reference share is not compared with 0."""
    part = spread(100, 100)
    ratios = double_ratio(share_terms(part, part.sum(axis=0), fixed(0.0, 1.0), part.sum(axis=1)), 0.95)
    assert np.isnan(ratios.value[0])
    assert np.isfinite(ratios.value[1])


# ---------------------------------------------------------------- coverage

VIEWERS, RUNS = 300, 300


def _viewers(chance: np.random.Generator) -> tuple[NDArray[np.int64], Floats]:
    """Return a bucket for each viewer and each viewer's number of impressions, some with very many."""
    return chance.integers(0, BUCKETS, VIEWERS), chance.geometric(1 / 12, VIEWERS).astype(np.float64)


def _bucketed(bucket: NDArray[np.int64], *amounts: Floats) -> Floats:
    sums = np.zeros((len(amounts), BUCKETS))
    for row, amount in zip(sums, amounts, strict=True):
        np.add.at(row, bucket, amount)
    return sums


def share_run(chance: np.random.Generator) -> tuple[Ratios, float]:
    """A slice with 30 % of the impressions, where viewers differ in taste; and a naive error."""
    bucket, shown = _viewers(chance)
    taste = chance.beta(0.9, 2.1, VIEWERS)
    mine = chance.binomial(shown.astype(int), taste).astype(np.float64)
    part = _bucketed(bucket, mine, shown - mine)
    terms = share_terms(part, part.sum(axis=0), fixed(0.3, 0.7), part.sum(axis=1))
    total = shown.sum()
    return double_ratio(terms, 0.95), math.sqrt(0.7 / (0.3 * total))


def baseline_run(chance: np.random.Generator) -> tuple[Ratios, float]:
    """The same against a baseline of the same viewers three times as long."""
    bucket, shown = _viewers(chance)
    taste = chance.beta(0.9, 2.1, VIEWERS)
    sums = []
    for length in (1, 3):
        count = (shown * length).astype(int)
        mine = chance.binomial(count, taste).astype(np.float64)
        sums.append(_bucketed(bucket, mine, count - mine))
    now, before = sums
    terms = share_terms(now, now.sum(axis=0), (before, before.sum(axis=0)), now.sum(axis=1))
    return double_ratio(terms, 0.95), 0.0


def rate_run(chance: np.random.Generator) -> tuple[Ratios, float]:
    """Two groups of viewers with the same click rate of 10 %, where viewers differ; and a naive error."""
    bucket, shown = _viewers(chance)
    group = chance.random(VIEWERS) < 0.3
    clicks = chance.binomial(shown.astype(int), chance.beta(0.6, 5.4, VIEWERS)).astype(np.float64)
    trials = _bucketed(bucket, shown * group, shown * ~group)
    events = _bucketed(bucket, clicks * group, clicks * ~group)
    naive = math.sqrt(sum(0.9 / (0.1 * n) for n in trials.sum(axis=1)))
    return double_ratio(rate_terms(events, trials), 0.95), naive


@pytest.mark.parametrize("run", [share_run, baseline_run, rate_run])
def test_intervals_cover_the_truth(run: Callable[[np.random.Generator], tuple[Ratios, float]]) -> None:
    """At 95 % about 95 of 100 intervals hold the true 1, on both sides, though impressions are correlated."""
    chance = np.random.default_rng(20_191_124)
    found = [run(chance) for _ in range(RUNS)]
    low = sum(float(r.upper[0]) < 1 for r, _ in found) / RUNS
    high = sum(float(r.lower[0]) > 1 for r, _ in found) / RUNS
    assert 0.90 <= 1 - low - high <= 0.99
    assert max(low, high) <= 0.07
    if found[0][1]:
        naive = sum(abs(math.log(float(r.value[0]))) < 1.96 * error for r, error in found) / RUNS
        assert naive < 0.85  # as if impressions were independent


def test_the_poisson_floor_holds_where_buckets_agree_by_chance() -> None:
    """With equal buckets the interval is that of a count, of shares of one among others; never a point."""
    part = spread(64, 640)
    terms = share_terms(part, part.sum(axis=0), fixed(0.1, 0.9), part.sum(axis=1))
    ratios = double_ratio(terms, 0.95)
    assert ratios.log_se == pytest.approx([math.sqrt(640 / 704 / 64.5), math.sqrt(64 / 704 / 640.5)])
    rates = double_ratio(rate_terms(spread(4, 40), spread(100, 1000)), 0.95)
    assert rates.log_se[0] == pytest.approx(math.sqrt(1 / 4.5 + 1 / 40.5))


def test_a_slice_that_has_everything_is_not_sure_to_the_last_digit() -> None:
    """Ten impressions, all of one slice: others may well have a share too, less so after ten thousand."""
    reach = []
    for count in (10, 10_000):
        part = spread(count, 0)
        terms = share_terms(part, part.sum(axis=0), fixed(0.9, 0.1), part.sum(axis=1))
        reach.append(float(double_ratio(terms, 0.95).log_se[0]))
    assert reach == pytest.approx([math.sqrt(0.5) / 10.5, math.sqrt(0.5) / 10_000.5])


def test_intervals_do_not_depend_on_how_thin_the_rest_is() -> None:
    """When nearly all impressions are of one slice, it is as unsure as the rest is."""
    trials, events = spread(10_000, 40), spread(1_000, 4)
    for i in (0, 1):
        ratios = double_ratio(rate_terms(events, trials), 0.95)
        assert ratios.lower[i] < 0.8
        assert ratios.upper[i] > 1.25
