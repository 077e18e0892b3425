"""One number for all slices of a dimension, with its interval where one holds."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from monitor.metrics.divergence import (
    equity_of_attention,
    expected_exposure_loss,
    expected_exposure_relevance,
    js_divergence,
    kl_divergence,
)
from monitor.metrics.inequality import gini, theil
from monitor.metrics.jackknife import LEAST_FILLED, Estimates, Flags, Replicates, Scale, estimate, replicate
from monitor.metrics.shares import Floats, max_skew, min_skew


class Named(NamedTuple):
    """A metric of a dimension."""

    name: str
    value: float
    lower: float
    """NaN where no interval holds; so is ``upper``."""
    upper: float


def inequality_metrics(exposure: Floats, confidence: float = 0.95) -> Iterator[Named]:
    """Gini, Theil and EE-D of exposure (B, S). Those that are undefined are left out.

    >>> [m.name for m in inequality_metrics(np.ones((4, 3)))]
    ['theil', 'expected_exposure_disparity', 'gini']
    """
    slices = exposure.shape[-1]
    if slices > 1:
        uniform = np.full(slices, 1 / slices)
        yield from _named("theil", _divergence(theil, confidence, exposure))
        loss = _divergence(lambda a: expected_exposure_loss(a, uniform), confidence, exposure)
        yield from _named("expected_exposure_disparity", Estimates(*(x + 1 / slices for x in loss)))
        yield from _named("gini", _bare(gini, exposure))


def target_metrics(exposure: Floats, target: Floats, confidence: float = 0.95) -> Iterator[Named]:
    """Exposure against a target, both (B, S): AWRF, KL, EE-L, EE-R and equity of attention.

    >>> even = np.ones((4, 2))
    >>> [(m.name, m.value) for m in target_metrics(even, even)][:2]
    [('awrf', 1.0), ('kl_divergence', 0.0)]
    """
    sums = (exposure, target)
    value, lower, upper = _divergence(js_divergence, confidence, *sums)
    yield from _named("awrf", Estimates(1 - value, 1 - upper, 1 - lower))
    yield from _named("kl_divergence", _divergence(kl_divergence, confidence, *sums))
    yield from _named("expected_exposure_loss", _divergence(expected_exposure_loss, confidence, *sums))
    relevance = estimate(replicate(expected_exposure_relevance, *sums), Scale.PLAIN, confidence)
    yield from _named("expected_exposure_relevance", relevance.where(_filled(exposure)))
    yield from _named("equity_of_attention", _bare(equity_of_attention, *sums))


def skew_metrics(top_k: Floats, target: Floats) -> Iterator[Named]:
    """Smallest and largest skew@k of impressions in the top k against a target, both (B, S).

    >>> [(m.name, round(m.value, 2)) for m in skew_metrics(np.array([[3.0, 1.0]]), np.array([[0.5, 0.5]]))]
    [('min_skew', -0.69), ('max_skew', 0.41)]
    """
    yield from _named("min_skew", _bare(min_skew, top_k, target))
    yield from _named("max_skew", _bare(max_skew, top_k, target))


def _named(name: str, found: Estimates) -> Iterator[Named]:
    if np.isfinite(found.value):
        yield Named(name, *(float(x) for x in found))


def _divergence(function: Callable[..., Floats], confidence: float, *sums: Floats) -> Estimates:
    found = replicate(function, *sums)
    # rounding alone can leave a zero divergence a hair below 0
    at_least_0 = Replicates(np.maximum(found.value, 0.0), np.maximum(found.left, 0.0))
    slices = max(sums[0].shape[-1], 2)
    return estimate(at_least_0, Scale.DIVERGENCE, confidence, slices).where(_filled(sums[0]))


def _bare(function: Callable[..., Floats], *sums: Floats) -> Estimates:
    """The value alone: sorted, absolute, largest and smallest values have no honest interval."""
    value = np.asarray(function(*(x.sum(axis=0) for x in sums)))
    return Estimates(value, np.asarray(np.nan), np.asarray(np.nan))


def _filled(exposure: Floats) -> Flags:
    """Whether enough viewer buckets hold anybody."""
    return np.asarray((exposure.sum(axis=-1) > 0).mean(axis=0) >= LEAST_FILLED)
