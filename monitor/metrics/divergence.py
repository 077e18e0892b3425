"""How far the whole distribution of exposure is from its target: one number for all slices.

Natural logarithms, unless a bound of 1 needs base 2. Amounts and targets need not be normalised.
"""

import numpy as np

from monitor.metrics.shares import Floats, share


def kl_divergence(exposure: Floats, target: Floats) -> Floats:
    """KL(p || q) = sum of p ln(p / q), in nats; 0 is parity (Kullback & Leibler 1951).

    NaN (it is infinite) when a slice without a target has exposure.

    >>> float(kl_divergence(np.array([3.0, 1.0]), np.array([0.5, 0.5])).round(4))
    0.1308
    >>> float(kl_divergence(np.array([3.0, 1.0]), np.array([1.0, 0.0])))
    nan
    """
    return np.asarray(_relative(share(exposure), share(target)).sum(axis=-1))


def js_divergence(exposure: Floats, target: Floats) -> Floats:
    """Jensen-Shannon divergence (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2, base 2 (Lin 1991).

    0 is parity, 1 the worst.

    >>> float(js_divergence(np.array([3.0, 1.0]), np.array([0.5, 0.5])).round(4))
    0.0488
    """
    p, q = share(exposure), share(target)
    middle = (p + q) / 2
    divergence = (_relative(p, middle) + _relative(q, middle)).sum(axis=-1) / 2
    return np.asarray(divergence / np.log(2))


def awrf(exposure: Floats, target: Floats) -> Floats:
    """Attention-weighted rank fairness: 1 - JSD(p, q); 1 is parity (TREC Fair Ranking 2022).

    >>> float(awrf(np.array([3.0, 1.0]), np.array([0.5, 0.5])).round(4))
    0.9512
    >>> float(awrf(np.array([1.0, 0.0]), np.array([0.0, 1.0])))
    0.0
    """
    return np.asarray(1 - js_divergence(exposure, target))


def equity_of_attention(exposure: Floats, relevance: Floats) -> Floats:
    """Sum of |A - R|, both normalised to 1; 0 is parity, 2 the worst (Biega et al., SIGIR 2018).

    >>> float(equity_of_attention(np.array([3.0, 1.0]), np.array([0.5, 0.5])))
    0.5
    """
    return np.asarray(np.abs(share(exposure) - share(relevance)).sum(axis=-1))


def expected_exposure_loss(exposure: Floats, target: Floats) -> Floats:
    """EE-L = |e - e*|^2 = EE-D - EE-R + |e*|^2; 0 is parity (Diaz et al., CIKM 2020).

    e are the shares of the slices, e* their targets.

    >>> float(expected_exposure_loss(np.array([3.0, 1.0]), np.array([0.5, 0.5])))
    0.125
    """
    return np.asarray(((share(exposure) - share(target)) ** 2).sum(axis=-1))


def expected_exposure_disparity(exposure: Floats) -> Floats:
    """EE-D = |e|^2, smallest when all slices have the same (Diaz et al., CIKM 2020).

    >>> float(expected_exposure_disparity(np.array([3.0, 1.0])))
    0.625
    """
    return np.asarray((share(exposure) ** 2).sum(axis=-1))


def expected_exposure_relevance(exposure: Floats, target: Floats) -> Floats:
    """EE-R = 2 e . e*, larger when exposure goes where it should (Diaz et al., CIKM 2020).

    >>> float(expected_exposure_relevance(np.array([3.0, 1.0]), np.array([0.5, 0.5])))
    1.0
    """
    return np.asarray(2 * (share(exposure) * share(target)).sum(axis=-1))


def _relative(p: Floats, q: Floats) -> Floats:
    """P ln(p / q), elementwise; 0 where p is 0, NaN where only q is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = p * np.log(np.where(q > 0, p / q, np.nan))
    return np.asarray(np.where(p == 0, 0.0, terms))
