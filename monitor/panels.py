"""What panels show: shares and rates of every slice, and metrics of whole dimensions, for each window.

Slices that :mod:`monitor.suppression` hides are left out; those that a reference names and that have no
impressions are shown with 0.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.baselines import ReferenceShares
from monitor.config import Config
from monitor.config import Metric as RuleMetric
from monitor.estimates import Ratios, Terms, double_ratio, share_terms
from monitor.judge import EXPOSURE, FIRST_ACTION, IMPRESSIONS, TOP_K
from monitor.metrics.dimensions import Named, inequality_metrics, skew_metrics, target_metrics
from monitor.metrics.jackknife import estimate_rates
from monitor.requests import candidates_measure
from monitor.rules import watched_dimensions
from monitor.suppression import Flags, hidden_slices
from monitor.watch import SurfaceWatch
from monitor.windows import SlidingWindow

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
CONFIDENCE = 0.95


class Share(NamedTuple):
    """A slice's exposure in a window."""

    window: str
    dimension: str
    slice: str
    impressions: int
    share: float
    lower: float
    upper: float


class Rate(NamedTuple):
    """A slice's engagement rate in a matured window."""

    window: str
    dimension: str
    slice: str
    action: str
    rate: float
    lower: float
    """NaN where there is no interval; so is ``upper``."""
    upper: float


class Whole(NamedTuple):
    """A metric of all slices of a dimension in a window."""

    window: str
    dimension: str
    metric: Named


class _Seen(NamedTuple):
    """A dimension in a window: its slices, their sums (S, B, M), and which of them are not shown."""

    dimension: str
    slices: list[str]
    sums: Ints
    hidden: Flags


class SurfacePanels:
    """The figures of one surface, from its running windows."""

    def __init__(self, config: Config, watch: SurfaceWatch) -> None:
        """Dimensions are those listed and those of rules."""
        self._panes = watch.panes
        self._judges = watch.judges
        self._shown = watched_dimensions(config, watch.surface)
        self._limits = config.limits
        self._actions = config.engagement.actions
        self._candidates = candidates_measure(config) if config.candidates else None

    def shares(self) -> Iterator[Share]:
        """Exposure of every slice that is large enough or expected, with a 95 % jackknife interval."""
        for view in self._panes.views:
            for dimension, slices, sums, hidden in self._slices(view.live):
                impressions = sums[:, :, IMPRESSIONS].sum(axis=1)
                ratios = _plain_shares(sums[:, :, EXPOSURE].astype(np.float64), impressions)
                for i in np.flatnonzero(~hidden & np.isfinite(ratios.value)):
                    yield Share(
                        view.spec.name,
                        dimension,
                        slices[i],
                        int(impressions[i]),
                        float(ratios.value[i]),
                        float(ratios.lower[i]),
                        float(min(ratios.upper[i], 1.0)),
                    )

    def rates(self) -> Iterator[Rate]:
        """Engagements per impression of every slice that is large enough, with a 95 % jackknife interval."""
        for view in self._panes.views:
            if view.matured is None:
                continue
            for dimension, slices, sums, hidden in self._slices(view.matured):
                by_bucket = sums.astype(np.float64).transpose(1, 0, 2)
                trials = by_bucket[:, :, IMPRESSIONS]
                shown = np.flatnonzero(~hidden & (trials.sum(axis=0) > 0))
                for a, action in enumerate(self._actions):
                    found = estimate_rates(by_bucket[:, :, FIRST_ACTION + a], trials, CONFIDENCE)
                    for i in shown:
                        figures = (float(x[i]) for x in found)
                        yield Rate(view.spec.name, dimension, slices[i], action, *figures)

    def wholes(self) -> Iterator[Whole]:
        """Metrics of whole dimensions. Hidden slices count as one, so that no number is of them alone."""
        for view in self._panes.views:
            for seen in self._slices(view.live):
                exposure = _joined(seen.sums[:, :, EXPOSURE].astype(np.float64), seen.hidden)
                for metric in inequality_metrics(exposure.T, CONFIDENCE):
                    yield Whole(view.spec.name, seen.dimension, metric)
                target = self._target(seen, {RuleMetric.EXPOSURE_SHARE})
                if target is not None:
                    for metric in target_metrics(exposure.T, target.T, CONFIDENCE):
                        yield Whole(view.spec.name, seen.dimension, metric)
                target = self._target(seen, {RuleMetric.TOP_K_SHARE, RuleMetric.SKEW_AT_K})
                if target is not None:
                    top_k = _joined(seen.sums[:, :, TOP_K].astype(np.float64), seen.hidden)
                    for metric in skew_metrics(top_k.T, target.T):
                        yield Whole(view.spec.name, seen.dimension, metric)

    def _target(self, seen: _Seen, metrics: set[RuleMetric]) -> Floats | None:
        """The reference (S, B) of the dimension's first rule of these metrics; None while it is learnt."""
        for judge in self._judges:
            if judge.rule.dimension == seen.dimension and judge.rule.metric in metrics:
                reference = judge.shares_of(seen.slices, seen.sums)
                return None if reference is None else _joined(reference.part, seen.hidden)
        return None

    def _slices(self, window: SlidingWindow) -> Iterator[_Seen]:
        """Of each dimension the slices that the window's requests had, and those that a reference names."""
        projections = self._panes.projections
        for dimension in self._shown:
            place = projections.places[dimension]
            slices = projections.slices(dimension)
            sums = window.totals[place].array(len(slices), self._panes.layout)
            here: Flags = np.asarray(sums[:, :, IMPRESSIONS].any(axis=1))
            if self._candidates is not None:
                here |= sums[:, :, self._candidates].any(axis=1)
            held = [name for name, there in zip(slices, here, strict=True) if there]
            named = [
                name for judge in self._judges if judge.rule.dimension == dimension for name in judge.expected
            ]
            absent = [name for name in dict.fromkeys(named) if name not in held]
            zeros = np.zeros((len(absent), *sums.shape[1:]), dtype=np.int64)
            sums = np.concatenate((sums[here], zeros))
            candidates = None if self._candidates is None else sums[:, :, self._candidates]
            hidden = hidden_slices(sums[:, :, IMPRESSIONS], self._limits, candidates)
            yield _Seen(dimension, held + absent, sums, hidden)


def _joined(amounts: Floats, hidden: Flags) -> Floats:
    """Amounts (S, B) with the hidden slices summed into one row at the end."""
    if not hidden.any():
        return amounts
    return np.concatenate((amounts[~hidden], amounts[hidden].sum(axis=0, keepdims=True)))


def _plain_shares(part: Floats, impressions: Ints) -> Ratios:
    """Shares with intervals, held against the constant 1."""
    buckets = part.shape[1]
    one = ReferenceShares(np.full_like(part, 1 / buckets), np.full(buckets, 1 / buckets))
    terms: Terms = share_terms(part, part.sum(axis=0), one, impressions.astype(np.float64))
    return double_ratio(terms, CONFIDENCE, adaptive=True)
