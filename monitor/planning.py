"""What can be seen how fast: the best that any rule with a false-alarm budget can do, as a formula.

A disparity adds information at a constant rate; watching it is a Brownian motion with drift. CUSUM that knows
everything is then optimal (Lorden 1971; Moustakides 1986), with the mean delay D* in :func:`best_delay`. In
simulation (``make bench-statistics``) the e-detector needs 1.0 to 1.3 times as long; twice, where D* is 3
minutes.
"""

from math import exp, sqrt
from typing import NamedTuple

from scipy.optimize import brentq

from monitor.budget import allowance_of, is_budgeted, known_slices
from monitor.config import Config, Metric, Rule
from monitor.exposure import position_weights

DAY_MINUTES = 1_440
_LARGEST = 300.0
"""Thresholds h stay below this: no budget is one page in e^300 times the time scale."""


def information(difference: float, weight: float, q: float) -> float:
    """Nats a minute that a difference from the limit adds: difference^2 * weight / (2 q).

    Args:
        difference: of the slice's rate (share) from the one at the limit.
        weight: a minute: n_A n_R / (n_A + n_R) of rates, all impressions of shares.
        q: variance of the score G per weight.

    >>> round(information(0.01, 54, 0.145), 4)
    0.0186
    """
    return difference**2 * weight / (2 * q)


def best_delay(nats: float, interval: float) -> float:
    """D* in minutes: (h - 1 + e^-h) / I, where e^h - h - 1 = interval * I (Lorden 1971, Brownian CUSUM).

    Args:
        nats: information a minute.
        interval: minutes between two false pages of the series.

    >>> round(best_delay(information(0.01, 54, 0.145), 6000 * 1440))
    590
    """
    h = brentq(lambda h: exp(h) - h - 1 - interval * nats, 1e-9, _LARGEST)
    return float((h - 1 + exp(-h)) / nats)


def least_difference(delay: float, interval: float, weight: float, q: float) -> float:
    """The difference whose D* is ``delay`` minutes: the inverse of the two above.

    >>> found = least_difference(590, 6000 * 1440, 54, 0.145)
    >>> round(found, 4)
    0.01
    """

    def beyond(h: float) -> float:
        return (h - 1 + exp(-h)) * interval / (exp(h) - h - 1) - delay

    if delay >= interval:
        return 0.0
    h = brentq(beyond, 1e-6, _LARGEST)
    return sqrt(2 * q * (h - 1 + exp(-h)) / delay / weight)


SLOWER = 1.3
"""No less than the e-detector's median delay over D*, from two hours on (about 1.0 to 1.2 in simulation)."""


class Traffic(NamedTuple):
    """What is assumed of each surface."""

    impressions: float
    """A minute."""
    rate: float = 0.05
    """Engagements per impression."""
    design_effect: float = 3.0
    """How many times the variance of independent impressions viewers cause."""


class Outlook(NamedTuple):
    """What a rule can see of a slice."""

    rule: str
    slice: str
    share: float
    """Part of the impressions that it is assumed to have."""
    low: list[float | None]
    """Largest disparity below the tolerance that is seen within each time; None: not even absence is."""
    high: list[float | None]
    """Smallest disparity above it; None: nothing is judged on that side."""


def outlooks(config: Config, traffic: Traffic, within: list[float]) -> list[Outlook]:
    """For every slice that a budgeted rule is sure to judge; ``within`` minutes, half of the time."""
    found = []
    for rule in config.rules:
        if is_budgeted(rule):
            allowance, slices = allowance_of(config, rule), known_slices(config, rule)
            sides = [limit for limit in (rule.tolerance.low, rule.tolerance.high) if limit is not None]
            for slice_, per_day in zip(slices, allowance.of(list(slices)), strict=True):
                share = _assumed_share(rule, slice_, len(slices))
                interval = DAY_MINUTES * len(sides) / per_day
                least = [_least_ratio(config, rule, traffic, share, minutes, interval) for minutes in within]
                found.append(_outlook(rule, slice_, share, least))
    return found


def _assumed_share(rule: Rule, slice_: str, count: int) -> float:
    targets = rule.reference.targets if rule.reference is not None else None
    return min(max(targets.get(slice_, 0.0) if targets else 1 / count, 1e-6), 0.999)


def _outlook(rule: Rule, slice_: str, share: float, least: list[float]) -> Outlook:
    low, high = rule.tolerance.low, rule.tolerance.high
    below = [low - each if low is not None and each < low else None for each in least]
    above = [high + each if high is not None else None for each in least]
    return Outlook(rule.name, slice_, share, below, above)


def _least_ratio(
    config: Config, rule: Rule, traffic: Traffic, share: float, minutes: float, interval: float
) -> float:
    """How far a disparity must lie beyond its limit.

    In units of the rest's rate r (or the reference share s), q is (1 - r) / r, or the squared coefficient of
    variation of the positions' weights, or (1 - s) / s; each times the design effect.
    """
    weights = position_weights(config.exposure)[1 : config.exposure.k + 1].astype(float)
    varied = float((weights.std() / weights.mean()) ** 2) if weights.any() else 0.0
    count = traffic.impressions
    if rule.reference is not None:
        q = (1 - share) / share * (1 + (varied if rule.metric is Metric.EXPOSURE_SHARE else 0.0))
    else:
        q = varied if rule.metric is Metric.EXPOSURE_RATE else (1 - traffic.rate) / traffic.rate
        count *= share * (1 - share)
    return least_difference(minutes / SLOWER, interval, count, q * traffic.design_effect)
