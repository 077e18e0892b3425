"""What panels show of per-request metrics: means over the requests of a window, and of slices of viewers."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.config import Config
from monitor.exposure import MICRO
from monitor.metrics.dimensions import Named
from monitor.metrics.jackknife import LEAST_FILLED, Estimates, Scale, estimate, estimate_rates, replicate
from monitor.metrics.rates import rate
from monitor.requests import ITEM_MEASURES, METRICS, PER_RANKING
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
        self._rankings = [ranking.dimension for ranking in config.rankings]
        self._first = ITEM_MEASURES + len(config.engagement.actions)
        self._by = [ALL, *(d for d in watched_dimensions(config, watch.surface) if "item." not in d)]

    def figures(self) -> Iterator[Ranked]:
        """Of all requests, and of every slice with enough of them, with 95 % jackknife intervals."""
        projections, layout = self._panes.projections, self._panes.layout
        for view in self._panes.views if self._rankings else ():
            for by in self._by:
                slices = projections.slices(by)
                sums = view.live.totals[projections.places[by]].array(len(slices), layout)
                for number, dimension in enumerate(self._rankings):
                    first = self._first + number * PER_RANKING
                    for row, requests, metrics in self._shown(sums[:, :, first : first + PER_RANKING]):
                        whose = ("", "") if by == ALL else (by, slices[row])
                        yield Ranked(view.spec.name, dimension, *whose, requests, metrics)

    def _shown(self, sums: Ints) -> Iterator[tuple[int, int, list[Named]]]:
        """Rows of sums (S, B, 5) that are large enough, with their requests and metrics."""
        requests = sums[:, :, 0]
        shown = np.flatnonzero(~hidden_slices(requests, self._limits) & requests.any(axis=1))
        found = mean_metrics(sums[shown], CONFIDENCE)
        for place, row in enumerate(shown.tolist()):
            figures = [[float(x[place]) for x in each] for each in found]
            metrics = [Named(name, *each) for name, each in zip(METRICS, figures, strict=True)]
            yield row, int(requests[row].sum()), metrics


def mean_metrics(sums: Ints, confidence: float) -> list[Estimates]:
    """Means (S,) over requests of each metric, from the sums (S, B, 5) of a ranking.

    A mean over requests is a ratio of sums, so its interval is that of a rate: on the logit for what is
    at most 1, on the log for the others. None where fewer than 75 % of the buckets hold requests.
    """
    requests = sums[:, :, 0].T.astype(np.float64)
    ndkl, awrf, div_at_k, infeasible = (sums[:, :, m].T / MICRO for m in range(1, PER_RANKING))
    found = [
        estimate(replicate(rate, ndkl, requests), Scale.LOG, confidence),
        estimate(replicate(rate, awrf, requests), Scale.LOGIT, confidence),
        estimate_rates(div_at_k, requests, confidence),
        estimate_rates(infeasible, requests, confidence, Scale.LOG),
    ]
    filled = np.asarray((requests > 0).mean(axis=0) >= LEAST_FILLED)
    return [each.where(filled) for each in found]
