"""Windows and verdicts over time: sparse data, jumps, corrections, restarts, refused snapshots."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from monitor.config import Config, parse_config
from monitor.raw_snapshots import Applied
from monitor.snapshots import Kind, PaneSnapshot
from monitor.store import MemoryStore
from monitor.verdicts import Outcome
from monitor.watch import SurfaceWatch
from monitor.windows import Pane, PaneSeries, SlidingWindow
from tests.support.core import Feed, sums_of_slices

PANE_MS = 10_000
T = 1_700_000_000_000
YEAR_MS = 365 * 86_400_000

CONFIG = """\
surfaces: [home]
windows: [{length: 1m, slide: 10s}, {length: 4m, slide: 20s}]
attributes: {item: {tone: {}}}
time: {pane: 10s, allowed_lateness: 0s, correction_horizon: 20s}
engagement: {actions: [save], attribution_window: 10s, pane: 10s}
limits: {buckets: 4, suppress_below: 0, min_viewers: 0}
rules:
- name: tone
  metric: impression_share
  dimension: item.tone
  window: 1m
  compare: reference
  reference: {targets: {a: 0.5, b: 0.5}}
  min_support: 1
"""


@pytest.fixture
def config() -> Config:
    """Return a configuration with two windows and one rule."""
    return parse_config(CONFIG)


@pytest.fixture
def feed(config: Config) -> Feed:
    """Return a monitor fed by hand."""
    return Feed(config)


def fill(feed: Feed, panes: range, *, every: int = 1) -> None:
    """Show an `a` and a `b` in each pane, and tell the monitor after each."""
    for pane in panes:
        if pane % every == 0:
            feed.show(T + pane * PANE_MS, [{"tone": "a"}, {"tone": "b"}], viewer=pane)
        feed.beat()


def ends(feed: Feed) -> list[int]:
    """Return the panes judged, in panes since T."""
    found = {(v.pane_end_ms - T) // PANE_MS: None for v in feed.listener.verdicts}
    return list(found)


def closed_total(feed: Feed, window: int = 0) -> int:
    """Return the impressions in a closed window."""
    view = feed.watch.panes.views[window]
    return int(view.closed.totals[0].array(99, feed.watch.panes.layout)[:, :, 0].sum())


def test_each_pane_is_judged_once_in_order(feed: Feed) -> None:
    """A verdict for each slice at the end of each closed pane, sparse data included."""
    fill(feed, range(30), every=3)
    feed.beat(idle=True)
    assert ends(feed) == list(range(1, 28))
    assert len(feed.listener.verdicts) == 2 * 27


def test_judging_begins_with_the_first_impressions(feed: Feed) -> None:
    """Whatever came first: an engagement of an impression from before the log makes no pane to judge."""
    early = PaneSnapshot(T - 3 * PANE_MS, 0, 0, 0, 1, [("a",)], _u4(0), _i8(1))
    assert feed.watch.apply(Kind.ENGAGEMENTS, [(7, early)]) == [Applied.APPLIED]
    fill(feed, range(4))
    assert ends(feed)[0] == 1


def test_a_window_slides_over_gaps(feed: Feed) -> None:
    """The window holds what its six panes hold, whether they have data or not."""
    for pane in (0, 1, 9, 20):
        feed.show(T + pane * PANE_MS, [{"tone": "a"}])
    feed.beat(idle=True)
    support = {
        (v.pane_end_ms - T) // PANE_MS: v.estimate.support for v in feed.listener.verdicts if v.slice_ == "a"
    }
    assert {end: count for end, count in support.items() if count} == (
        dict.fromkeys([1, 7], 1) | dict.fromkeys(range(2, 7), 2) | dict.fromkeys(range(10, 16), 1)
    )


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what windows do: how often they are moved, and how many panes they look at and add."""
    counts: Counter[str] = Counter()
    advance, between = SlidingWindow.advance, PaneSeries.between

    def counted_advance(window: SlidingWindow, end_ms: int) -> None:
        counts["moves"] += 1
        advance(window, end_ms)

    def counted_between(series: PaneSeries, start_ms: int, end_ms: int) -> list[Pane]:
        counts["looks"] += min(len(range(start_ms, end_ms, series.slide_ms)), len(series.panes))
        return between(series, start_ms, end_ms)

    monkeypatch.setattr(SlidingWindow, "advance", counted_advance)
    monkeypatch.setattr(PaneSeries, "between", counted_between)
    return counts


