"""The e-detector of one rule on one surface: pages within a false-alarm budget, however often it is asked.

How it bets stands in :mod:`monitor.detectors.betting`, what a pane does in :mod:`monitor.detectors.bank`.
Here slices get their places in the arrays, their limits and their budget, and the state becomes bytes.
"""

import zlib
from collections.abc import Sequence
from math import nan
from typing import NamedTuple

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
from monitor.detectors.scores import candidate_scores, rate_scores, share_scores
from monitor.estimates import Ratios, Terms, jackknife_se

Ints = NDArray[np.int64]

VERSION = 2
BASELINE_ERRORS = 2.0
"""Standard errors of a learnt reference by which it widens the tolerance: its own error is no disparity."""
_LEAST = 1e-20
"""Evidence below it is none."""


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
        # of the latest block: its slices, their places in the state, and every slice's part of the allowance
        self._latest: list[str] = []
        self._rows: Ints = np.zeros(0, np.int64)
        self._per_slice: Floats = np.zeros(0)
        self._error_of: Floats | None = None  # the latest reference, and its standard error
        self._error: Floats = np.zeros(0)

    def update(self, block: Block, ratios: Ratios) -> Evidence:  # noqa: ARG002 - it looks at panes only
        """Take a closed pane, and say which slices fire."""
        return Together().update([(self, block)])[0]

    def _state_for(self, block: Block) -> State:
        """The state with a place for each slice of the block, under the block's tolerance."""
        if self._state is None:
            self._state = State(block.pane.a.shape[1])
        state = self._state
        if block.slices != self._latest:
            for slice_ in block.slices:
                self._slices.setdefault(slice_, len(self._slices))
            state.grow_to(len(self._slices))
            self._latest = list(block.slices)
            self._rows = np.array([self._slices[slice_] for slice_ in block.slices], dtype=np.int64)
            self._per_slice = np.array(self._allowance.of(list(self._slices)))
        tolerance = (block.tolerance.low, block.tolerance.high)
        if tolerance != self._tolerance:  # evidence against one limit says nothing of another
            self._tolerance = tolerance
            state.forget_evidence()
        return state

    def look(self, block: Block) -> "_Look":
        """What :func:`take_pane` is to be told of a closed pane."""
        state, rows = self._state_for(block), self._rows
        count = len(state)
        low, high = (nan if limit is None else limit for limit in self._tolerance)
        error = np.zeros(len(rows))
        if block.is_share and not block.paired:
            error = BASELINE_ERRORS * self._reference_error(block.pane)
        tolerance = np.array((low * np.exp(-error), high * np.exp(error))).T
        sides = max(sum(limit is not None for limit in self._tolerance), 1)
        least = SHARE_SUPER_IMPRESSIONS if block.is_share else RATE_SUPER_IMPRESSIONS
        limits = Limits(
            _placed(tolerance, rows, count, nan),
            self._per_slice / sides,
            np.full(count, least),
            np.full(count, self._spec.timeout),
        )
        scores, impressions = (_placed(x, rows, count) for x in (_scores(block), _smaller_group(block)))
        return _Look(state, scores, impressions, limits, rows)

    def _reference_error(self, pane: Terms) -> Floats:
        """(S,) standard error of the logarithm of the reference share: 0 of fixed ones, NaN without one."""
        if self._error_of is not pane.c:
            part, whole = (x.sum(axis=1, keepdims=True) - x for x in (pane.c, pane.d))
            with np.errstate(divide="ignore", invalid="ignore"):
                error = jackknife_se(np.log(part / whole))
            self._error_of, self._error = pane.c, np.where(np.isfinite(error), error, nan)
        return self._error

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
        if not 1 <= dump.version <= VERSION:
            return
        self._state = State.unpacked(dump.arrays, len(dump.slices), dump.buckets)
        if dump.version == 1:  # which kept logarithms of M
            for evidence in (self._state.page, self._state.resolve):
                np.exp(evidence, out=evidence)
        self._tolerance = dump.tolerance
        self._slices = {slice_: place for place, slice_ in enumerate(dump.slices)}
        self._latest = []


