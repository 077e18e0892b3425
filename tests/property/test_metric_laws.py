"""Laws of the metrics: order of slices, splitting slices, scale, slices of nothing, order of rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from monitor.metrics import divergence, inequality, rankings, shares
from monitor.metrics.jackknife import Scale, estimate, replicate

pytestmark = pytest.mark.property

Floats = NDArray[np.float64]
Metric = Callable[..., Floats]

OF_TARGET = [
    divergence.kl_divergence,
    divergence.awrf,
    divergence.equity_of_attention,
    divergence.expected_exposure_loss,
    divergence.expected_exposure_relevance,
    shares.min_skew,
    shares.max_skew,
]
OF_EXPOSURE = [inequality.gini, inequality.theil, divergence.expected_exposure_disparity]

amounts = st.lists(st.tuples(st.integers(0, 1_000), st.integers(1, 1_000)), min_size=2, max_size=8).map(
    lambda rows: np.array(rows, dtype=np.float64).T
)
"""Exposure and target of two to eight slices."""


def same(a: Floats, b: Floats) -> bool:
    """Whether two results are equal but for rounding; NaN equals NaN."""
    return bool(np.allclose(a, b, rtol=1e-9, atol=1e-9, equal_nan=True))


@pytest.mark.parametrize("metric", OF_TARGET)
@given(both=amounts, data=st.data())
def test_slices_may_come_in_any_order(metric: Metric, both: Floats, data: st.DataObject) -> None:
    """A metric of a dimension knows no order of its slices."""
    order = data.draw(st.permutations(range(both.shape[1])))
    assert same(metric(*both), metric(*both[:, order]))


@pytest.mark.parametrize("metric", OF_EXPOSURE)
@given(both=amounts, data=st.data())
def test_inequality_knows_no_order(metric: Metric, both: Floats, data: st.DataObject) -> None:
    """The same without a target."""
    order = data.draw(st.permutations(range(both.shape[1])))
    assert same(metric(both[0]), metric(both[0, order]))


@pytest.mark.parametrize("metric", OF_TARGET)
@given(both=amounts, scale=st.floats(0.01, 100), other=st.floats(0.01, 100))
def test_only_proportions_count(metric: Metric, both: Floats, scale: float, other: float) -> None:
    """Twice the traffic, or targets that add up to 2, change nothing."""
    assert same(metric(*both), metric(both[0] * scale, both[1] * other))


@pytest.mark.parametrize("metric", OF_EXPOSURE)
@given(both=amounts, scale=st.floats(0.01, 100))
def test_inequality_is_of_proportions(metric: Metric, both: Floats, scale: float) -> None:
    """The same without a target."""
    assert same(metric(both[0]), metric(both[0] * scale))


@pytest.mark.parametrize("metric", [m for m in OF_TARGET if "expected" not in m.__name__])
@given(both=amounts, part=st.floats(0.01, 0.99), data=st.data())
def test_a_slice_may_be_split(metric: Metric, both: Floats, part: float, data: st.DataObject) -> None:
    """Two slices that are treated alike count as one; not for EE, whose squares know how many there are."""
    i = data.draw(st.integers(0, both.shape[1] - 1))
    split = np.concatenate((both, both[:, [i]] * (1 - part)), axis=1)
    split[:, i] *= part
    assert same(metric(*both), metric(*split))


@pytest.mark.parametrize("metric", OF_TARGET)
@given(both=amounts)
def test_a_slice_of_nothing_changes_nothing(metric: Metric, both: Floats) -> None:
    """No exposure and no target."""
    assert same(metric(*both), metric(*np.concatenate((both, np.zeros((2, 1))), axis=1)))


@given(both=amounts)
def test_parity_and_bounds(both: Floats) -> None:
    """At the target everything is at parity; nothing leaves its bounds."""
    exposure, target = both
    assert same(divergence.awrf(target, target), np.array(1.0))
    for metric in (
        divergence.kl_divergence,
        divergence.equity_of_attention,
        divergence.expected_exposure_loss,
        shares.min_skew,
        shares.max_skew,
    ):
        assert same(metric(target, target), np.array(0.0))
    assume(exposure.any())
    count = len(exposure)
    assert -1e-9 <= float(divergence.awrf(exposure, target)) <= 1 + 1e-9
    assert 0 <= float(divergence.equity_of_attention(exposure, target)) <= 2 + 1e-9
    assert -1e-9 <= float(inequality.gini(exposure)) <= 1 - 1 / count + 1e-9
    assert -1e-9 <= float(inequality.theil(exposure)) <= np.log(count) + 1e-9
    assert float(shares.max_skew(exposure, target)) >= -1e-9


@given(
    sums=st.lists(st.lists(st.integers(1, 50), min_size=3, max_size=3), min_size=4, max_size=8),
    data=st.data(),
)
def test_buckets_may_come_in_any_order(sums: list[list[int]], data: st.DataObject) -> None:
    """A jackknife interval does not know which bucket is which, and holds its value."""
    array = np.array(sums, dtype=np.float64)
    order = data.draw(st.permutations(range(len(sums))))
    one, other = (estimate(replicate(shares.share, x), Scale.LOGIT) for x in (array, array[order]))
    assert same(np.array(one), np.array(other))
    assert (one.lower <= one.value + 1e-12).all()
    assert (one.value <= one.upper + 1e-12).all()


batches = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=6)
"""Rankings of three groups."""


@given(batch=batches, data=st.data())
def test_rows_and_groups_may_come_in_any_order(batch: list[list[int]], data: st.DataObject) -> None:
    """Rankings are told apart by their columns, groups by their target."""
    rows = [(r, p + 1, g) for r, groups in enumerate(batch) for p, g in enumerate(groups)]
    target = np.array([0.5, 0.3, 0.2])
    weights = 1 / np.log2(np.arange(2, 10))

    def metrics(rows: list[tuple[int, int, int]], target: Floats) -> Floats:
        request, position, group = np.array(rows).T
        found = rankings.order_rankings(request, position, group, 3)
        return np.array(
            [
                rankings.ndkl(found, target),
                rankings.div_at_k(found, 4),
                rankings.infeasible_index(found, target, 6),
                rankings.infeasible_count(found, target, 6),
                rankings.ranking_awrf(found, weights, target),
            ]
        )

    once = metrics(rows, target)
    assert same(once, metrics(data.draw(st.permutations(rows)), target))
    number = data.draw(st.permutations(range(3)))
    renamed = [(r, p, number[g]) for r, p, g in rows]
    assert same(once, metrics(renamed, target[np.argsort(number)]))
    alone = [metrics([(0, p, g) for r, p, g in rows if r == i], target)[:, 0] for i in range(len(batch))]
    assert same(once, np.array(alone).T)
