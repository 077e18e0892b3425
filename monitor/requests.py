"""Metrics of each request's ranking, summed per request: what an impression adds beside its items.

A request is one more contribution, to a *request cell*: one with the request's variant and viewer, and
no value for the attributes of items (:data:`monitor.cells.NO_VALUE`).
"""

import numpy as np
from numpy.typing import NDArray

from monitor.config import Config, Ranking
from monitor.config.rankings import ranking_targets
from monitor.exposure import MICRO, position_weights
from monitor.metrics.rankings import div_at_k, infeasible_index, ndkl, order_rankings, ranking_awrf

Ints = NDArray[np.int64]

METRICS = ("ndkl", "awrf", "div_at_k", "infeasible_index")
PER_RANKING = 1 + len(METRICS)
"""Measures of a ranking: requests, then the sum of each metric over them in millionths."""

ITEM_MEASURES = 3
"""Impressions, micro-exposure, impressions in the top k."""


def impression_measures(config: Config) -> int:
    """How many measures aggregate sums of impressions: those of items, of each ranking, and candidates."""
    return ITEM_MEASURES + PER_RANKING * len(config.rankings) + config.candidates


def candidates_measure(config: Config) -> int:
    """Where candidates are among all that the monitor sums: the last, if they are counted."""
    return impression_measures(config) + len(config.engagement.actions) - 1


def ranking_measures(config: Config, ranking: Ranking) -> slice:
    """Where the five measures of a ranking are among all that the monitor sums."""
    first = ITEM_MEASURES + len(config.engagement.actions) + PER_RANKING * config.rankings.index(ranking)
    return slice(first, first + PER_RANKING)


class RequestMeasures:
    """The measures of all configured rankings."""

    def __init__(self, config: Config) -> None:
        """Targets and weights of a configuration."""
        weights = position_weights(config.exposure)[1:].astype(np.float64)
        self._rankings = [_RankingMeasures(config, ranking, weights) for ranking in config.rankings]

    def measures(self, names: list[tuple[str, ...]], items: Ints, event: Ints, position: Ints) -> Ints:
        """What each request adds, (E, 5 R); a request without any item that counts adds zeros.

        Args:
            names: the values that numbers of items stand for. While it is the same list, numbers keep
                their meaning.
            items: (C,) number of each item's values.
            event: (C,) row of the request that the item belongs to, ascending.
            position: (C,) from 1; equal ones keep the order of the record.
        """
        events = int(event[-1]) + 1 if len(event) else 0
        found = np.zeros((events, PER_RANKING * len(self._rankings)), dtype=np.int64)
        for number, ranking in enumerate(self._rankings):
            of_one = ranking.measures(names, items, event, position)
            found[: len(of_one), number * PER_RANKING : (number + 1) * PER_RANKING] = of_one
        return found


class _RankingMeasures:
    """The measures of one ranking."""

    def __init__(self, config: Config, ranking: Ranking, weights: NDArray[np.float64]) -> None:
        targets = ranking_targets(config, ranking)
        self._numbers = {value: number for number, value in enumerate(targets)}
        self._target = np.array(list(targets.values()))
        self._weights = weights
        self._k = ranking.k
        self._place = list(config.attributes.item).index(ranking.dimension.removeprefix("item."))
        self._names: list[tuple[str, ...]] = []
        self._group_of: Ints = np.zeros(0, dtype=np.int64)

    def measures(self, names: list[tuple[str, ...]], items: Ints, event: Ints, position: Ints) -> Ints:
        """(E', 5), where E' is one more than the last request with an item that counts."""
        group = self._groups(names, items)
        counted = np.flatnonzero(group >= 0)
        batch = order_rankings(event[counted], position[counted], group[counted], len(self._numbers))
        values = (
            ndkl(batch, self._target),
            ranking_awrf(batch, self._weights, self._target),
            div_at_k(batch, self._k),
            infeasible_index(batch, self._target, self._k),
        )
        there = np.bincount(batch.request, minlength=batch.requests) > 0
        return np.stack(
            [
                there.astype(np.int64),
                *(np.rint(np.where(there, v, 0) * MICRO).astype(np.int64) for v in values),
            ],
            axis=1,
        )

    def _groups(self, names: list[tuple[str, ...]], items: Ints) -> Ints:
        """(C,) number of each item's group; negative for one without a target."""
        if names is not self._names:
            self._names, self._group_of = names, np.zeros(0, dtype=np.int64)
        new = names[len(self._group_of) :]
        if new:
            numbers = [self._numbers.get(values[self._place], -1) for values in new]
            self._group_of = np.concatenate((self._group_of, np.array(numbers, dtype=np.int64)))
        return self._group_of[items]
