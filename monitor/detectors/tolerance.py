"""The tolerance detector: the whole interval of the disparity lies beyond the tolerance."""

import numpy as np
from numpy.typing import NDArray

from monitor.detectors.base import Block, Evidence, Status
from monitor.estimates import Ratios
from monitor.verdicts import ToleranceBand


class ToleranceDetector:
    """Breach low when upper < tolerance.low, high when lower > tolerance.high.

    Evidence is how far the disparity lies beyond the nearer tolerance, in standard errors of
    its logarithm; negative inside. It has no memory.
    """

    name = "tolerance"

    def update(self, block: Block, ratios: Ratios) -> Evidence:
        """Judge the window."""
        return hold_against(block.tolerance, block.enough, ratios)

    def dump(self) -> bytes:
        """No state."""
        return b""

    def restore(self, data: bytes) -> None:
        """No state."""


def hold_against(tolerance: ToleranceBand, enough: NDArray[np.bool_], ratios: Ratios) -> Evidence:
    """What the detector says of values with intervals (S,), where there is ``enough``."""
    low, high = tolerance.low or 0.0, tolerance.high or np.inf
    known = enough & np.isfinite(ratios.value)
    with np.errstate(divide="ignore", invalid="ignore"):
        below = known & (ratios.upper < low)
        above = known & (ratios.lower > high)
        log_value = np.log(np.maximum(ratios.value, 1e-6))
        beyond = np.maximum(np.log(low) - log_value, log_value - np.log(high)) / ratios.log_se
    status = np.where(known, Status.OK, Status.INSUFFICIENT)
    return Evidence(
        np.where(below | above, Status.BREACH, status),
        above.astype(np.int64) - below.astype(np.int64),
        np.where(known, np.clip(np.nan_to_num(beyond), -99.0, 99.0), 0.0),
    )
