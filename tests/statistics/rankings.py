"""Requests with rankings for simulations: viewers with tastes, some with very many requests.

Viewers are drawn from a pool of some thousands, whose requests were measured once by the product itself. So
the truth is that of the pool, without an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from monitor.config import Attribute, Attributes, Config, Limits, Ranking, WindowSpec
from monitor.config.durations import parse_duration
from monitor.exposure import MICRO
from monitor.metrics.jackknife import Estimates
from monitor.ranking_means import mean_metrics, viewers_needed
from monitor.requests import METRICS, PER_RANKING, RequestMeasures
from monitor.suppression import hidden_slices
from tests.statistics.traffic import BUCKETS, SHARES, Floats, Ints

REQUESTS = 12
"""Mean requests of a viewer, log-normal with sigma 1: one in a thousand has more than 160."""
SHORTEST, LONGEST = 5, 15
"""Items of a request, all lengths alike."""


class Kind(NamedTuple):
    """What the values of items are, and how much viewers differ."""

    name: str
    targets: tuple[float, ...]
    """Also the mean of what is shown."""
    agreement: float
    """Concentration of the viewers' tastes (Dirichlet): small means that a viewer sees much of the same."""


KINDS = (
    Kind("2 values", (0.5, 0.5), 30),
    Kind("2 values, one rare", (0.95, 0.05), 3),
    Kind("4 values", (0.4, 0.3, 0.2, 0.1), 3),
    Kind("5 values, one rare", tuple(SHARES.tolist()), 3),
)


class Pool(NamedTuple):
    """Viewers whose requests are known, and what the intervals of their means take."""

    sums: Ints
    """(V, 5) of each viewer: requests, and the sum of each metric in millionths."""
    needed: Floats

    @property
    def truth(self) -> Floats:
        """(4,) means over all requests."""
        requests, *metrics = self.sums.sum(axis=0)
        return np.asarray(np.array(metrics) / MICRO / requests)


class Means(NamedTuple):
    """Intervals (R, S) of one metric in R runs, and its truth (1,)."""

    metric: str
    found: Estimates
    truth: Floats


def make_pool(chance: np.random.Generator, kind: Kind, viewers: int) -> Pool:
    """Draw viewers with their requests, and measure these."""
    names: list[tuple[str, ...]] = [(str(value),) for value in range(len(kind.targets))]
    targets = {str(value): share for value, share in enumerate(kind.targets)}
    window = WindowSpec(length=parse_duration("1h"), slide=parse_duration("1m"))
    ranking = Ranking(dimension="item.tone", targets=targets)
    config = Config(
        surfaces=["home"],
        windows=[window],
        attributes=Attributes(item={"tone": Attribute()}),
        rankings=[ranking],
    )
    counts = np.rint(REQUESTS * np.exp(chance.standard_normal(viewers) - 0.5)).astype(np.int64)
    viewer = np.repeat(np.arange(viewers), np.maximum(counts, 1))
    lengths = chance.integers(SHORTEST, LONGEST + 1, len(viewer))
    request = np.repeat(np.arange(len(viewer)), lengths)
    rank = np.arange(len(request)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1
    tastes = chance.dirichlet(kind.agreement * np.asarray(kind.targets), viewers).cumsum(axis=1)
    shown = (chance.random(len(request))[:, None] > tastes[viewer[request], :-1]).sum(axis=1)
    measured = RequestMeasures(config).measures(names, shown, request, rank)
    sums = np.zeros((viewers, PER_RANKING), dtype=np.int64)
    np.add.at(sums, viewer, measured)
    return Pool(sums, viewers_needed(config, ranking))


def draw_means(
    chance: np.random.Generator, pool: Pool, runs: int, viewers: int, slices: Floats
) -> Iterator[Means]:
    """The intervals that panels show, of slices of viewers with these shares (S,)."""
    parts = len(slices)
    found = np.full((len(METRICS), 3, runs, parts), np.nan)
    for run in range(runs):
        who, bucket = chance.integers(0, len(pool.sums), viewers), chance.integers(0, BUCKETS, viewers)
        sums = np.zeros((parts, BUCKETS, PER_RANKING), dtype=np.int64)
        np.add.at(sums, (chance.choice(parts, viewers, p=slices), bucket), pool.sums[who])
        shown = np.flatnonzero(~hidden_slices(sums[:, :, 0], Limits()) & sums[:, :, 0].any(axis=1))
        for metric, means in enumerate(mean_metrics(sums[shown], pool.needed, 0.95)):
            found[metric, :, run, shown] = np.stack(means, axis=1)
    for metric, name in enumerate(METRICS):
        yield Means(name, Estimates(*found[metric]), pool.truth[metric : metric + 1])
