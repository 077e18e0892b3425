"""Rules with an e-detector: what verdicts say, what survives a restart, what strata are made of."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from monitor.budget import allowance_of, pages_per_day
from monitor.config import Config, DetectorKind, DetectorSpec, parse_config, parse_duration
from monitor.judge import ClosedPane, RuleJudge
from monitor.judges import Judges
from monitor.rule_memory import rule_identity
from monitor.suppression import SUPPRESSED
from monitor.verdicts import Direction, Estimate, Outcome, Verdict
from tests.support.core import Feed

Ints = NDArray[np.int64]
BUCKETS, HOUR_MS = 16, 3_600_000
T = 1_700_000_000_000 // HOUR_MS * HOUR_MS
SLICES = ["a", "b", "few"]
TROUBLE = 40
"""The hour from which on something is wrong."""


def a_config(more: str = "") -> Config:
    """Return a configuration whose first rule is of saves by tone."""
    return parse_config(
        f"""\
surfaces: [home, search]
windows: [{{length: 1h, slide: 1h}}]
attributes:
  viewer: {{device: {{values: [phone, tv]}}}}
  item: {{tone: {{values: [a, b]}}}}
time: {{pane: 1h, allowed_lateness: 1ms}}
exposure: {{curve: table, table: [1.0, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]}}
engagement: {{actions: [save], pane: 1h, attribution_window: 1h}}
limits: {{buckets: {BUCKETS}, suppress_below: 300, min_viewers: 4}}
false_alarm_budget: 1 per 30d
rules:
- name: saves
  metric: engagement_rate
  action: save
  dimension: item.tone
  window: 1h
  surfaces: [home]
  detectors: [{{kind: e_detector}}]
{more}"""
    )


OTHER_RULE = """\
- {name: other, metric: exposure_rate, dimension: item.tone, window: 1h, detectors: [{kind: e_detector}]}
"""


def judges_of(config: Config) -> RuleJudge:
    """Return the judge of the first rule."""
    return RuleJudge(config, config.rules[0], "home")


def pane(chance: np.random.Generator, hour: int, factors: dict[str, float]) -> ClosedPane:
    """Return an hour. `few` is hidden, and `b` with it. Rates are a tenth, from TROUBLE on times factors."""
    counts = np.array([3_000, 2_000, 140])
    shown = chance.poisson(counts[:, None] / BUCKETS, (3, BUCKETS))
    rate = [0.1 * (factors.get(s, 1.0) if hour >= TROUBLE else 1.0) for s in SLICES]
    saved = chance.binomial(shown, np.array(rate)[:, None])
    sums = np.stack([shown, shown * 500_000, shown, saved], axis=2).astype(np.int64)
    start_ms = T + hour * HOUR_MS
    return ClosedPane(start_ms, start_ms + HOUR_MS, list(SLICES), sums, sums)


def judged(
    judge: RuleJudge, first: int, last: int, seed: int = 1, **factors: float
) -> list[dict[str, Verdict]]:
    """Return the verdicts of the hours, by slice."""
    chances = [np.random.default_rng([seed, hour]) for hour in range(last)]
    panes = [pane(chances[hour], hour, factors) for hour in range(first, last)]
    return [{v.slice_: v for v in judge.judge(each)} for each in panes]


def test_the_verdict_of_a_page() -> None:
    """Insufficient while it learns, ok, then a breach with side, evidence and the window's estimate."""
    found = [each["a"] for each in judged(judges_of(a_config()), 0, TROUBLE + 24, a=0.6)]
    assert [v.verdict for v in found[:3]] == [Outcome.INSUFFICIENT] * 3
    assert found[TROUBLE - 1].verdict is Outcome.OK
    assert found[TROUBLE - 1].evidence < 0
    last = found[-1]
    assert (last.verdict, last.direction, last.detector) == (Outcome.BREACH, Direction.LOW, "e_detector")
    assert last.evidence > 0
    assert last.estimate.value == pytest.approx(0.6, abs=0.1)


@pytest.mark.parametrize(("factor", "direction"), [(0.0, Direction.LOW), (4.0, Direction.HIGH)])
def test_a_page_of_a_hidden_slice_is_a_breach(factor: float, direction: Direction) -> None:
    """It rests on many more viewers than the window shows; of it nothing but the side is told."""
    last = judged(judges_of(a_config()), 0, TROUBLE + 40, few=factor)[-1]["few"]
    assert (last.verdict, last.direction, last.reason) == (Outcome.BREACH, direction, SUPPRESSED)
    assert (last.estimate, last.share, last.reference, last.evidence) == (Estimate(), None, None, 0.0)


def test_an_unrelated_rule_makes_no_detector_forget() -> None:
    """With another rule, which takes its part of the budget, and a restart, evidence goes on growing."""
    steady, before = judges_of(a_config()), judges_of(a_config())
    judged(steady, 0, TROUBLE + 2, a=0.6)
    judged(before, 0, TROUBLE + 2, a=0.6)
    after = judges_of(a_config(OTHER_RULE))
    after.restore(before.dump())
    one, other = (judged(j, TROUBLE + 2, TROUBLE + 3, a=0.6)[0]["a"] for j in (steady, after))
    assert one.verdict is other.verdict is Outcome.OK
    assert (
        0 <= one.evidence - other.evidence < 0.5
    )  # the budget of the past is spent, that of the future smaller


