"""Small slices: what is hidden, what else must be, and that no number of them leaves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from monitor.config import Limits, parse_config
from monitor.judge import ClosedPane, RuleJudge
from monitor.panels import SurfacePanels
from monitor.suppression import SUPPRESSED, hidden_slices
from monitor.verdicts import Direction, Estimate, Outcome, Verdict
from tests.support.core import Feed

BUCKETS = 8
LIMITS = Limits(buckets=BUCKETS, suppress_below=20, min_viewers=4)
T = 1_700_000_000_000 // 3_600_000 * 3_600_000


def spread(*counts: int, over: int = BUCKETS) -> NDArray[np.int64]:
    """Return impressions (S, B) of slices, spread evenly over the first buckets."""
    rows = [[n * (b + 1) // over - n * b // over for b in range(over)] for n in counts]
    return np.pad(np.array(rows, dtype=np.int64).reshape(len(counts), over), ((0, 0), (0, BUCKETS - over)))


@pytest.mark.parametrize(
    ("counts", "hidden"),
    [
        ([100, 100, 100], []),
        ([100, 100, 0], []),  # nothing of nobody
        ([100, 19, 200], [0, 1]),  # the next smallest too
        ([100, 19, 19], [1, 2]),  # together they are many
        ([100, 9, 9, 200], [0, 1, 2]),  # together they are few
        ([100, 9, 0, 200], [0, 1]),
        ([19], [0]),
        ([19, 100], [0, 1]),
        ([100, 19, 100, 200], [0, 1, 2]),  # equals alike, whatever their order
    ],
)
def test_small_slices_are_hidden_and_so_is_what_gives_them_away(counts: list[int], hidden: list[int]) -> None:
    """At least two, that together pass the floors; or all."""
    assert np.flatnonzero(hidden_slices(spread(*counts), LIMITS)).tolist() == hidden


def test_viewers_are_counted_by_their_buckets() -> None:
    """Many impressions of few viewers are hidden; a floor above the buckets asks for all of them."""
    few, many = spread(500, over=3), spread(500, 400)
    assert hidden_slices(np.concatenate((few, many)), LIMITS).tolist() == [True, False, True]
    nearly = np.concatenate((spread(500, over=7), many))
    assert not hidden_slices(nearly, LIMITS).any()
    assert hidden_slices(nearly, Limits(buckets=BUCKETS, min_viewers=50)).tolist() == [True, False, True]


def test_without_floors_nothing_is_hidden() -> None:
    """For public logs."""
    assert not hidden_slices(spread(1, 2, 3), Limits(suppress_below=0, min_viewers=0)).any()


@given(
    st.lists(st.lists(st.integers(0, 15), min_size=BUCKETS, max_size=BUCKETS), min_size=1, max_size=8),
    st.integers(0, 40),
    st.integers(0, 12),
)
def test_no_difference_is_of_few(rows: list[list[int]], below: int, viewers: int) -> None:
    """What is shown passes both floors; so does the total minus what is shown, unless nothing is shown."""
    impressions = np.array(rows, dtype=np.int64)
    hidden = hidden_slices(impressions, Limits(suppress_below=below, min_viewers=viewers))
    least = min(viewers, BUCKETS)
    for row in impressions[~hidden]:
        assert not row.any() or (row.sum() >= below and (row > 0).sum() >= least)
    rest = impressions[hidden].sum(axis=0)
    shown = impressions[~hidden].any()
    if hidden.any() and shown:
        assert hidden.sum() >= 2
        assert rest.sum() >= below
        assert (rest > 0).sum() >= least


# ---------------------------------------------------------------- verdicts


def a_judge(rule: str) -> RuleJudge:
    """Return the judge of a rule on tones, with floors of 20 impressions and 4 viewers."""
    config = parse_config(
        f"""\
