"""Position weights: how much attention a position is worth, in fixed point.

Weights are whole numbers of micro-exposures (1e-6), so that sums over any order and any
split of the traffic are bit-identical.
"""

import numpy as np
from numpy.typing import NDArray

from monitor.config import Curve, Exposure

MICRO = 1_000_000
"""Micro-exposures in one unit of exposure (the weight of position 1 under most curves)."""

MAX_POSITION = 10_000
"""Positions beyond this one weigh as much as this one."""


def position_weights(exposure: Exposure) -> NDArray[np.int64]:
    """Weight of every position in micro-exposures, shape (MAX_POSITION + 1,); index 0 is unused.

    With j the position (1 is the top): ``log2`` 1/log2(1+j) (Singh & Joachims, KDD 2018);
    ``reciprocal`` 1/j; ``geometric`` patience^(j-1) (the shape of rank-biased precision,
    Moffat & Zobel 2008); ``top_k`` 1 for j <= k; ``table`` as given, 0 beyond its end.

    >>> position_weights(Exposure())[1:4].tolist()
    [1000000, 630930, 500000]
    """
    j = np.arange(1, MAX_POSITION + 1, dtype=np.float64)
    match exposure.curve:
        case Curve.LOG2:
            weights = 1 / np.log2(1 + j)
        case Curve.RECIPROCAL:
            weights = 1 / j
        case Curve.GEOMETRIC:
            weights = exposure.patience ** (j - 1)
        case Curve.TOP_K:
            weights = (j <= exposure.k).astype(np.float64)
        case Curve.TABLE:
            weights = np.zeros(MAX_POSITION)
            given = np.asarray(exposure.table[:MAX_POSITION], dtype=np.float64)
            weights[: len(given)] = given
    return np.concatenate(([0], np.rint(weights * MICRO).astype(np.int64)))
