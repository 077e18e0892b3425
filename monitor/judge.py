"""Rules applied to closed panes: from sums to verdicts, each closed pane once."""

from math import exp, isfinite
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from monitor.config import Config, DetectorKind, Metric, Rule, Tolerance, meaning_sha256
from monitor.config.document import encode_custom
from monitor.detectors import Block, Detector, Status, make_detector
from monitor.estimates import Ratios, Terms, double_ratio, rate_terms, share_terms, t_quantile
from monitor.metrics.jackknife import estimate_rate_differences
from monitor.references import ReferenceShares, declared_slices, make_reference
from monitor.suppression import SUPPRESSED, hidden_slices
from monitor.verdicts import Direction, Estimate, Outcome, ToleranceBand, UnknownVersionError, Verdict

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

IMPRESSIONS, EXPOSURE, TOP_K, FIRST_ACTION = 0, 1, 2, 3
"""Places of the measures."""

_VERSION = 1

_SHARE_MEASURE = {
    Metric.EXPOSURE_SHARE: EXPOSURE,
    Metric.TOP_K_SHARE: TOP_K,
    Metric.IMPRESSION_SHARE: IMPRESSIONS,
    Metric.SKEW_AT_K: TOP_K,
}


class ClosedPane(NamedTuple):
    """A closed pane in one dimension: slices, and their sums (S, B, M) in it and in the window it ends."""

    start_ms: int
    end_ms: int
    slices: list[str]
    pane: Ints
    window: Ints


class _Findings(NamedTuple):
    """What verdicts are made of: columns of plain values, since reading arrays one by one is slow."""

    slices: list[str]
    end_ms: int
    support: list[int]
    enough: list[bool]
    hidden: list[bool]
    """Slices that are judged, but not shown."""
    figures: list[tuple[float, ...]]
    """Disparity, its lower and upper end; the slice's share or rate, and what it was held against."""
    known: list[bool]
    status: list[int]
    detector: list[str]
    """The one that decided."""
    direction: list[int]
    evidence: list[float]


class _RuleState(Struct):
    """A rule's memory for one surface: the last pane it judged, and what it learnt by then, in one value."""

    version: int
    rule: str
    """Identity of what the rule measures; another one starts anew."""
    last_end_ms: int
    reference: bytes
    detectors: dict[str, bytes]
    slices: list[str] = []
    """Every slice judged so far: those that vanish from the data are still answered for."""
    baseline: str = ""
    """Identity of what the baseline measures; while it is the same, what was learnt stays."""


