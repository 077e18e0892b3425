r"""E-values of blocks, and e-detectors on them: arrays of series at once, pure functions.

A bet :math:`\lambda` against the null "G has mean 0 or less" pays

    E = exp(\lambda G - \lambda^2 (3 V + \sum_b u_b^2 - V / \kappa) / 6)

with G the sum of the bucket scores u_b, V a variance of G known beforehand, which spans panes, and V / kappa
what of it shows inside one block. Since exp(x - x^2 / 6) <= 1 + x + x^2 / 3 for every real x (Delyon 2009,
Exponential inequalities for sums of weakly dependent variables), the product over independent buckets has
mean at most 1 at kappa = 1, whatever the tails. The square is taken bucket by bucket, not of G: their sum
measures the block's own noise, and hardly grows with a disparity, which shows in all buckets. So a large one
is not damped, and one bucket, such as that of a click bot, adds at most 1.5.

An e-detector (Shin, Ramdas, Rinaldo 2023, E-detectors: a nonparametric framework for sequential change
detection) mixes bets that begin at every moment: M <- (M + injected) * E. Its mean grows by no more than
what is injected, so the expected number of times that the sum of the M reaches 1, starting again at 0 each
time, is at most the sum of the injections: a budget of false pages, for any dependence between series.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BETS = np.array([0.025, 0.05, 0.1, 0.2, 0.4, 0.8])
"""Relative disparities, beyond the tolerance, that the bets are best at."""
MOST_PER_BLOCK = 3.0
"""What one block adds to log M at most, in nats: a page needs at least half a dozen of them."""


def e_values(total: Floats, square: Floats, variance: Floats, kappa: Floats, unit: Floats) -> Floats:
    """The bets' E; arguments of any one shape, the result has a last axis more, of J.

    Args:
        total: G of a block, positive against the null.
        square: sum of its bucket scores' squares.
        variance: V, from earlier blocks only.
        kappa: at least 1: variance over the long run, over that inside of blocks.
        unit: rate / q, with q = V per weight: a bet is BETS * unit.

    >>> one = np.ones(1)
    >>> np.log(e_values(4 * one, 10 * one, 4 * one, one, one)).round(3)[0, -2:].tolist()
    [1.12, 1.28]
    """
    bets = unit[..., None] * BETS
    penalty = (3 * variance + square - variance / kappa) / 6
    log_e = bets * total[..., None] - bets**2 * penalty[..., None]
    return np.asarray(np.exp(np.minimum(log_e, MOST_PER_BLOCK)))


def grow(m: Floats, injected: Floats, e: Floats) -> Floats:
    """(M + injected / J) * E for each of J bets; ``injected`` has the shape of the series.

    >>> grow(np.zeros((1, 2)), np.array([2.0]), np.full((1, 2), 3.0)).tolist()
    [[3.0, 3.0]]
    """
    return np.asarray((m + injected[..., None] / m.shape[-1]) * e)