def test_a_pane_that_was_judged_moves_no_detector_again() -> None:
    """A correction after the verdict changes the window, not the evidence."""
    judge = judges_of(a_config())
    judged(judge, 0, TROUBLE)
    held = judge.dump()
    assert judged(judge, TROUBLE - 1, TROUBLE, seed=99) == [{}]
    assert judge.dump() == held


def test_the_budget_is_divided_over_rules_and_surfaces() -> None:
    """All rules with an e-detector, on all their surfaces, spend the whole budget together and no more."""
    config = a_config(
        OTHER_RULE + "- {name: plain, metric: exposure_rate, dimension: item.tone, window: 1h}\n"
    )
    saves, other, plain = (allowance_of(config, rule) for rule in config.rules)
    assert saves.per_day == pytest.approx(1 / 30 / 3)  # one surface, and two of the other rule
    assert saves.per_day + 2 * other.per_day == pytest.approx(pages_per_day(config))
    assert plain.per_day == 0
    assert saves.declared == ("a", "b")


def test_strata_come_from_the_traffic() -> None:
    """Tone `a` moves to the long lists of televisions: placed lower on the whole, not on any device."""
    rule = "metric: exposure_rate, dimension: item.tone, window: 1h, surfaces: [home]"
    feed = Feed(
        a_config(
            f"- {{name: marginal, {rule}, tolerance: {{low: 1.0}}, detectors: [{{kind: e_detector}}]}}\n"
            f"- {{name: inside, {rule}, tolerance: {{low: 1.0}}, "
            "detectors: [{kind: e_detector, strata: viewer.device}]}\n"
        )
    )
    chance = np.random.default_rng(2)
    verdicts: list[Verdict] = []
    for hour in range(45):
        for viewer in range(240):
            device, length = ("tv", 10) if viewer % 2 else ("phone", 2)
            part = 0.5 if hour < 25 else (0.8 if device == "tv" else 0.2)
            items = [{"tone": "a" if x < part else "b"} for x in chance.random(length)]
            feed.show(T + hour * HOUR_MS + viewer, items, int(chance.integers(1 << 30)), {"device": device})
        verdicts += feed.beat()
    last = {v.rule: v for v in verdicts if v.slice_ == "a"}
    assert last["marginal"].verdict is Outcome.BREACH
    assert last["inside"].verdict is Outcome.OK
    assert last["inside"].evidence < -2


def test_a_parameter_at_its_default_is_no_change() -> None:
    """What a rule remembers is for its detectors as they are, however much of them is written down."""
    config = a_config()
    plain = config.rules[0]
    rule = msgspec.structs.replace(
        plain,
        detectors=[DetectorSpec(kind=DetectorKind.E_DETECTOR, timeout=parse_duration("7d"), confidence=0.95)],
    )
    other = msgspec.structs.replace(
        rule, detectors=[DetectorSpec(kind=DetectorKind.E_DETECTOR, timeout=parse_duration("6d"))]
    )
    assert rule_identity(config, rule) == rule_identity(config, plain)
    assert rule_identity(config, other) != rule_identity(config, plain)


SEVERAL = """\
- {name: both, metric: engagement_rate, action: save, dimension: item.tone, window: 1h, tolerance: {low: 0.9},
   detectors: [{kind: tolerance}, {kind: e_detector, timeout: 2d}]}
- {name: drift, metric: engagement_rate, action: save, dimension: item.tone, window: 1h,
   detectors: [{kind: adwin}]}
- {name: learns, metric: impression_share, dimension: item.tone, window: 1h, compare: reference,
   reference: {baseline: {first: 20h}}, detectors: [{kind: e_detector}]}
- {name: equal, metric: impression_share, dimension: item.tone, window: 1h, compare: reference,
   reference: {uniform: true}, detectors: [{kind: e_detector}, {kind: page_hinkley}]}
"""


def test_rules_say_together_what_each_says_alone() -> None:
    """Whoever has no e-detector, still learns its baseline, or has judged some of the panes before."""
    config = a_config(SEVERAL)
    alone, together = ([RuleJudge(config, rule, "home") for rule in config.rules] for _ in range(2))
    joint = Judges()
    joint.judges += together
    for judge in (alone[1], together[1]):
        judged(judge, 0, 10, seed=2)  # it was there before the others
    chance = np.random.default_rng(3)
    for hour in range(TROUBLE + 20):
        closed = pane(chance, hour, {"a": 0.6})
        expected = [verdict for judge in alone for verdict in judge.judge(closed)]
        assert joint.judge([closed] * len(together)) == expected
    assert {v.rule for v in expected if v.verdict is Outcome.BREACH} >= {"saves", "both"}
    assert [each.dump() for each in together] == [each.dump() for each in alone]