class RuleJudge:
    """One rule on one surface."""

    def __init__(self, config: Config, rule: Rule, surface: str) -> None:
        """No memory yet."""
        self.rule = rule
        self.surface = surface
        self.last_end_ms = 0
        self.latest: list[Verdict] = []
        """Verdicts of the last closed pane."""
        self._actions = config.engagement.actions
        self._config = config
        self._reference = (
            make_reference(rule.reference, config.attributes, rule.dimension, config.limits.buckets)
            if rule.reference is not None
            else None
        )
        self._detectors: list[Detector] = [make_detector(spec) for spec in rule.detectors]
        tolerances = [spec for spec in rule.detectors if spec.kind is DetectorKind.TOLERANCE]
        self._confidence = (tolerances or rule.detectors)[0].confidence
        self._meaning = meaning_sha256(config)
        self._band = band(rule.tolerance)
        self._ratio_band = self._band if rule.metric.parity else _exponential(self._band)
        """What detectors hold ratios against; a difference or a logarithm goes by its exponential."""
        self._known: dict[str, None] = {}

    @property
    def measure(self) -> int:
        """The measure that is the numerator."""
        rule = self.rule
        if rule.metric.counts_engagements and rule.action is not None:
            return FIRST_ACTION + self._actions.index(rule.action)
        return _SHARE_MEASURE.get(rule.metric, EXPOSURE)

    def judge(self, closed: ClosedPane) -> list[Verdict]:
        """Verdicts of a closed pane, one for each slice; a pane judged before gives none."""
        if closed.end_ms <= self.last_end_ms:
            return []
        pane, window, slices = self._present(closed)
        if self._reference is not None:
            self._reference.observe(slices, pane[:, :, self.measure], closed.start_ms, closed.end_ms)
        missing = [name for name in self._named() if name not in slices]
        slices += missing
        pane, window = (
            np.concatenate((x, np.zeros((len(missing), *x.shape[1:]), np.int64))) for x in (pane, window)
        )
        reference = self.shares_of(slices)
        self.last_end_ms = closed.end_ms
        if self._reference is not None and reference is None:
            hidden = hidden_slices(window[:, :, IMPRESSIONS], self._config.limits)
            self.latest = [
                self._hide(s, closed.end_ms)
                if hide
                else self._verdict(s, closed.end_ms, Estimate(support=int(n)), reason="learning the baseline")
                for s, n, hide in zip(slices, window[:, :, IMPRESSIONS].sum(axis=1), hidden, strict=True)
            ]
        else:
            self.latest = self._decide(slices, pane, window, reference, closed)
        return self.latest

    def _present(self, closed: ClosedPane) -> tuple[Ints, Ints, list[str]]:
        """Sums and slices of a pane, without slices that so far are only in later panes."""
        here: NDArray[np.bool_] = np.asarray(closed.window.any(axis=(1, 2)))
        slices = [slice_ for slice_, there in zip(closed.slices, here, strict=True) if there]
        self._known.update(dict.fromkeys(slices))
        return closed.pane[here], closed.window[here], slices

    def shares_of(self, slices: list[str]) -> ReferenceShares | None:
        """What the slices are held against; None without a reference, or while it is learnt."""
        return self._reference.of(slices) if self._reference is not None else None

    @property
    def expected(self) -> list[str]:
        """Slices that the reference names: absent ones have share 0, not no row."""
        return self._reference.names() if self._reference is not None else []

    def _named(self) -> list[str]:
        """Slices that are answered for whether the window has them or not."""
        return list(dict.fromkeys([*self.rule.slices, *self.expected, *self._known]))

    def _terms(self, sums: Ints, reference: ReferenceShares | None) -> Terms:
        impressions = sums[:, :, IMPRESSIONS].astype(np.float64)
        part = sums[:, :, self.measure].astype(np.float64)
        if reference is not None:
            counted = part if self.measure == TOP_K else impressions
            return share_terms(part, part.sum(axis=0), reference, counted.sum(axis=1))
        counts = impressions.sum(axis=1) if self.measure < FIRST_ACTION else None
        return rate_terms(part, impressions, counts)

    def _decide(
        self,
        slices: list[str],
        pane: Ints,
        window: Ints,
        reference: ReferenceShares | None,
        closed: ClosedPane,
    ) -> list[Verdict]:
        support = window[:, :, IMPRESSIONS].sum(axis=1)
        # shares: what the reference expects, never what was seen, or thin slices are judged only when high
        expected = support if reference is None else np.nan_to_num(reference.shares) * support.sum()
        terms = self._terms(window, reference)
        block = Block(
            closed.start_ms,
            closed.end_ms,
            slices,
            terms,
            self._terms(pane, reference),
            reference is not None,
            expected >= self.rule.min_support,
            self._ratio_band,
        )
        ratios = self._compare(terms)
        figures = ratios[:3] if self.rule.metric.parity else [_log(x) for x in ratios[:3]]
        found = _Findings(
            slices,
            closed.end_ms,
            support.tolist(),
            block.enough.tolist(),
            hidden_slices(window[:, :, IMPRESSIONS], self._config.limits).tolist(),
            list(zip(*(x.tolist() for x in (*figures, *_levels(terms))), strict=True)),
            np.isfinite(ratios.value).tolist(),
            *self._ask(block, ratios),
        )
        wanted = set(self.rule.slices or slices)
        return [self._conclude(found, i) for i, slice_ in enumerate(slices) if slice_ in wanted]

    def _compare(self, terms: Terms) -> Ratios:
        """The disparities as detectors see them: as ratios, a difference by its exponential."""
        if self.rule.metric is not Metric.ENGAGEMENT_RATE_DIFFERENCE:
            return double_ratio(terms, self._confidence, adaptive=self._reference is not None)
        value, lower, upper = estimate_rate_differences(terms.a.T, terms.b.T, self._confidence)
        se = (upper - lower) / 2 / t_quantile(self._confidence, terms.a.shape[1])
        known = np.where(np.isfinite(se), value, np.nan)
        return Ratios(np.exp(known), np.exp(lower), np.exp(upper), se)

    def _ask(self, block: Block, ratios: Ratios) -> tuple[list[int], list[str], list[int], list[float]]:
        """Status, detector, direction and evidence of each slice.

        The rule is breached when any detector says so; the first that does decides.
        """
        answers = [detector.update(block, ratios) for detector in self._detectors]
        decides = np.argmax([answer.status for answer in answers], axis=0)
        status, direction, evidence = (
            np.choose(decides, column).tolist() for column in zip(*answers, strict=True)
        )
        return status, [self._detectors[d].name for d in decides.tolist()], direction, evidence

    def _conclude(self, found: "_Findings", i: int) -> Verdict:
        """The verdict on one slice."""
        slice_, end_ms, status = found.slices[i], found.end_ms, found.status[i]
        if found.hidden[i]:
            vanished = self._reference is not None and status == Status.BREACH and found.direction[i] < 0
            return self._hide(slice_, end_ms, vanished=vanished, detector=found.detector[i])
        if status == Status.INSUFFICIENT or not found.known[i]:
            few = not found.enough[i]
            reason = "too few impressions" if few else "nothing to compare with, or warming up"
            return self._verdict(slice_, end_ms, Estimate(support=found.support[i]), reason=reason)
        value, lower, upper, share, reference = (x if isfinite(x) else None for x in found.figures[i])
        return self._verdict(
            slice_,
            end_ms,
            Estimate(value=value, lower=lower, upper=upper, support=found.support[i]),
            verdict=Outcome.BREACH if status == Status.BREACH else Outcome.OK,
            detector=found.detector[i],
            evidence=found.evidence[i],
            direction=_DIRECTIONS[found.direction[i]],
            share=share,
            reference=reference,
            reason="" if value is not None else "it has none at all",
        )

    def _hide(self, slice_: str, end_ms: int, *, vanished: bool = False, detector: str = "") -> Verdict:
        """A verdict that tells no number of a slice, not even its impressions.

        A slice that is hardly shown any more is a breach of its reference all the same, as one that is
        not shown at all; or the worst disparities would be those that nobody is told of.
        """
        if not vanished:
            return self._verdict(slice_, end_ms, Estimate(), reason=SUPPRESSED)
        answer = {"verdict": Outcome.BREACH, "direction": Direction.LOW, "detector": detector}
        return self._verdict(slice_, end_ms, Estimate(), reason=SUPPRESSED, **answer)

    def _verdict(self, slice_: str, end_ms: int, estimate: Estimate, **decision: Any) -> Verdict:
        """A verdict of this rule; ``insufficient`` unless decided otherwise."""
        rule = self.rule
        return Verdict(
            rule=rule.name,
            surface=self.surface,
            dimension=rule.dimension,
            slice_=slice_,
            metric=rule.metric.value,
            window=rule.window,
            pane_end_ms=end_ms,
            estimate=estimate,
            tolerance=self._band,
            **{"verdict": Outcome.INSUFFICIENT, "detector": self._detectors[0].name} | decision,
        )

    # --- memory ------------------------------------------------------------------------

    def _identity(self) -> str:
        rule = self.rule
        parts = [rule.metric, rule.dimension, rule.window, rule.compare, rule.action, rule.reference]
        return msgspec.json.encode([self._meaning, *parts, rule.detectors], enc_hook=encode_custom).decode()

    def _baseline_identity(self) -> str:
        """What gives learnt shares their meaning, and the word that asks for others.

        Nothing else may be part of it: a baseline is not learnt anew because a rule got another detector,
        or the configuration another surface.
        """
        reference = self.rule.reference
        if reference is None or reference.baseline is None:
            return ""
        rule, config = self.rule, self._config
        declared = [declared_slices(config.attributes, part) for part in rule.dimension.split("*")]
        weights = config.exposure if self.measure in {EXPOSURE, TOP_K} else None
        learns = [self.measure, rule.dimension, declared, config.limits.buckets, weights]
        asked = [learns, reference.baseline.relearn]
        return msgspec.json.encode(asked, enc_hook=encode_custom).decode()

    def dump(self) -> bytes:
        """The last pane and everything learnt, as one value."""
        return msgspec.msgpack.encode(
            _RuleState(
                _VERSION,
                self._identity(),
                self.last_end_ms,
                self._reference.dump() if self._reference is not None else b"",
                {d.name: d.dump() for d in self._detectors},
                list(self._known),
                self._baseline_identity(),
            )
        )

    def restore(self, data: bytes) -> bool:
        """Inverse of :meth:`dump`; whether it was the memory of this rule, and not of one that has changed.

        Of that, only the last pane is taken, not to judge it twice; a baseline has an identity of its own.
        """
        state = msgspec.msgpack.decode(data, type=_RuleState)
        if state.version > _VERSION:
            raise UnknownVersionError(
                f"rule state version {state.version}, this program knows up to {_VERSION}"
            )
        same = state.rule == self._identity()
        if self._reference is not None and (same or self._baseline_identity() == state.baseline != ""):
            self._reference.restore(state.reference)
        self.last_end_ms = state.last_end_ms
        if same:
            self._known = dict.fromkeys(state.slices)
            for detector in self._detectors:
                detector.restore(state.detectors.get(detector.name, b""))
        return same


_DIRECTIONS = {-1: Direction.LOW, 0: Direction.NONE, 1: Direction.HIGH}


def band(tolerance: Tolerance) -> ToleranceBand:
    """The tolerance as verdicts carry it."""
    return ToleranceBand(low=tolerance.low, high=tolerance.high)


def _exponential(tolerance: ToleranceBand) -> ToleranceBand:
    low, high = (None if limit is None else exp(limit) for limit in (tolerance.low, tolerance.high))
    return ToleranceBand(low=low, high=high)


def _log(ratios: Floats) -> Floats:
    """Logarithms; minus infinity of 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(ratios))


def _levels(terms: Terms) -> tuple[Floats, Floats]:
    """The share or rate itself, and what it was held against."""
    with np.errstate(divide="ignore", invalid="ignore"):
        level = terms.a.sum(axis=1) / terms.b.sum(axis=1)
        reference = terms.c.sum(axis=1) / terms.d.sum(axis=1)
    return level, reference
