"""Rules on per-request metrics: what they answer, from requests to the alert."""

from __future__ import annotations

import math

import numpy as np
import pytest

from alerts.lifecycle import advance
from alerts.state import Phase
from monitor.config import parse_config
from monitor.store import MemoryStore
from monitor.verdicts import Direction, Estimate, Outcome, ToleranceBand, Verdict
from tests.support.core import Feed

T = 1_700_000_000_000
PANE_MS = 10_000

CONFIG = """\
surfaces: [home]
windows: [{length: 1m, slide: 10s}]
attributes: {item: {tone: {values: [a, b]}, shape: {values: [x, y]}}, viewer: {gender: {}}}
time: {pane: 10s, allowed_lateness: 0s}
limits: {buckets: 8, suppress_below: 5, min_viewers: 2}
engagement: {actions: [save]}
rankings: [{dimension: item.shape}, {dimension: item.tone, k: 2}]
rules:
  - {name: lists, metric: METRIC, dimension: item.tone, window: 1m, tolerance: {TOLERANCE}, min_support: 50}
"""
NDKL_A = math.log(2)
"""Of any number of `a` and nothing else, halves being due."""


def feed(
    metric: str = "ndkl",
    tolerance: str = "high: 0.5",
    targets: str = "k: 2",
    store: MemoryStore | None = None,
) -> Feed:
    """Return a monitor with one rule."""
    text = CONFIG.replace("METRIC", metric).replace("TOLERANCE", tolerance)
    return Feed(parse_config(text.replace("k: 2", targets)), store)


def shown(to: Feed, lists: str, viewers: int = 60, pane: int = 0) -> Verdict:
    """Return the verdict after as many viewers had these lists, each one list, in one pane."""
    kinds = lists.split()
    for viewer in range(viewers):
        items = [{"tone": tone} for tone in kinds[viewer % len(kinds)]]
        to.show(T + pane * PANE_MS, items, viewer)
    return closed(to, pane)


def closed(to: Feed, pane: int = 0) -> Verdict:
    """Return the verdict on a window, once an impression without a known item has come after its end."""
    to.show(T + (pane + 1) * PANE_MS, [{}])
    [*_, verdict] = to.beat(idle=True)
    return verdict


def test_lists_of_one_value_breach_and_mixed_ones_do_not() -> None:
    """The verdict is on all requests: slice `*`, the mean with its interval, requests as support."""
    bad = shown(feed(), "aa aa aa ab")
    assert (bad.verdict, bad.direction, bad.detector) == (Outcome.BREACH, Direction.HIGH, "tolerance")
    assert bad.series == ("lists", "home", "item.tone", "*")
    assert (bad.metric, bad.window, bad.reason) == ("ndkl", "1m", "")
    assert bad.tolerance == ToleranceBand(high=0.5)
    estimate = bad.estimate
    assert estimate.value is not None
    assert estimate.lower is not None
    assert estimate.upper is not None
    mixed = math.log(2) / (1 + 1 / math.log2(3))
    assert estimate.value == pytest.approx((3 * NDKL_A + mixed) / 4, abs=1e-6)
    assert 0.5 < estimate.lower < estimate.value < estimate.upper
    assert (bad.share, bad.reference, estimate.support) == (None, None, 60)
    assert 0 < bad.evidence <= 99
    good = shown(feed(), "ab ba ab aa")
    assert (good.verdict, good.direction) == (Outcome.OK, Direction.NONE)
    assert good.evidence < 0


@pytest.mark.parametrize(
    ("metric", "tolerance", "lists", "outcome"),
    [
        ("awrf", "low: 0.9", "aa aa ab", Outcome.BREACH),
        ("awrf", "low: 0.9", "ab ba ab ba ab ba ab ba ab aa", Outcome.OK),
        ("div_at_k", "low: 0.9", "aa ab", Outcome.BREACH),
        ("div_at_k", "low: 0.2", "aa ab", Outcome.OK),
        ("infeasible_index", "high: 0.2", "aa ab", Outcome.BREACH),
        ("infeasible_index", "high: 0.8", "aa ab", Outcome.OK),
    ],
)
def test_each_metric_is_judged_on_its_side(metric: str, tolerance: str, lists: str, outcome: Outcome) -> None:
    """Means near 1 are good of AWRF and DIV@k, near 0 of the others."""
    assert shown(feed(metric, tolerance), lists).verdict is outcome


