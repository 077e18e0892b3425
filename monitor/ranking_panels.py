"""What panels show of per-request metrics: means over the requests of a window, and of slices of viewers."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.config import Config
from monitor.metrics.dimensions import Named
from monitor.ranking_means import mean_metrics, viewers_needed
from monitor.requests import METRICS, ranking_measures
from monitor.rules import watched_dimensions
from monitor.slices import ALL
from monitor.suppression import hidden_slices
from monitor.watch import SurfaceWatch

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
CONFIDENCE = 0.95


class Ranked(NamedTuple):
    """The rankings of a window's requests by one attribute of items."""

    window: str
    dimension: str
    by: str
    """Dimension of viewers or variants whose slice it is; empty for all requests."""
    slice: str
    requests: int
    """Those with an item that counts; the metrics are means over them."""
    metrics: list[Named]


class RankingPanels:
    """The per-request figures of one surface, from its live windows."""

    def __init__(self, config: Config, watch: SurfaceWatch) -> None:
        """Slices are those of every watched dimension that is not of items."""
        self._panes = watch.panes
        self._limits = config.limits
        self._rankings = [
            (each.dimension, ranking_measures(config, each), viewers_needed(config, each))
            for each in config.rankings
        ]
        self._by = [ALL, *(d for d in watched_dimensions(config, watch.surface) if "item." not in d)]

    def figures(self) -> Iterator[Ranked]:
        """Of all requests, and of every slice with enough of them, with 95 % jackknife intervals."""
        projections, layout = self._panes.projections, self._panes.layout
        for view in self._panes.views if self._rankings else ():
            for by in self._by:
                slices = projections.slices(by)
                sums = view.live.totals[projections.places[by]].array(len(slices), layout)
                for dimension, measures, needed in self._rankings:
                    for row, requests, metrics in self._shown(sums[:, :, measures], needed):
                        whose = ("", "") if by == ALL else (by, slices[row])
                        yield Ranked(view.spec.name, dimension, *whose, requests, metrics)

    def _shown(self, sums: Ints, needed: Floats) -> Iterator[tuple[int, int, list[Named]]]:
        """Rows of sums (S, B, 5) that are large enough, with their requests and metrics."""
        requests = sums[:, :, 0]
        shown = np.flatnonzero(~hidden_slices(requests, self._limits) & requests.any(axis=1))
        found = mean_metrics(sums[shown], needed, CONFIDENCE)
        for place, row in enumerate(shown.tolist()):
            figures = [[float(x[place]) for x in each] for each in found]
            metrics = [Named(name, *each) for name, each in zip(METRICS, figures, strict=True)]
            yield row, int(requests[row].sum()), metrics
