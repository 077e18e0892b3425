"""river's drift detectors on standardised residuals: early signs of change, no guarantee.

A detector sees, for each closed pane, G / sqrt(V): how far the slice was from its reference
(or from the rest), over the standard deviation that past panes showed. Raw rates would need
other parameters for every slice; residuals do not.
"""

import pickle
from math import sqrt
from struct import pack
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
import river
from msgspec import Struct
from river.drift import ADWIN, KSWIN, PageHinkley
from river.drift.binary import HDDMA
from scipy.special import ndtr

from monitor.config import DetectorKind, DetectorSpec
from monitor.detectors.base import Block, Evidence, Floats, Status
from monitor.estimates import Ratios, Terms

VERSION = 1
_RIVER_VERSION: str = river.__version__  # type: ignore[attr-defined]
WARM_UP_PANES = 12
"""Panes from which the variance is learnt before anything is judged."""
_DECAY = 0.98
"""Weight of the past in the running variance (half-life 34 panes)."""
_RECENT = 0.2
"""Weight of the newest residual in the running mean that says when a drift is over."""
_LATEST = 128
"""So many of the last residuals are kept; KSWIN looks at a hundred."""
_HALF = "<f2"
_KSWIN_SEED = 1
"""KSWIN draws what it compares; with a seed the same panes give the same answers."""


class _River(Protocol):
    """What is used of a river detector."""

    @property
    def drift_detected(self) -> bool:
        """Whether the latest value gave a drift away."""

    def update(self, x: float) -> Any:
        """Take one value."""


class _Hddm:
    """HDDM_A takes values between 0 and 1: the normal distribution's quantiles of the residuals."""

    def __init__(self, confidence: float) -> None:
        self._river = HDDMA(drift_confidence=confidence, two_sided_test=True)  # type: ignore[no-untyped-call]

    @property
    def drift_detected(self) -> bool:
        return self._river.drift_detected

    def update(self, x: float) -> None:
        self._river.update(float(ndtr(x)))  # type: ignore[no-untyped-call]


class SeriesState(Struct):
    """State of one slice."""

    detector: bytes
    """The pickled river detector."""
    variance: float = 0.0
    """Running sum of bucket variances …"""
    weight: float = 0.0
    """… over the running sum of weights they belong to."""
    panes: int = 0
    recent: float = 0.0
    """Running mean of the latest residuals."""
    drifted: int = 0
    """-1 or 1 while drifted to that side."""
    latest: bytes = b""
    """The last residuals that the detector saw, half precision: another version of river sees them again."""


class _Dump(Struct):
    version: int
    river: str
    series: dict[str, SeriesState]


class Residuals(NamedTuple):
    """Score G, weight W and bucket variance R of a pane, each (S,): G has variance about R."""

    score: Floats
    weight: Floats
    variance: Floats


def residuals(terms: Terms, is_share: bool, *, paired: bool = False) -> Residuals:
    """How far each slice is from its reference in one pane, with the variance between viewer buckets.

    Shares: G = a - s*b with s the reference share, per bucket U = a_b - s*b_b, W = b. ``paired``: minus
    (b/d) * (c_b - s*d_b), since the reference c/d is as noisy as the rest of the pane.
    Rates: G = W*(a/b - c/d) with W = b*d/(b+d) (Mantel-Haenszel weight), U_b linearised.
    R = B/(B-1) * sum(U_b^2), the variance of a sum over buckets.
    """
    a, b, c, d = (np.asarray(x, dtype=np.float64) for x in terms[:4])
    buckets = a.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        if is_share:
            share = c.sum(1) / d.sum(1)
            parts = a - share[:, None] * b
            if paired:
                parts -= (b.sum(1) / d.sum(1))[:, None] * (c - share[:, None] * d)
            weight = b.sum(1)
            centred = parts - parts.sum(1, keepdims=True) * (b / b.sum(1, keepdims=True))
            score = parts.sum(1)
        else:
            n, m = b.sum(1), d.sum(1)
            weight = n * m / (n + m)
            score = weight * (a.sum(1) / n - c.sum(1) / m)
            slice_part = weight[:, None] * (a - b * (a.sum(1) / n)[:, None]) / n[:, None]
            rest_part = weight[:, None] * (c - d * (c.sum(1) / m)[:, None]) / m[:, None]
            centred = slice_part - rest_part
    variance = buckets / (buckets - 1) * (centred**2).sum(1)
    known = np.isfinite(score) & np.isfinite(variance) & (weight > 0)
    return Residuals(*(np.where(known, x, 0.0) for x in (score, weight, variance)))


