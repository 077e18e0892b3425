"""Means of per-request metrics over requests, with intervals where they hold.

Requests of one viewer are alike: to one taste belong lists of one kind. So what counts is how many viewers
there are, never how many requests.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from monitor.config import Config, Ranking
from monitor.config.rankings import ranking_targets
from monitor.exposure import MICRO
from monitor.metrics.jackknife import (
    LEAST_EVENTS,
    LEAST_FILLED,
    Estimates,
    Flags,
    Scale,
    enough,
    estimate,
    estimate_rates,
    replicate,
)
from monitor.metrics.rates import rate
from monitor.requests import METRICS, PER_RANKING, RequestMeasures

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_SKEWED = 100.0
"""An interval takes this many viewers times the squared skewness between them.

Cochran's rule for plain means is 25 (Sampling Techniques, 1977, ch. 2.15). Here viewers' numbers of requests
are skewed too, and mixed lists count for little: at 25, targets of 0.95 and 0.05 had the truth in 91 %.
"""


def mean_metrics(sums: Ints, needed: Floats, confidence: float) -> list[Estimates]:
    """Means (S,) over requests of each metric, from the sums (S, B, 5) of a ranking.

    A mean over requests is a ratio of sums, so its interval is that of a rate: on the logit for what is
    at most 1, on the log for the others. None where fewer than 75 % of the buckets hold requests, or the
    requests are of fewer viewers than ``needed`` (4,). DIV@k is a rate whose events come by the viewer, so
    the least number of 10 is of viewers, with and without; of InfeasibleIndex 10 prefixes.
    """
    requests = sums[:, :, 0].T.astype(np.float64)
    ndkl, awrf, div_at_k, infeasible = (sums[:, :, m].T / MICRO for m in range(1, PER_RANKING))
    worth = effective_viewers(requests) / np.maximum(requests.sum(axis=0), 1)
    with_all, without = worth * div_at_k, worth * (requests - div_at_k)
    both = enough(with_all, worth * requests) & enough(without, worth * requests)
    found = [
        estimate(replicate(rate, ndkl, requests), Scale.LOG, confidence),
        estimate(replicate(rate, awrf, requests), Scale.LOGIT, confidence),
        estimate(replicate(rate, div_at_k, requests), Scale.LOGIT, confidence).where(both),
        estimate_rates(infeasible, requests, confidence, Scale.LOG),
    ]
    return [each.where(_seen(requests, least)) for each, least in zip(found, needed, strict=True)]


def judged_means(sums: Ints, metric: int, needed: Floats, confidence: float) -> tuple[Estimates, Flags]:
    """Means (S,) of one metric as rules judge them, and whether enough viewers are behind each.

    DIV@k also has an upper end when fewer than 10 viewers are shown every value, or the worst lists of all
    would not be told: the upper limit of a Poisson count of 10 (Garwood 1936), over the viewers. That is on
    the safe side, and so not for panels.
    """
    requests = sums[:, :, 0].T.astype(np.float64)
    found, seen = mean_metrics(sums, needed, confidence)[metric], _seen(requests, needed[metric])
    if METRICS[metric] == "div_at_k":
        viewers = np.maximum(effective_viewers(requests), 1)
        rare = seen & (found.value * viewers < LEAST_EVENTS)
        most = np.minimum(gammaincinv(LEAST_EVENTS + 1, 0.5 + confidence / 2) / viewers, 1)
        ends = np.where(rare, 0.0, found.lower), np.where(rare, most, found.upper)
        found = Estimates(found.value, *ends)
    return found, seen


def _seen(requests: Floats, needed: float) -> Flags:
    """(S,) whether the requests (B, S) fill three quarters of the buckets, and are of as many viewers."""
    filled = (requests > 0).mean(axis=0) >= LEAST_FILLED
    return np.asarray(filled & (effective_viewers(requests) >= needed))


def effective_viewers(requests: Floats) -> Floats:
    """(S,) how many viewers with equally many requests make as uneven buckets (B, S) as there are.

    Square of the sum of the viewers' requests over the sum of their squares (Kish, Survey Sampling, 1965).
    The latter is, on average over where viewers fall, B times the variance between the buckets. At most one
    viewer for each request.

    >>> effective_viewers(np.array([[30.0, 4.0], [10.0, 4.0], [20.0, 4.0], [20.0, 4.0]]))
    array([24., 16.])
    """
    total = requests.sum(axis=0)
    spread = len(requests) * requests.var(axis=0, ddof=1)
    return np.asarray(total**2 / np.maximum(np.maximum(spread, total), 1))


def viewers_needed(config: Config, ranking: Ranking) -> Floats:
    """(4,) how many viewers the interval of each metric takes: 100 G^2, with G its skewness between viewers.

    A rare value makes means skewed, and data without anybody who is shown it do not tell. So G is not of
    the data, but of viewers who are shown one value only, as many viewers each as is due to it. NDKL against
    targets of 0.4, 0.3, 0.2 and 0.1 takes 152 viewers, against 0.95 and 0.05 it takes 1,705.
    """
    targets = ranking_targets(config, ranking)
    names = [(value,) * len(config.attributes.item) for value in targets]
    lists = np.repeat(np.arange(len(targets)), ranking.k)
    ranks = np.tile(np.arange(1, ranking.k + 1), len(targets))
    first = config.rankings.index(ranking) * PER_RANKING + 1
    measures = RequestMeasures(config).measures(names, lists, lists, ranks)
    values = measures[:, first : first + len(METRICS)] / MICRO
    due = np.array(list(targets.values()))[:, None]
    deviations = values - (due * values).sum(axis=0)
    variance = np.maximum((due * deviations**2).sum(axis=0), 1 / MICRO)  # all alike: no skewness
    return np.asarray(_SKEWED * (due * deviations**3).sum(axis=0) ** 2 / variance**3)
