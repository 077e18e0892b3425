"""Means of per-request metrics: when they have an interval, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from monitor.config import Attribute, Attributes, Config, Ranking, WindowSpec
from monitor.config.durations import parse_duration
from monitor.ranking_means import effective_viewers, mean_metrics, viewers_needed

Ints = NDArray[np.int64]
NONE_NEEDED = np.zeros(4)
BUCKETS = 16


def sums(*rates: float) -> Ints:
    """Return sums (1, B, 5) of some requests in every bucket, with metrics of about these means."""
    requests = np.random.default_rng(5).integers(20, 40, (1, BUCKETS))
    chance = np.random.default_rng(6)
    return np.stack([requests, *(chance.binomial(requests, p) * 1_000_000 for p in rates)], 2)


def shown(found: Ints, needed: NDArray[np.float64] = NONE_NEEDED) -> list[bool]:
    """Return which metrics of the first row have an interval."""
    return [bool(np.isfinite(each.lower[0])) for each in mean_metrics(found, needed, 0.95)]


def needed(*targets: float) -> NDArray[np.float64]:
    """Return the viewers that metrics need under these targets."""
    named = {str(value): share for value, share in enumerate(targets)}
    rankings = [Ranking(dimension="item.shape"), Ranking(dimension="item.tone", targets=named)]
    config = Config(
        surfaces=["home"],
        windows=[WindowSpec(length=parse_duration("1h"), slide=parse_duration("1m"))],
        attributes=Attributes(item={"shape": Attribute(values=["x", "y", "z"]), "tone": Attribute()}),
        rankings=rankings,
    )
    assert viewers_needed(config, rankings[0]).tolist() == [0, 0, 0, 0]
    return viewers_needed(config, rankings[1])


def test_intervals_need_spread_and_filled_buckets() -> None:
    """A mean over requests has a jackknife interval around it; none when buckets are empty."""
    some = sums(0.2, 0.5, 0.7, 0.4)
    for value, lower, upper in mean_metrics(some, NONE_NEEDED, 0.95):
        assert 0 < lower[0] < value[0] < upper[0]
    some[:, 5:] = 0
    for value, lower, upper in mean_metrics(some, NONE_NEEDED, 0.95):
        assert value[0] > 0
        assert np.isnan([lower[0], upper[0]]).all()
    none = np.zeros((0, BUCKETS, 5), dtype=np.int64)
    assert all(len(each.value) == 0 for each in mean_metrics(none, NONE_NEEDED, 0.95))


def test_each_metric_needs_viewers_of_its_own() -> None:
    """Of about 400 requests of as many viewers: an interval where no more are needed, and a value always."""
    some = sums(0.2, 0.5, 0.7, 0.4)
    assert 300 < effective_viewers(some[:, :, 0].T.astype(float))[0] < 500
    assert shown(some, np.array([300.0, 500.0, 300.0, 500.0])) == [True, False, True, False]
    assert all(np.isfinite(each.value).all() for each in mean_metrics(some, np.full(4, 500.0), 0.95))


def test_div_at_k_needs_ten_viewers_with_and_ten_without() -> None:
    """Nearly always is as little known as hardly ever; requests of a few viewers are few, however many."""
    assert shown(sums(0.2, 0.5, 0.5, 0.4))[2]
    assert not shown(sums(0.2, 0.5, 0.004, 0.4))[2]
    assert not shown(sums(0.2, 0.5, 0.996, 0.4))[2]
    heavy = sums(0.2, 0.5, 0.5, 0.4)
    heavy[:, ::2] *= 40  # the same as of 8 viewers with 40 times as many requests
    assert effective_viewers(heavy[:, :, 0].T.astype(float))[0] < 20
    assert shown(heavy) == [True, True, False, True]


def test_effective_viewers_are_found_from_buckets() -> None:
    """Equal viewers in random buckets count one each, unequal ones as Kish's effective size."""
    chance = np.random.default_rng(7)
    bucket = chance.integers(0, BUCKETS, (4_000, 300))
    for size in (np.full(300, 12.0), np.random.default_rng(8).geometric(1 / 12, 300).astype(float)):
        requests = np.array([np.bincount(b, weights=size, minlength=BUCKETS) for b in bucket]).T
        kish = size.sum() ** 2 / (size**2).sum()
        inverse = (1 / effective_viewers(requests)).mean()  # which is without bias
        assert 1 / inverse == pytest.approx(kish, rel=0.03)


def test_rare_values_take_more_viewers() -> None:
    """By hand: of two values with shares p and q any metric has squared skewness (1 - 2p)^2 / pq."""
    found = needed(0.95, 0.05)
    squared = (1 - 0.1) ** 2 / (0.95 * 0.05)
    assert found[[0, 1, 3]] == pytest.approx(100 * squared, rel=0.01)
    assert found[2] == 0  # with one value only DIV@k is 0, whichever it is
    assert needed(0.5, 0.5).tolist() == [0, 0, 0, 0]
    assert needed(0.4, 0.3, 0.2, 0.1)[0] == pytest.approx(152, abs=1)