class DriftDetector:
    """One river detector for each slice. Evidence is the running mean of recent residuals."""

    def __init__(self, spec: DetectorSpec) -> None:
        """``spec.kind`` is ``adwin``, ``page_hinkley``, ``kswin`` or ``hddm``."""
        self.name = spec.kind.value
        self._spec = spec
        self._series: dict[str, SeriesState] = {}
        self._live: dict[str, _River] = {}

    def _new(self) -> _River:
        spec = self._spec
        match spec.kind:
            case DetectorKind.ADWIN:
                # looked at on every pane: panes are few and each of them matters
                return ADWIN(delta=spec.delta or 0.002, clock=1, min_window_length=5, grace_period=10)  # type: ignore[no-untyped-call]
            case DetectorKind.KSWIN:
                return KSWIN(alpha=spec.delta or 0.0001, window_size=100, stat_size=30, seed=_KSWIN_SEED)
            case DetectorKind.HDDM:
                return _Hddm(spec.delta or 0.001)
        return PageHinkley(delta=spec.delta or 0.5, threshold=spec.threshold, min_instances=10)

    def update(self, block: Block, ratios: Ratios) -> Evidence:  # noqa: ARG002 - it looks at panes only
        """Feed each slice's residual of the pane, and say which slices have drifted and not come back."""
        numbers = (x.tolist() for x in residuals(block.pane, block.is_share, paired=block.paired))
        columns = zip(block.slices, *numbers, strict=True)
        states = [self._feed(*each) for each in columns]
        judged = block.enough & (np.array([state.panes for state in states]) >= WARM_UP_PANES)
        drifted = np.where(judged, [state.drifted for state in states], 0)
        found = np.where(drifted != 0, int(Status.BREACH), int(Status.OK))
        return Evidence(
            np.where(judged, found, int(Status.INSUFFICIENT)),
            drifted,
            np.where(judged, [state.recent for state in states], 0.0),
        )

    def _feed(self, slice_: str, score: float, weight: float, variance: float) -> SeriesState:
        """Take one slice's residual of a pane, and return its state."""
        state = self._series.get(slice_)
        if state is None:
            state = self._series[slice_] = SeriesState(b"")
            self._live[slice_] = self._new()
        if weight <= 0:
            return state
        expected = weight * state.variance / state.weight if state.weight else 0.0
        if state.panes >= WARM_UP_PANES and expected > 0:
            z = min(max(score / sqrt(expected), -10.0), 10.0)  # numpy is slow with single numbers
            state.recent += _RECENT * (z - state.recent)
            detector = self._live[slice_]
            detector.update(z)
            state.latest = (state.latest + pack("<e", z))[-2 * _LATEST :]
            if detector.drift_detected:
                state.drifted = 1 if state.recent > 0 else -1
            if state.drifted * state.recent < self._spec.clear:
                state.drifted = 0  # back at the reference, or a drift towards it
        state.variance = _DECAY * state.variance + variance
        state.weight = _DECAY * state.weight + weight
        state.panes += 1
        return state

    def dump(self) -> bytes:
        """All slices' state. river's objects are pickled: the topic that holds them must be trusted."""
        for slice_, state in self._series.items():
            state.detector = pickle.dumps(self._live[slice_], protocol=5)
        return msgspec.msgpack.encode(_Dump(VERSION, _RIVER_VERSION, self._series))

    def restore(self, data: bytes) -> None:
        """Bring back a dump. Of another version of river, detectors see the last residuals again."""
        if not data:
            return
        dump = msgspec.msgpack.decode(data, type=_Dump)
        if dump.version != VERSION:
            return
        self._series = dump.series
        for slice_, state in dump.series.items():
            if dump.river == _RIVER_VERSION:
                self._live[slice_] = pickle.loads(state.detector)
                continue
            detector = self._live[slice_] = self._new()
            for z in np.frombuffer(state.latest, _HALF).tolist():
                detector.update(z)