@pytest.mark.parametrize("slide", ["10s", "100ms"])
def test_a_jump_of_a_year_takes_no_steps(slide: str, work: Counter[str]) -> None:
    """Empty stretches are passed over: no loop over millions of empty slides."""
    config = parse_config(
        CONFIG.replace("slide: 10s", f"slide: {slide}").replace("pane: 10s", f"pane: {slide}")
    )
    feed = Feed(config)
    for year in (0, 1, 2, 30):
        feed.show(T + year * YEAR_MS, [{"tone": "a"}])
        feed.beat()
    feed.show(T + 30 * YEAR_MS + 120_000, [{"tone": "a"}])
    feed.beat(idle=True)
    assert {v.estimate.support for v in feed.listener.verdicts if v.slice_ == "a"} == {0, 1}
    steps = int(config.windows[0].length // config.windows[0].slide)
    assert len({v.pane_end_ms for v in feed.listener.verdicts}) <= 5 * (steps + 1)
    assert work["moves"] < 100 * steps
    assert work["looks"] < 100 * steps
    assert closed_total(feed) == 0


def test_a_long_backlog_is_worked_off_in_proportion(config: Config, work: Counter[str]) -> None:
    """A monitor that closes thousands of panes at once does not look at each of them for each of them."""
    feed = Feed(config)
    for pane in range(2_000):
        feed.show(T + pane * PANE_MS, [{"tone": "a"}, {"tone": "b"}], viewer=pane)
    feed.reader.read(feed._log)
    for sent in feed.reader.flush():
        feed.listener.hear(sent)
    work.clear()
    feed.beat()
    assert work["looks"] < 50 * 2_000
    assert len(ends(feed)) == 1_999


def test_a_correction_after_closing_changes_windows_and_judges_no_pane_again(config: Config) -> None:
    """Within the correction horizon a pane takes more from a partition that was idle; verdicts stay."""
    feed = Feed(config)
    fill(feed, range(4))
    judged, before = len(feed.listener.verdicts), closed_total(feed)
    late = PaneSnapshot(T + 2 * PANE_MS, 0, 0, 0, 1, [("a",)], _u4(0), _i8(5))
    assert feed.watch.apply(Kind.IMPRESSIONS, [(7, late)]) == [Applied.APPLIED]
    assert closed_total(feed) == before + 5
    feed.beat()
    assert len(feed.listener.verdicts) == judged
    fill(feed, range(4, 5))
    assert {v.estimate.support for v in feed.listener.verdicts[judged:]} == {4, 9}
    fill(feed, range(5, 12))
    assert closed_total(feed) == 12
    assert feed.watch.apply(Kind.IMPRESSIONS, [(7, late)]) == [Applied.SEALED]


def _u4(*values: int) -> bytes:
    return np.array(values, dtype="<u4").tobytes()


def _i8(*values: int) -> bytes:
    return np.array(values, dtype="<i8").tobytes()


def test_stale_and_partial_snapshots_are_refused(feed: Feed) -> None:
    """Of one pane, what is not newer changes nothing, and what lacks counted events is refused."""

    def told(start: int, first: int, end: int, part: int = 0, amount: int = 3) -> Applied:
        snapshot = PaneSnapshot(T, part, start, first, end, [("a",)], _u4(0), _i8(amount))
        return feed.watch.apply(Kind.IMPRESSIONS, [(0, snapshot)])[0]

    assert told(0, 5, 20) is Applied.APPLIED
    assert told(0, 5, 20) is Applied.STALE
    assert told(0, 5, 19, amount=2) is Applied.STALE
    assert told(6, 7, 99, amount=99) is Applied.PARTIAL
    assert told(6, 7, 99, part=1, amount=99) is Applied.PARTIAL
    assert told(5, 5, 30, amount=4) is Applied.APPLIED
    view = feed.watch.panes.views[0]
    view.live.advance(T + PANE_MS)
    assert view.live.totals[0].flat.sum() == 4


def test_a_snapshot_of_a_part_is_partial_if_its_pane_is(feed: Feed) -> None:
    """Parts are numbered from a pane's first event: a reader that missed it must not add parts of its own."""
    whole = PaneSnapshot(T, 0, 0, 0, 10, [("a",)], _u4(0), _i8(3))
    moved = PaneSnapshot(T, 1, 5, 6, 12, [("a",)], _u4(0), _i8(3))
    applied = feed.watch.apply(Kind.IMPRESSIONS, [(0, whole), (0, moved)])
    assert applied == [Applied.APPLIED, Applied.PARTIAL]


def test_engagements_without_actions_are_not_taken(config: Config) -> None:
    """A surface whose configuration counts no actions has no place for engagements."""
    plain = parse_config(CONFIG.replace("actions: [save], ", ""))
    watch = SurfaceWatch(plain, "home", MemoryStore())
    snapshot = PaneSnapshot(T, 0, 0, 0, 1, [("a",)], _u4(0), _i8(1))
    assert watch.apply(Kind.ENGAGEMENTS, [(0, snapshot)]) == [Applied.SEALED]


def test_memory_and_store_do_not_grow(config: Config) -> None:
    """After the longest window has passed, a steady stream takes no more room."""
    feed = Feed(config)
    sizes = []
    for stretch in range(4):
        fill(feed, range(stretch * 100, stretch * 100 + 100))
        panes = sum(len(series.panes) for series in feed.watch.panes._levels.values())
        assert isinstance(feed.store, MemoryStore)
        sizes.append((len(feed.store.data), panes))
    assert sizes[1] == sizes[2] == sizes[3]
    assert sizes[3][0] < 60


def test_windows_are_back_after_a_restart(feed: Feed) -> None:
    """Before the next pane closes, panels show what they showed."""
    fill(feed, range(40))
    before = [
        sums_of_slices("abcdefgh", w.totals[0].array(8, feed.watch.panes.layout))
        for view in feed.watch.panes.views
        for w in (view.closed, view.matured)
        if w is not None
    ]
    feed.restart()
    feed.beat()
    after = [
        sums_of_slices("abcdefgh", w.totals[0].array(8, feed.watch.panes.layout))
        for view in feed.watch.panes.views
        for w in (view.closed, view.matured)
        if w is not None
    ]
    assert [sorted(map(str, sums.values())) for sums in after] == [
        sorted(map(str, sums.values())) for sums in before
    ]


@pytest.mark.parametrize(
    ("old", "new", "learnt"),
    [
        ("buckets: 4", "buckets: 8", False),
        ("rules:", "exposure: {curve: reciprocal}\nrules:", False),
        ("pane: 10s}\nlimits", "pane: 20s}\nlimits", True),
    ],
)
def test_another_meaning_starts_anew(old: str, new: str, learnt: bool) -> None:
    """Sums of another meaning are dropped, never mixed in; so is a baseline in other units."""
    text = CONFIG.replace("targets: {a: 0.5, b: 0.5}", "baseline: {first: 1m}")
    text = text.replace("impression_share", "exposure_share")
    feed = Feed(parse_config(text))
    fill(feed, range(20))
    assert feed.listener.verdicts[-1].verdict is Outcome.OK
    other = Feed(parse_config(text.replace(old, new)), feed.store)
    fill(other, range(20, 25))
    verdicts = other.listener.verdicts
    assert verdicts
    assert {v.estimate.support for v in verdicts} <= set(range(6)), "no impression from before"
    assert {v.reason == "learning the baseline" for v in verdicts} == {not learnt}


def test_a_changed_rule_starts_anew_and_the_others_go_on(config: Config) -> None:
    """A rule that measures something else forgets what it learnt; its window has the panes that are left."""
    feed = Feed(config)
    fill(feed, range(20))
    changed = parse_config(CONFIG.replace("window: 1m", "window: 4m"))
    other = Feed(changed, feed.store)
    fill(other, range(20, 24))
    assert other.listener.verdicts[-1].estimate.support == 22


SECOND_RULE = CONFIG.partition("rules:\n")[2].replace("name: tone", "name: second")


def ends_of(feed: Feed, rule: str) -> list[int]:
    """Return the panes that a rule judged, in panes since T."""
    return [(v.pane_end_ms - T) // PANE_MS for v in feed.listener.verdicts if v.rule == rule][::2]


def test_a_new_rule_begins_where_the_others_stand(feed: Feed) -> None:
    """It judges no pane from before it, and its first window is full; the others go on as if nothing were."""
    fill(feed, range(20))
    last = ends_of(feed, "tone")[-1]
    other = Feed(parse_config(CONFIG + SECOND_RULE), feed.store)
    other.restart()
    other.restart()  # a crash before it has judged anything changes nothing
    fill(other, range(20, 24))
    assert ends_of(other, "tone") == ends_of(other, "second") == list(range(last + 1, 24))
    first = next(v for v in other.listener.verdicts if v.rule == "second")
    assert first.estimate.support == 6


def test_a_changed_rule_judges_no_pane_again(feed: Feed) -> None:
    """Though it measures something else now."""
    fill(feed, range(20))
    other = Feed(parse_config(CONFIG.replace("impression_share", "exposure_share")), feed.store)
    fill(other, range(20, 24))
    assert ends_of(other, "tone")[0] == ends_of(feed, "tone")[-1] + 1


@pytest.mark.parametrize("length", ["30s", "1m"])
def test_a_new_window_begins_with_its_first_whole_pane(config: Config, length: str) -> None:
    """Panes that are not all there any more are left out of it, also after restarts; the others stay."""
    feed = Feed(config)
    fill(feed, range(20))
    sealed_ms = max(feed.watch.panes.sealed_through.values())
    windows = f"windows: [{{length: {length}, slide: 30s}}, "
    text = CONFIG.replace("windows: [{length: 1m, slide: 10s}, ", windows).replace("window: 1m", "window: 4m")
    other = Feed(parse_config(text), feed.store)
    for pane in range(20, 32):
        fill(other, range(pane, pane + 1))
        other.restart()
        view, old = other.watch.panes.views
        begin_ms = other.watch.panes.beginnings.window(view.spec)
        assert begin_ms % 30_000 == 0
        assert sealed_ms <= begin_ms < sealed_ms + 30_000
        held = set(view.closed.series.panes)
        assert all(start >= begin_ms for start in held)
        for start in held:
            whole = view.closed.series.panes[start].slices[0].array(9, other.watch.panes.layout)
            seen = min(pane + 1, (start - T) // PANE_MS + 3) - (start - T) // PANE_MS
            assert int(whole[:, :, 0].sum()) == 2 * seen
        assert other.watch.panes.beginnings.window(old.spec) == 0


def test_a_longer_window_begins_with_the_oldest_pane_that_is_left(config: Config) -> None:
    """A window of a slide that another one has had takes what that one has kept."""
    feed = Feed(config)
    fill(feed, range(40))
    text = CONFIG.replace("{length: 4m, slide: 20s}]", "{length: 4m, slide: 20s}, {length: 8m, slide: 20s}]")
    other = Feed(parse_config(text), feed.store)
    fill(other, range(40, 41))
    _, old, new = other.watch.panes.views
    begin_ms = other.watch.panes.beginnings.window(new.spec)
    assert begin_ms == min(old.closed.series.panes)
    assert closed_total(other, 2) == (new.closed.end_ms - begin_ms) // PANE_MS * 2
    assert closed_total(other, 1) == 2 * 24


def test_a_rule_that_is_gone_is_forgotten(config: Config) -> None:
    """Its memory is removed from the store at the next start."""
    feed = Feed(config)
    fill(feed, range(20))
    assert isinstance(feed.store, MemoryStore)
    assert "rule|home|tone" in feed.store.data
    SurfaceWatch(parse_config(CONFIG.partition("rules:")[0]), "home", feed.store)
    assert "rule|home|tone" not in feed.store.data


def test_a_late_engagement_reaches_a_pane_whose_impressions_are_sealed() -> None:
    """Impressions can no longer change long before the last engagement with them has come."""
    config = parse_config(CONFIG.replace("attribution_window: 10s", "attribution_window: 2m"))
    feed = Feed(config)
    fill(feed, range(7))
    assert feed.watch.panes.sealed_through[Kind.IMPRESSIONS] >= T + 2 * PANE_MS
    feed.act(T, {"tone": "a"}, "save", after_ms=70_000)
    feed.beat()
    fill(feed, range(7, 15))
    matured = feed.watch.panes.views[1].matured
    assert matured is not None
    assert matured.end_ms == T + 2 * PANE_MS
    assert int(matured.totals[0].array(9, feed.watch.panes.layout)[:, :, 3].sum()) == 1


def test_engagement_is_judged_when_it_has_matured() -> None:
    """A pane's rates are read after the attribution window, so that late clicks are in."""
    config = parse_config(
        CONFIG
        + """
- name: saves
  metric: engagement_rate
  action: save
  dimension: item.tone
  window: 1m
  min_support: 1
"""
    )
    feed = Feed(config)
    for pane in range(12):
        for viewer in range(8):
            at = T + pane * PANE_MS
            feed.show(at, [{"tone": "a"}, {"tone": "b"}], viewer=viewer)
            feed.act(at, {"tone": "a" if viewer % 2 else "b"}, "save", viewer)
        feed.beat()
    shares = {v.pane_end_ms for v in feed.listener.verdicts if v.rule == "tone"}
    rates = {v.pane_end_ms for v in feed.listener.verdicts if v.rule == "saves"}
    assert max(shares) - max(rates) == PANE_MS
    last = [v for v in feed.listener.verdicts if v.rule == "saves"][-2:]
    assert {v.slice_: v.share for v in last} == {"a": 0.5, "b": 0.5}
    assert {v.verdict for v in last} == {Outcome.OK}