def _placed(found: Floats, rows: Ints, count: int, other: float = 0.0) -> Floats:
    """What was found of the rows, as an array of all ``count`` series that has ``other`` elsewhere."""
    if len(rows) == count and (rows[:-1] < rows[1:]).all():
        return found
    placed = np.full((count, *found.shape[1:]), other)
    placed[rows] = found
    return placed


def _scores(block: Block) -> Floats:
    """(S, 4, B) of the pane."""
    if block.is_share:
        a, b, c, d = block.pane[:4]
        return candidate_scores(a, b, c, d) if block.paired else share_scores(a, b, _shares(c, d))
    if block.strata is not None:
        return rate_scores(*block.strata)
    a, b, c, d = (part[:, None] for part in block.pane[:4])
    return rate_scores(a, b, c, d)


def _shares(part: Floats, whole: Floats) -> Floats:
    """(S,) the reference; 0 where there is none."""
    total = whole.sum(axis=1)
    return np.asarray(np.divide(part.sum(axis=1), total, out=np.zeros_like(total), where=total > 0))


def _smaller_group(block: Block) -> Floats:
    """(S,) impressions of slice or rest; of shares what the reference expects, never what was seen."""
    if not block.is_share:
        return np.asarray(np.minimum(block.impressions, block.impressions.sum() - block.impressions))
    share = _shares(block.pane.c, block.pane.d)
    return np.asarray(block.impressions.sum() * np.minimum(share, 1 - share))


class _Look(NamedTuple):
    """What one detector asks of :func:`take_pane`."""

    state: State
    scores: Floats
    impressions: Floats
    limits: Limits
    rows: Ints
    """Places of the block's slices in all of these."""


class Together:
    """E-detectors that take the same panes at once: numpy is fast with many series, not with few."""

    def __init__(self) -> None:
        """Of no detectors yet."""
        self._whole: State | None = None

    def update(self, asked: Sequence[tuple[EDetector, Block]]) -> list[Evidence]:
        """What each says of its block, all of the same pane."""
        if not asked:
            return []
        looks = [detector.look(block) for detector, block in asked]
        whole = self._joined([look.state for look in looks])
        scores = np.concatenate([look.scores for look in looks])
        impressions = np.concatenate([look.impressions for look in looks])
        limits = Limits(*(np.concatenate(x) for x in zip(*(look.limits for look in looks), strict=True)))
        pane = asked[0][1]
        take_pane(whole, scores, impressions, pane.start_ms, pane.end_ms, limits)
        answer, end, found = _answer(whole), 0, []
        for look in looks:
            begin, end = end, end + len(look.state)
            rows = begin + look.rows
            found.append(Evidence(answer.status[rows], answer.direction[rows], answer.evidence[rows]))
        return found

    def _joined(self, parts: list[State]) -> State:
        """The state of all series; the one of the last pane, unless a part is another or has grown."""
        if self._whole is None or not self._whole.is_made_of(parts):
            self._whole = State.joined(parts)
        return self._whole


def _answer(state: State) -> Evidence:
    proved = state.proved_ms
    fires, high = proved.max(axis=1) > 0, proved[:, HIGH] > proved[:, LOW]
    page, resolve = (np.log10(np.maximum(m.sum(axis=2), _LEAST)) for m in (state.page, state.resolve))
    known = np.where(state.warm, int(Status.OK), int(Status.INSUFFICIENT))
    return Evidence(
        np.where(fires, int(Status.BREACH), known),
        np.where(fires, np.where(high, 1, -1), 0),
        np.where(fires, -np.where(high, resolve[:, HIGH], resolve[:, LOW]), page.max(axis=1)),
    )
