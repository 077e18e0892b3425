"""The e-detector of one rule on one surface: pages within a false-alarm budget, however often it is asked.

How it bets stands in :mod:`monitor.detectors.betting`, what a pane does in :mod:`monitor.detectors.bank`.
Here slices get their places in the arrays, their limits and their budget, and the state becomes bytes.
"""

import zlib
from math import nan

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from monitor.budget import Allowance
from monitor.config import DetectorSpec
from monitor.detectors.bank import (
    HIGH,
    LOW,
    RATE_SUPER_IMPRESSIONS,
    SHARE_SUPER_IMPRESSIONS,
    Limits,
    State,
    take_pane,
)
from monitor.detectors.base import Block, Evidence, Floats, Status
from monitor.detectors.betting import log_total
from monitor.detectors.scores import rate_scores, share_scores
from monitor.estimates import Ratios, Terms, jackknife_se

Ints = NDArray[np.int64]

VERSION = 1
BASELINE_ERRORS = 2.0
"""Standard errors of a learnt reference by which it widens the tolerance: its own error is no disparity."""
_MOST = 20.0


class _Dump(Struct):
    version: int
    slices: list[str]
    tolerance: tuple[float | None, float | None]
    buckets: int
    arrays: dict[str, bytes]
    """See :meth:`State.packed`."""


class EDetector:
    """All slices of a rule, two sides each.

    Evidence is in powers of ten: below 0 while quiet, where 0 pages; above 0 while firing, where 0 resolves.
    """

    name = "e_detector"

    def __init__(self, spec: DetectorSpec, allowance: Allowance) -> None:
        """No slices yet. The allowance may change from one start to the next: it is no part of the state."""
        self._spec = spec
        self._allowance = allowance
        self._slices: dict[str, int] = {}
        self._state: State | None = None
        self._tolerance: tuple[float | None, float | None] = (None, None)
        self._per_slice: Floats = np.zeros(0)  # of the allowance; known again when a slice is new

    def update(self, block: Block, ratios: Ratios) -> Evidence:  # noqa: ARG002 - it looks at panes only
        """Take a closed pane, and say which slices fire."""
        state = self._state_for(block)
        rows = np.array([self._slices[slice_] for slice_ in block.slices], dtype=np.int64)
        scores, impressions = np.zeros((len(state), *state.block.shape[1:])), np.zeros(len(state))
        scores[rows], impressions[rows] = _scores(block), _smaller_group(block)
        take_pane(state, scores, impressions, block.start_ms, block.end_ms, self._limits(block, rows))
        return _answer(state, rows)

    def _state_for(self, block: Block) -> State:
        """The state with a place for each slice of the block, under the block's tolerance."""
        if self._state is None:
            self._state = State(block.pane.a.shape[1])
        state = self._state
        for slice_ in block.slices:
            self._slices.setdefault(slice_, len(self._slices))
        state.grow_to(len(self._slices))
        tolerance = (block.tolerance.low, block.tolerance.high)
        if tolerance != self._tolerance:  # evidence against one limit says nothing of another
            self._tolerance = tolerance
            state.forget_evidence()
        return state

    def _limits(self, block: Block, rows: Ints) -> Limits:
        """Tolerances, widened by the reference's own error, and each series' part of the budget."""
        count = len(self._slices)
        low, high = (nan if limit is None else limit for limit in self._tolerance)
        error = BASELINE_ERRORS * _reference_error(block.pane) if block.is_share else 0.0
        tolerance = np.full((count, 2), nan)
        tolerance[rows, LOW], tolerance[rows, HIGH] = low * np.exp(-error), high * np.exp(error)
        sides = max(sum(limit is not None for limit in self._tolerance), 1)
        if len(self._per_slice) != count:
            self._per_slice = np.array(self._allowance.of(list(self._slices)))
        per_slice = self._per_slice / sides
        least = SHARE_SUPER_IMPRESSIONS if block.is_share else RATE_SUPER_IMPRESSIONS
        return Limits(
            tolerance,
            np.repeat(per_slice[:, None], 2, axis=1),
            np.full(count, least),
            self._spec.timeout,
        )

    def dump(self) -> bytes:
        """All slices' state, compressed; plain arrays, no pickles."""
        if self._state is None:
            return b""
        state = self._state
        dump = _Dump(VERSION, list(self._slices), self._tolerance, state.block.shape[2], state.packed())
        return zlib.compress(msgspec.msgpack.encode(dump), level=1)

    def restore(self, data: bytes) -> None:
        """Inverse of :meth:`dump`; state of another version starts anew."""
        if not data:
            return
        dump = msgspec.msgpack.decode(zlib.decompress(data), type=_Dump)
        if dump.version != VERSION:
            return
        self._state = State.unpacked(dump.arrays, len(dump.slices), dump.buckets)
        self._tolerance = dump.tolerance
        self._slices = {slice_: place for place, slice_ in enumerate(dump.slices)}
        self._per_slice = np.zeros(0)


def _scores(block: Block) -> Floats:
    """(S, 4, B) of the pane."""
    if block.is_share:
        a, b, c, d = block.pane[:4]
        return share_scores(a, b, _shares(c, d))
    if block.strata is not None:
        return rate_scores(*block.strata)
    a, b, c, d = (part[:, None] for part in block.pane[:4])
    return rate_scores(a, b, c, d)


def _shares(part: Floats, whole: Floats) -> Floats:
    """(S,) the reference; 0 where there is none."""
    total = whole.sum(axis=1)
    return np.asarray(np.divide(part.sum(axis=1), total, out=np.zeros_like(total), where=total > 0))


def _reference_error(pane: Terms) -> Floats:
    """(S,) standard error of the logarithm of the reference share: 0 of fixed ones, NaN without one."""
    part, whole = (x.sum(axis=1, keepdims=True) - x for x in (pane.c, pane.d))
    with np.errstate(divide="ignore", invalid="ignore"):
        error = jackknife_se(np.log(part) - np.log(whole))
    return np.asarray(np.where(np.isfinite(error), error, nan))


def _smaller_group(block: Block) -> Floats:
    """(S,) impressions of slice or rest; of shares what the reference expects, never what was seen."""
    if not block.is_share:
        return np.asarray(np.minimum(block.impressions, block.impressions.sum() - block.impressions))
    share = _shares(block.pane.c, block.pane.d)
    return np.asarray(block.impressions.sum() * np.minimum(share, 1 - share))


def _answer(state: State, rows: Ints) -> Evidence:
    firing, proved = state.firing[rows], state.proved_ms[rows]
    fires = firing.any(axis=1)
    side = np.where(fires, np.argmax(proved, axis=1), np.argmax(log_total(state.page[rows]), axis=1))
    each = np.arange(len(rows))
    ln = np.where(fires, -log_total(state.resolve[rows])[each, side], log_total(state.page[rows])[each, side])
    known = np.where(state.warm(rows), Status.OK, Status.INSUFFICIENT)
    return Evidence(
        np.where(fires, Status.BREACH, known).astype(np.int64),
        np.where(fires, np.where(side == LOW, -1, 1), 0).astype(np.int64),
        np.clip(ln / np.log(10), -_MOST, _MOST),
    )
