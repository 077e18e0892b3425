"""The interface that all detectors share."""

from enum import IntEnum
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from monitor.estimates import Ratios, Terms
from monitor.verdicts import ToleranceBand

Floats = NDArray[np.float64]


class Status(IntEnum):
    """What a detector says of one slice."""

    INSUFFICIENT = 0
    OK = 1
    BREACH = 2


class Block(NamedTuple):
    """What a rule saw in one closed pane and in the window that ends with it; S slices."""

    start_ms: int
    end_ms: int
    slices: list[str]
    window: Terms
    """Sums of the whole window."""
    pane: Terms
    """Sums of the closed pane alone: disjoint from those of all other blocks."""
    is_share: bool
    """Whether the terms are of shares (against a reference) or of rates (against the rest)."""
    enough: NDArray[np.bool_]
    """(S,) whether the window has the rule's minimum support."""
    tolerance: ToleranceBand
    impressions: Floats
    """(S,) impressions in the closed pane; of shares of the top k, those in it."""
    strata: tuple[Floats, Floats, Floats, Floats] | None = None
    """The first four terms of the pane for each of K strata, (S, K, B), where the rule is stratified."""
    paired: bool = False
    """Whether the reference is of the pane itself, bucket by bucket: candidates, with noise of their own."""


class Evidence(NamedTuple):
    """A detector's answer; arrays of shape (S,)."""

    status: NDArray[np.int64]
    """:class:`Status` values."""
    direction: NDArray[np.int64]
    """-1 low, 1 high, 0 neither."""
    evidence: Floats
    """Strength, on the detector's own scale."""


class Detector(Protocol):
    """Judges each closed block once, in order of event time. State belongs to one rule and surface."""

    @property
    def name(self) -> str:
        """Value of ``detector`` in verdicts."""

    def update(self, block: Block, ratios: Ratios) -> Evidence:
        """Take a block. ``ratios`` are the window's disparities at the rule's confidence."""

    def dump(self) -> bytes:
        """State with its version."""

    def restore(self, data: bytes) -> None:
        """Inverse of :meth:`dump`; state of an unknown version starts anew."""