def test_the_ends_of_the_scale_are_answers() -> None:
    """No list shows both: a breach, though no jackknife has an interval. Every list: ok, a bare value."""
    worst = shown(feed("div_at_k", "low: 0.8"), "aa")
    assert (worst.verdict, worst.direction) == (Outcome.BREACH, Direction.LOW)
    assert worst.estimate.value == worst.estimate.lower == 0
    assert worst.estimate.upper == pytest.approx(18.39 / 60, abs=0.1)  # of about 60 viewers
    assert shown(feed("div_at_k", "low: 0.2"), "aa").verdict is Outcome.OK  # of so few nobody knows
    for metric, tolerance, value in (("div_at_k", "low: 0.9", 1.0), ("infeasible_index", "high: 0.1", 0.0)):
        best = shown(feed(metric, tolerance), "ab")
        assert (best.verdict, best.estimate) == (Outcome.OK, Estimate(value=value, support=60))


def test_too_few_requests_or_viewers_are_no_answer() -> None:
    """Below `min_support` and with few viewers: insufficient with its reason, never a number."""
    few = shown(feed(), "aa", viewers=49)
    assert (few.verdict, few.reason) == (Outcome.INSUFFICIENT, "too few requests")
    assert few.estimate == Estimate(support=49)
    heavy = feed()
    for _ in range(20):
        for viewer in range(5):  # of eight buckets at most five
            heavy.show(T, [{"tone": "a"}], viewer)
    assert closed(heavy).reason == "too few viewers"
    assert shown(feed(targets="targets: {a: 0.9, b: 0.1}"), "ab", viewers=200).reason == "too few viewers"


def test_a_window_of_few_viewers_tells_no_number() -> None:
    """Floors of privacy hold for requests as for slices."""
    one = feed()
    for _ in range(60):
        one.show(T, [{"tone": "a"}], 0)
    verdict = closed(one)
    assert verdict.estimate == Estimate()
    assert verdict.reason == "suppressed: too few viewers"


def test_items_of_no_ranking_give_no_requests() -> None:
    """A window whose impressions show no item with a target has a verdict, and no support."""
    other = feed()
    for viewer in range(60):
        other.show(T, [{"shape": "x"}], viewer)
    verdict = closed(other)
    assert (verdict.reason, verdict.estimate.support) == ("too few requests", 0)


def test_every_closed_pane_is_judged_once_over_a_restart() -> None:
    """After a restart from the store the rule goes on where it was: as if there had been none."""
    plain, store = feed(), MemoryStore()
    torn = feed(store=store)
    found: list[list[Verdict]] = [[], []]
    for pane in range(4):
        for number, to in enumerate((plain, torn)):
            for viewer in range(60):
                to.show(T + pane * PANE_MS, [{"tone": "ab"[viewer % (pane + 1) > 0]}], viewer)
            found[number] += to.beat(idle=True)
        torn.restart()
    assert found[0] == found[1]
    ends = [verdict.pane_end_ms for verdict in found[0]]
    assert ends == sorted(set(ends))
    assert len(ends) == 3


def test_the_alert_is_of_the_whole_dimension() -> None:
    """A breach fires and a mean within the clear limit ends it, in words for the person who is called."""
    to = feed(tolerance="high: 0.5, clear_high: 0.45")
    [rule] = to.config.rules
    bad = shown(to, "aa")
    state, event = advance(None, bad, rule)
    assert state.phase is Phase.FIRING
    assert event is not None
    assert event.summary == (
        "item.tone on home: mean NDKL of single requests 0.69 (0.69 to 0.69); tolerated up to 0.5"
    )
    good = shown(feed(), "ab ba", pane=7)
    state, event = advance(state, good, rule)
    assert event is not None
    assert event.summary.endswith("; cleared")


def test_the_mean_is_that_of_panels() -> None:
    """With requests of several panes the rule sees the window's sums, as `/metrics` does."""
    to = feed()
    values = [shown(to, lists, pane=pane).estimate.value for pane, lists in enumerate(("aa", "ab"))]
    mixed = math.log(2) / (1 + 1 / math.log2(3))
    assert values == pytest.approx([NDKL_A, (NDKL_A + mixed) / 2], abs=1e-6)
    assert np.isfinite(np.array(values, dtype=float)).all()
