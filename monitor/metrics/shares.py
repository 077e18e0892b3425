"""Who gets how much: shares of exposure, ratios to a reference, skew."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def divide(a: Floats, b: Floats) -> Floats:
    """Quotients a / b; NaN where b is 0.

    >>> divide(np.array([1.0, 1.0]), np.array([4.0, 0.0]))
    array([0.25,  nan])
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(b != 0, np.true_divide(a, b), np.nan))


def share(amounts: Floats) -> Floats:
    """Share of each slice: A(g) / sum of A (Sapiezynski et al., WWW Companion 2019, for exposure).

    >>> share(np.array([30.0, 10.0, 0.0]))
    array([0.75, 0.25, 0.  ])
    """
    return divide(amounts, amounts.sum(axis=-1, keepdims=True))


def exposure_ratio(exposure: Floats, supply: Floats) -> Floats:
    """Share of exposure over share of supply; 1 is parity (Singh & Joachims, KDD 2018).

    The supply is what exposure should be proportional to: target shares, ones (uniform), the exposure of
    a baseline, candidates or catalogue items. NaN for a slice without supply.

    >>> exposure_ratio(np.array([30.0, 10.0]), np.array([1.0, 1.0]))
    array([1.5, 0.5])
    """
    return divide(share(exposure), share(supply))


def exposure_ratio_to_rest(exposure: Floats, supply: Floats) -> Floats:
    """Exposure per supply over that of all other slices together.

    It is the disparate treatment ratio of Singh & Joachims (KDD 2018), one slice against the rest.

    >>> exposure_ratio_to_rest(np.array([30.0, 10.0]), np.array([1.0, 1.0]))
    array([3.        , 0.33333333])
    """
    rest = divide(others(exposure), others(supply))
    return divide(divide(exposure, supply), rest)


def skew_at_k(top_k: Floats, target: Floats) -> Floats:
    """ln(p_k(g) / q(g)): p_k share of the top k, q target share; 0 is parity (Geyik et al., KDD 2019).

    NaN for a slice without a target or without any place in the top k, whose skew is minus infinity.

    >>> skew_at_k(np.array([30.0, 10.0]), np.array([0.5, 0.5])).round(4)
    array([ 0.4055, -0.6931])
    """
    return _log(exposure_ratio(top_k, target))


def min_skew(top_k: Floats, target: Floats) -> Floats:
    """Skew of the slice that is most disadvantaged, of those with a target (Geyik et al., KDD 2019).

    NaN if one of them has no place in the top k: then it is minus infinity.

    >>> float(min_skew(np.array([30.0, 10.0]), np.array([0.5, 0.5])).round(4))
    -0.6931
    """
    lowest = np.where(target > 0, exposure_ratio(top_k, target), np.inf).min(axis=-1)
    return _log(lowest)


def max_skew(top_k: Floats, target: Floats) -> Floats:
    """Skew of the slice that is most advantaged (Geyik et al., KDD 2019).

    >>> float(max_skew(np.array([30.0, 10.0, 0.0]), np.array([0.5, 0.4, 0.1])).round(4))
    0.4055
    """
    highest = np.where(target > 0, exposure_ratio(top_k, target), 0.0).max(axis=-1)
    return _log(highest)


def _log(ratio: Floats) -> Floats:
    """Its logarithm; NaN where that is not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(ratio)
    return np.asarray(np.where(np.isfinite(logs), logs, np.nan))


def others(amounts: Floats) -> Floats:
    """What all other slices have together.

    >>> others(np.array([1.0, 2.0, 4.0]))
    array([6., 5., 3.])
    """
    return np.asarray(amounts.sum(axis=-1, keepdims=True) - amounts)
