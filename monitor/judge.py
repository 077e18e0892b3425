"""Rules applied to closed panes: from sums to verdicts, each closed pane once."""

from math import exp
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.baselines import MovingBaseline, ReferenceShares
from monitor.budget import allowance_of
from monitor.conclusions import Conclusions, Finding, band, finite
from monitor.config import Config, DetectorKind, Metric, Rule
from monitor.detectors import Block, Detector, Evidence, make_detector
from monitor.estimates import Ratios, Terms, double_ratio, levels, rate_terms, share_terms, t_quantile
from monitor.metrics.jackknife import estimate_rate_differences
from monitor.references import Candidates, make_reference
from monitor.requests import candidates_measure
from monitor.rule_memory import (
    VERSION,
    RuleMemory,
    baseline_identity,
    decode_memory,
    encode_memory,
    rule_identity,
)
from monitor.suppression import Flags, hidden_slices
from monitor.verdicts import ToleranceBand, Verdict

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Strata = tuple[Floats, Floats, Floats, Floats]

IMPRESSIONS, EXPOSURE, TOP_K, FIRST_ACTION = 0, 1, 2, 3
"""Places of the measures."""

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
    strata: Ints | None = None
    """(S, K, B, M) the pane inside of each of K strata, for a rule that has them."""


class Seen(NamedTuple):
    """What is known of a closed pane before the detectors are asked."""

    block: Block
    ratios: Ratios
    support: Ints
    """(S,) impressions in the window."""
    hidden: Flags


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
        self._reference = make_reference(config, rule)
        self._paired = isinstance(self._reference, Candidates)
        allowance = allowance_of(config, rule)
        self.detectors: list[Detector] = [make_detector(spec, allowance) for spec in rule.detectors]
        tolerances = [spec for spec in rule.detectors if spec.kind is DetectorKind.TOLERANCE]
        self._confidence = (tolerances or rule.detectors)[0].confidence
        self._conclusions = Conclusions(rule, surface, self.detectors[0].name)
        limits = band(rule.tolerance)
        self._ratio_band = limits if rule.metric.parity else _exponential(limits)
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
        """Verdicts of a closed pane, one for each slice; a pane judged before gives none.

        :class:`monitor.judges.Judges` gives the same of several rules, faster.
        """
        seen = self.look(closed)
        if isinstance(seen, Seen):
            return self.conclude(seen, [each.update(seen.block, seen.ratios) for each in self.detectors])
        return seen

    def look(self, closed: ClosedPane) -> Seen | list[Verdict]:
        """What there is to ask the detectors of a closed pane; verdicts, or none, where nothing is."""
        if closed.end_ms <= self.last_end_ms:
            return []
        pane, window, slices = self._present(closed)
        if self._reference is not None:
            self._reference.observe(slices, pane[:, :, self.measure], closed.start_ms, closed.end_ms)
        missing = self._missing(slices)
        if missing:
            slices += missing
            none = np.zeros((len(missing), *pane.shape[1:]), np.int64)
            pane, window = np.concatenate((pane, none)), np.concatenate((window, none))
        reference = self.shares_of(slices, window)
        self.last_end_ms = closed.end_ms
        if self._reference is not None and reference is None:
            hidden, write = self._hidden(window), self._conclusions
            reason = self._reference.waiting
            self.latest = [
                write.hide(s, closed.end_ms) if hide else write.insufficient(s, closed.end_ms, reason, int(n))
                for s, n, hide in zip(slices, window[:, :, IMPRESSIONS].sum(axis=1), hidden, strict=True)
            ]
            return self.latest
        return self._see(slices, pane, window, reference, closed)

    def _present(self, closed: ClosedPane) -> tuple[Ints, Ints, list[str]]:
        """Sums and slices of a pane, without slices that so far are only in later panes."""
        here = np.asarray(closed.window.reshape(len(closed.slices), -1).any(axis=1))
        if here.all():
            pane, window, slices = closed.pane, closed.window, list(closed.slices)
        else:
            pane, window = closed.pane[here], closed.window[here]
            slices = [slice_ for slice_, there in zip(closed.slices, here.tolist(), strict=True) if there]
        self._known.update(dict.fromkeys(slices))
        return pane, window, slices

    def shares_of(self, slices: list[str], sums: Ints) -> ReferenceShares | None:
        """What slices of a window with these sums are held against; None without, or while it is learnt."""
        return self._reference.of(slices, sums) if self._reference is not None else None

    @property
    def moving(self) -> MovingBaseline | None:
        """Its baseline, if that moves along."""
        return self._reference if isinstance(self._reference, MovingBaseline) else None

    @property
    def expected(self) -> list[str]:
        """Slices that the reference names: absent ones have share 0, not no row."""
        return self._reference.names() if self._reference is not None else []

    def _missing(self, slices: list[str]) -> list[str]:
        """Slices that are answered for whether the window has them or not, and that it has not."""
        there = set(slices)
        named = dict.fromkeys([*self.rule.slices, *self.expected, *self._known])
        return [name for name in named if name not in there]

    def _terms(self, sums: Ints, reference: ReferenceShares | None) -> Terms:
        part = sums[:, :, self.measure].astype(np.float64)
        if reference is not None:
            counted = self._counted(sums, reference).sum(axis=1).astype(np.float64)
            return share_terms(part, part.sum(axis=0), reference, counted, paired=self._paired)
        impressions = sums[:, :, IMPRESSIONS].astype(np.float64)
        counts = impressions.sum(axis=1) if self.measure < FIRST_ACTION else None
        return rate_terms(part, impressions, counts)

    def _counted(self, sums: Ints, reference: ReferenceShares | None) -> Ints:
        """(S, B) the impressions that count: of shares of the top k those in it, else all."""
        return sums[:, :, TOP_K if reference is not None and self.measure == TOP_K else IMPRESSIONS]

    def _strata(self, closed: ClosedPane, slices: list[str]) -> Strata | None:
        """The terms of the pane inside of each stratum, in the order of ``slices``."""
        if closed.strata is None:
            return None
        places = {slice_: place for place, slice_ in enumerate(closed.slices)}
        sums = np.zeros((len(slices), *closed.strata.shape[1:]))
        for row, slice_ in enumerate(slices):
            if slice_ in places:
                sums[row] = closed.strata[places[slice_]]
        events, trials = sums[..., self.measure], sums[..., IMPRESSIONS]
        return events, trials, events.sum(axis=0) - events, trials.sum(axis=0) - trials

    def _see(
        self,
        slices: list[str],
        pane: Ints,
        window: Ints,
        reference: ReferenceShares | None,
        closed: ClosedPane,
    ) -> Seen:
        support = window[:, :, IMPRESSIONS].sum(axis=1)
        # shares: what the reference expects, never what was seen, or thin slices are judged only when high
        expected = support
        if reference is not None:
            shares = reference.shares
            expected = np.where(shares > 0, shares, 0.0) * support.sum()
        terms = self._terms(window, reference)
        of_pane = None
        if self._reference is not None:
            of_pane = self._reference.of_pane(slices, pane, closed.end_ms - closed.start_ms)
        block = Block(
            closed.start_ms,
            closed.end_ms,
            slices,
            terms,
            self._terms(pane, of_pane),
            reference is not None,
            expected >= self.rule.min_support,
            self._ratio_band,
            self._counted(pane, reference).sum(axis=1).astype(np.float64),
            self._strata(closed, slices),
            paired=self._paired,
        )
        return Seen(block, self._compare(terms), support, self._hidden(window))

    def _hidden(self, window: Ints) -> Flags:
        """(S,) which slices are judged, but not shown."""
        candidates = window[:, :, candidates_measure(self._config)] if self._config.candidates else None
        return hidden_slices(window[:, :, IMPRESSIONS], self._config.limits, candidates)

    def conclude(self, seen: Seen, answers: list[Evidence]) -> list[Verdict]:
        """Verdicts by what the detectors answered, in their order."""
        block, ratios = seen.block, seen.ratios
        figures = ratios[:3] if self.rule.metric.parity else [_log(x) for x in ratios[:3]]
        columns = (
            block.slices,
            seen.support.tolist(),
            block.enough.tolist(),
            seen.hidden.tolist(),
            np.isfinite(ratios.value).tolist(),
            *self._decide(answers),
            *finite(*figures, *levels(block.window)),
        )
        wanted = set(self.rule.slices or block.slices)
        found = (each for each in map(Finding._make, zip(*columns, strict=True)) if each.slice_ in wanted)
        self.latest = [self._conclusions.conclude(block.end_ms, each) for each in found]
        return self.latest

    def _compare(self, terms: Terms) -> Ratios:
        """The disparities as detectors see them: as ratios, a difference by its exponential."""
        if self.rule.metric is not Metric.ENGAGEMENT_RATE_DIFFERENCE:
            return double_ratio(terms, self._confidence, adaptive=self._reference is not None)
        value, lower, upper = estimate_rate_differences(terms.a.T, terms.b.T, self._confidence)
        se = (upper - lower) / 2 / t_quantile(self._confidence, terms.a.shape[1])
        known = np.where(np.isfinite(se), value, np.nan)
        return Ratios(np.exp(known), np.exp(lower), np.exp(upper), se)

    def _decide(self, answers: list[Evidence]) -> tuple[list[int], list[str], list[int], list[float]]:
        """Status, detector, direction and evidence of each slice.

        The rule is breached when any detector says so; the first that does decides.
        """
        names = [detector.name for detector in self.detectors]
        if len(answers) == 1:
            status, direction, evidence = (column.tolist() for column in answers[0])
            return status, names * len(status), direction, evidence
        decides = np.argmax([answer.status for answer in answers], axis=0)
        status, direction, evidence = (
            np.choose(decides, column).tolist() for column in zip(*answers, strict=True)
        )
        return status, [names[d] for d in decides.tolist()], direction, evidence

    # --- memory ------------------------------------------------------------------------

    def dump(self) -> bytes:
        """The last pane and everything learnt, as one value."""
        return encode_memory(
            RuleMemory(
                VERSION,
                rule_identity(self._config, self.rule),
                self.last_end_ms,
                self._reference.dump() if self._reference is not None else b"",
                {d.name: d.dump() for d in self.detectors},
                list(self._known),
                self._baseline_identity(),
            )
        )

    def restore(self, data: bytes) -> bool:
        """Inverse of :meth:`dump`; whether it was the memory of this rule, and not of one that has changed.

        Of that, only the last pane is taken, not to judge it twice; a baseline has an identity of its own.
        """
        memory = decode_memory(data)
        same = memory.rule == rule_identity(self._config, self.rule)
        if self._reference is not None and (same or self._baseline_identity() == memory.baseline != ""):
            self._reference.restore(memory.reference)
        self.last_end_ms = memory.last_end_ms
        if same:
            self._known = dict.fromkeys(memory.slices)
            for detector in self.detectors:
                detector.restore(memory.detectors.get(detector.name, b""))
        return same

    def _baseline_identity(self) -> str:
        weighted = self.measure in {EXPOSURE, TOP_K}
        return baseline_identity(self._config, self.rule, self.measure, weighted=weighted)


def _exponential(tolerance: ToleranceBand) -> ToleranceBand:
    low, high = (None if limit is None else exp(limit) for limit in (tolerance.low, tolerance.high))
    return ToleranceBand(low=low, high=high)


def _log(ratios: Floats) -> Floats:
    """Logarithms; minus infinity of 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(ratios))
