"""What panels show: impressions, exposure shares and engagement rates of every slice and window.

Slices with fewer impressions than ``limits.suppress_below`` are left out; those that a reference
names and that have none are shown with 0.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.config import Config
from monitor.estimates import Ratios, Terms, double_ratio, share_terms
from monitor.judge import EXPOSURE, FIRST_ACTION, IMPRESSIONS
from monitor.references import ReferenceShares
from monitor.watch import SurfaceWatch
from monitor.windows import SlidingWindow

Ints = NDArray[np.int64]
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


class SurfacePanels:
    """The figures of one surface, from its running windows."""

    def __init__(self, config: Config, watch: SurfaceWatch) -> None:
        """Dimensions are those listed and those of rules."""
        self._panes = watch.panes
        self._judges = watch.judges
        self._floor = max(config.limits.suppress_below, 1)
        self._actions = config.engagement.actions

    def shares(self) -> Iterator[Share]:
        """Exposure of every slice that is large enough or expected, with a 95 % jackknife interval."""
        for view in self._panes.views:
            for dimension, slices, sums in map(self._with_absent, self._slices(view.live)):
                impressions = sums[:, :, IMPRESSIONS].sum(axis=1)
                ratios = _plain_shares(sums[:, :, EXPOSURE].astype(np.float64), impressions)
                shown = (impressions >= self._floor) | (impressions == 0)
                for i in np.flatnonzero(shown & np.isfinite(ratios.value)):
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
        """Engagements per impression of every slice that is large enough."""
        for view in self._panes.views:
            if view.matured is None:
                continue
            for dimension, slices, sums in self._slices(view.matured):
                totals = sums.sum(axis=1)
                for i in np.flatnonzero(totals[:, IMPRESSIONS] >= self._floor):
                    for a, action in enumerate(self._actions):
                        rate = float(totals[i, FIRST_ACTION + a] / totals[i, IMPRESSIONS])
                        yield Rate(view.spec.name, dimension, slices[i], action, rate)

    def _with_absent(self, seen: tuple[str, list[str], Ints]) -> tuple[str, list[str], Ints]:
        """Slices that the window holds, and those that a reference names: 0 of nothing tells of no one."""
        dimension, slices, sums = seen
        here: NDArray[np.bool_] = np.asarray(sums.any(axis=(1, 2)))
        held = [name for name, there in zip(slices, here, strict=True) if there]
        named = [
            name for judge in self._judges if judge.rule.dimension == dimension for name in judge.expected
        ]
        absent = [name for name in dict.fromkeys(named) if name not in held]
        zeros = np.zeros((len(absent), *sums.shape[1:]), dtype=np.int64)
        return dimension, held + absent, np.concatenate((sums[here], zeros))

    def _slices(self, window: SlidingWindow) -> Iterator[tuple[str, list[str], Ints]]:
        projections = self._panes.projections
        for dimension, place in projections.places.items():
            slices = projections.slices(dimension)
            yield dimension, slices, window.totals[place].array(len(slices), self._panes.layout)


def _plain_shares(part: NDArray[np.float64], impressions: Ints) -> Ratios:
    """Shares with intervals, held against the constant 1."""
    buckets = part.shape[1]
    one = ReferenceShares(np.full_like(part, 1 / buckets), np.full(buckets, 1 / buckets))
    terms: Terms = share_terms(part, part.sum(axis=0), one, impressions.astype(np.float64))
    return double_ratio(terms, CONFIDENCE)
