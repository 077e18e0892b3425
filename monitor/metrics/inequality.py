"""How unequal the slices' exposure is, without a target."""

import numpy as np

from monitor.metrics.divergence import kl_divergence
from monitor.metrics.shares import Floats, share


def gini(exposure: Floats) -> Floats:
    """Mean absolute difference of all pairs over twice the mean; 0 is equal, 1 - 1/S the worst (Gini 1912).

    Computed as sum of (2 i - S - 1) x_(i) / S over the shares x in ascending order.

    >>> float(gini(np.array([3.0, 1.0])))
    0.25
    >>> float(gini(np.array([1.0, 0.0, 0.0, 0.0])))
    0.75
    """
    count = exposure.shape[-1]
    ranks = 2 * np.arange(1, count + 1) - count - 1
    return np.asarray((np.sort(share(exposure), axis=-1) * ranks).sum(axis=-1) / count)


def theil(exposure: Floats) -> Floats:
    """Theil's T = sum of s ln(S s) over the shares s; 0 is equal, ln S the worst (Theil 1967).

    >>> float(theil(np.array([3.0, 1.0])).round(4))
    0.1308
    """
    return kl_divergence(exposure, np.ones(exposure.shape[-1]))
