"""What can be seen how fast: the best that any rule with a false-alarm budget can do, as a formula.

A disparity adds information at a constant rate; watching it is a Brownian motion with drift. CUSUM that knows
everything is then optimal (Lorden 1971; Moustakides 1986), with the mean delay D* in :func:`best_delay`. In
simulation (``make bench-statistics``) the e-detector needs 1.2 to 1.5 times as long.
"""

from math import exp, sqrt

from scipy.optimize import brentq

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