surfaces: [home]
windows: [{{length: 1h, slide: 1h}}]
attributes: {{item: {{tone: {{}}}}}}
time: {{pane: 1h}}
engagement: {{actions: [save], pane: 1h}}
limits: {{buckets: {BUCKETS}, suppress_below: 20, min_viewers: 4}}
rules:
- {{name: r, dimension: item.tone, window: 1h, min_support: 10, {rule}}}
"""
    )
    return RuleJudge(config, config.rules[0], "home")


def verdicts(judge: RuleJudge, hour: int, **counts: int) -> dict[str, Verdict]:
    """Return the verdicts of a pane with so many impressions, a tenth of them saved."""
    shown = spread(*counts.values())
    sums = np.stack([shown, shown * 1_000_000, shown, shown // 10], axis=2)
    start = T + hour * 3_600_000
    return {v.slice_: v for v in judge.judge(ClosedPane(start, start + 3_600_000, list(counts), sums, sums))}


def numbers(verdict: Verdict) -> list[object]:
    """Return everything in a verdict that says how much."""
    return [verdict.estimate, verdict.share, verdict.reference, verdict.evidence]


SILENT = [Estimate(), None, None, 0.0]


def test_verdicts_of_hidden_slices_tell_no_number() -> None:
    """Neither the small one's, nor those of the slice that is hidden with it."""
    judge = a_judge("metric: engagement_rate, action: save, compare: rest")
    found = verdicts(judge, 0, a=900, b=400, few=15)
    assert numbers(found["few"]) == numbers(found["b"]) == SILENT
    assert {found[s].verdict for s in ("few", "b")} == {Outcome.INSUFFICIENT}
    assert {found[s].reason for s in ("few", "b")} == {SUPPRESSED}
    assert found["a"].estimate.value is not None
    assert found["a"].estimate.support == 900


def test_a_slice_that_is_hardly_shown_any_more_is_a_breach_without_numbers() -> None:
    """It would be one with no impressions at all; what it has is not told."""
    judge = a_judge(
        "metric: impression_share, compare: reference, reference: {targets: {a: 0.5, b: 0.3, c: 0.2}}"
    )
    found = verdicts(judge, 0, a=900, b=400, c=5)
    assert (found["c"].verdict, found["c"].direction) == (Outcome.BREACH, Direction.LOW)
    assert (found["c"].reason, found["c"].detector) == (SUPPRESSED, "tolerance")
    assert numbers(found["c"]) == SILENT
    assert found["b"].verdict is Outcome.INSUFFICIENT
    assert found["a"].verdict is Outcome.BREACH


def test_a_slice_that_is_small_and_high_is_not_told() -> None:
    """Only what a slice does not get can be said without saying how much it gets."""
    judge = a_judge(
        "metric: impression_share, compare: reference, reference: {targets: {a: 0.4, b: 0.55, c: 0.05}}"
    )
    found = verdicts(judge, 0, a=100, b=100, c=19)
    assert (found["c"].verdict, numbers(found["c"])) == (Outcome.INSUFFICIENT, SILENT)


def test_while_a_baseline_is_learnt_small_slices_are_hidden_too() -> None:
    """The support of the others is told."""
    judge = a_judge("metric: impression_share, compare: reference, reference: {baseline: {first: 3h}}")
    found = verdicts(judge, 0, a=900, b=400, few=15)
    assert [found[s].estimate.support for s in ("a", "b", "few")] == [900, 0, 0]


def test_what_is_learnt_is_of_all_sums() -> None:
    """Hidden panes are not zeros to a baseline."""
    judge = a_judge("metric: impression_share, compare: reference, reference: {baseline: {first: 1h}}")
    verdicts(judge, 0, a=90, b=10)
    assert verdicts(judge, 1, a=500, b=500)["b"].reference == pytest.approx(0.1)


# ---------------------------------------------------------------- panels


def test_panels_show_no_hidden_slice_and_count_them_as_one() -> None:
    """Its shares and rates are left out; metrics of the dimension see the hidden ones together."""
    text = """\
surfaces: [home]
windows: [{length: 1m, slide: 10s}]
attributes: {item: {tone: {}}}
time: {pane: 10s, allowed_lateness: 0s}
engagement: {actions: [save], attribution_window: 10s, pane: 10s}
limits: {buckets: 8, suppress_below: 5, min_viewers: 3}
dimensions: [item.tone]
"""
    feed = Feed(parse_config(text))
    shown = {"a": 40, "b": 24, "c": 16, "rare": 2}
    for tone, count in shown.items():
        for viewer in range(count):
            feed.show(T, [{"tone": tone}], viewer)
    feed.act(T, {"tone": "a"}, "save", 1)
    feed.show(T + 35_000, [{"tone": "a"}])
    feed.beat(idle=True)
    panels = SurfacePanels(feed.config, feed.watch)
    assert {s.slice for s in panels.shares()} == {"a", "b"}
    assert {r.slice for r in panels.rates()} == {"a", "b"}
    whole = {w.metric.name: w.metric.value for w in panels.wholes()}
    parts = np.array([41, 24, 18]) / 83
    assert whole["expected_exposure_disparity"] == pytest.approx(float(parts @ parts))
