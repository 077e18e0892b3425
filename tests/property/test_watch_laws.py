from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from monitor.config import Config, WindowSpec
from monitor.raw_snapshots import Applied
from monitor.store import MemoryStore
from monitor.verdicts import Outcome, Verdict
from monitor.watch import SurfaceWatch
from monitor.windows import SlidingWindow
from streams.verify.recount import Judged, by_slice, recount, sum_up
from tests.support.core import Heartbeat, Listener, Sent, Told, cut, sums_of_slices, told_by
from tests.support.strategies import PARTITIONS, batch_cuts, configs, logs, seconds

pytestmark = pytest.mark.property

SURFACE = "home"
Answers = dict[tuple[object, ...], Verdict]


class JournalStore(MemoryStore):
    """A store that keeps its writes in order, so that any prefix of them can be brought back."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[tuple[str, bytes | None]] = []

    def put(self, key: str, value: bytes) -> None:
        """Insert or replace, and note it."""
        super().put(key, value)
        self.writes.append((key, value))

    def delete(self, key: str) -> None:
        """Remove, and note it."""
        super().delete(key)
        self.writes.append((key, None))

    def prefix(self, count: int) -> JournalStore:
        """Return the store as the first ``count`` writes left it."""
        store = JournalStore()
        for key, value in self.writes[:count]:
            if value is None:
                store.delete(key)
            else:
                store.put(key, value)
        return store


def listener(config: Config, store: MemoryStore | None = None) -> Listener:
    """Return a monitor of the surface with what the store remembers."""
    return Listener(SurfaceWatch(config, SURFACE, store or MemoryStore()), config)


def check_window(config: Config, watch: SurfaceWatch, window: SlidingWindow, judged: list[Judged]) -> None:
    """A running window equals the recount of its span in every dimension, empty slices left out."""
    projections, layout = watch.panes.projections, watch.panes.layout
    counted = sum_up(judged, SURFACE, *window.span)
    for dimension, place in projections.places.items():
        slices = projections.slices(dimension)
        found = sums_of_slices(slices, window.totals[place].array(len(slices), layout))
        assert found == by_slice(config, counted, dimension), (window.span, dimension)


def check_windows(config: Config, watch: SurfaceWatch, judged: list[Judged]) -> None:
    """Every running window that may be looked at equals the recount.

    Panes of engagements that do not fit into a window's slide are not in it.
    """
    shown = [j for j in judged if j.record.kind == "impressions"]
    for view in watch.panes.views:
        mine = judged if view.matured is not None else shown
        for window in (view.live, view.closed, *([view.matured] if view.matured is not None else [])):
            check_window(config, watch, window, mine)


def answers(verdicts: Sequence[Verdict]) -> Answers:
    """Return verdicts by series and pane; those of a window without any data say nothing and are left out."""
    support: dict[tuple[object, ...], int] = {}
    for v in verdicts:
        pane = (v.rule, v.pane_end_ms)
        support[pane] = support.get(pane, 0) + v.estimate.support
    found: Answers = {}
    for v in verdicts:
        if support[v.rule, v.pane_end_ms]:
            assert found.setdefault((*v.series, v.pane_end_ms), v) == v
    return found


def draw_told(
    data: st.DataObject, config: Config, idle: Sequence[frozenset[int]] = (frozenset(),)
) -> tuple[list[Judged], list[Told]]:
    """Return a log's recount and what a monitor is told of it."""
    log = data.draw(logs(config, most=50))
    told = told_by(config, log, data.draw(batch_cuts(len(log))), PARTITIONS, idle)
    return recount(config, log), told


def windows_of(watch: SurfaceWatch) -> list[tuple[object, ...]]:
    """Return span and sums of every window, empty slices left out."""
    projections, layout = watch.panes.projections, watch.panes.layout
    found: list[tuple[object, ...]] = []
    for view in watch.panes.views:
        for window in (view.live, view.closed, *([view.matured] if view.matured is not None else [])):
            for dimension, place in projections.places.items():
                slices = projections.slices(dimension)
                sums = sums_of_slices(slices, window.totals[place].array(len(slices), layout))
                found.append((view.spec.name, window.span, dimension, sums))
    return found


idles = st.lists(st.frozensets(st.integers(0, PARTITIONS - 1)), min_size=1, max_size=4)
"""Partitions that are silent after each batch."""


@given(st.data())
def test_windows_equal_the_recount(data: st.DataObject) -> None:
    """At every moment each running window holds exactly the events read so far, and nothing is refused."""
    config = data.draw(configs())
    log = data.draw(logs(config, most=50))
    judged = recount(config, log)
    monitor = listener(config)
    cuts = data.draw(batch_cuts(len(log)))
    edges = [*cuts, len(log), len(log)]
    beats = iter(edges)
    for told in told_by(config, log, cuts, PARTITIONS):
        monitor.hear(told)
        if isinstance(told, Heartbeat):
            check_windows(config, monitor.watch, judged[: next(beats)])
    assert set(monitor.applied) <= {Applied.APPLIED}


@settings(max_examples=60)
@given(st.data())
def test_order_and_repeats_of_snapshots_do_not_matter(data: st.DataObject) -> None:
    """Snapshots that come shuffled, twice or many at once give the same windows as those in order."""
    config = data.draw(configs(rules=True))
    judged, told = draw_told(data, config)
    sent = [each for each in told if isinstance(each, Sent)]
    monitor, shuffled, bundled = listener(config), listener(config), listener(config)
    order = data.draw(st.permutations(sent + sent[::2]))
    for each in sent:
        monitor.hear(each)
    for each in order:
        shuffled.hear(each)
    for some in cut(order, data.draw(batch_cuts(len(order)))):
        bundled.hear_together(some)
    monitor.hear(told[-1])
    for other in (shuffled, bundled):
        other.hear(told[-1])
        check_windows(config, other.watch, judged)
        assert answers(other.verdicts) == answers(monitor.verdicts)
        assert Applied.PARTIAL not in other.applied


@settings(max_examples=60)
@given(st.data())
def test_the_speed_of_reading_does_not_matter(data: st.DataObject) -> None:
    """A log replayed in one go gives the verdicts of the same log read record by record, as it came."""
    config = data.draw(configs(rules=True))
    log = data.draw(logs(config, most=50))
    replayed, lived = listener(config), listener(config)
    for cuts, monitor in (([], replayed), (range(1, len(log)), lived)):
        for each in told_by(config, log, cuts, PARTITIONS):
            monitor.hear(each)
    assert windows_of(replayed.watch) == windows_of(lived.watch)
    assert answers(replayed.verdicts) == answers(lived.verdicts)


@settings(max_examples=60)
@given(st.data(), st.integers(1, 3), st.integers(1, 3))
def test_caps_keep_totals(data: st.DataObject, max_cells: int, max_series: int) -> None:
    """When cells and slices do not fit, windows still hold all that was counted, in its viewer's bucket.

    Of requests, those dimensions do that are not of items.
    """
    config = data.draw(configs())
    config = replace(config, limits=replace(config.limits, max_cells=max_cells, max_series=max_series))
    judged, told = draw_told(data, config)
    store = MemoryStore()
    monitor = listener(config, store)
    for number, each in enumerate(told):
        monitor.hear(each)
        if number == len(told) // 2:
            monitor = listener(config, store)
    panes = monitor.watch.panes
    for view in panes.views:
        mine = judged if view.matured is not None else [j for j in judged if j.record.kind == "impressions"]
        expected = np.zeros((config.limits.buckets, panes.layout.measures), dtype=np.int64)
        for (_, bucket), amounts in sum_up(mine, SURFACE, *view.live.span).items():
            expected[bucket] += amounts
        ranked = 3 + len(config.engagement.actions)
        for dimension, place in panes.projections.places.items():
            found = view.live.totals[place].array(max_series + 1, panes.layout).sum(axis=0)
            assert (found[:, :ranked] == expected[:, :ranked]).all()
            assert "item." in dimension or (found[:, ranked:] == expected[:, ranked:]).all()


@settings(max_examples=60)
@given(st.data())
def test_each_closed_pane_is_judged_once(data: st.DataObject) -> None:
    """No series is judged twice for the same pane, nor backwards in time."""
    config = data.draw(configs(rules=True))
    _, told = draw_told(data, config)
    monitor = listener(config)
    for each in told:
        monitor.hear(each)
    ends: dict[object, int] = {}
    for verdict in monitor.verdicts:
        assert verdict.pane_end_ms > ends.get(verdict.series, 0)
        ends[verdict.series] = verdict.pane_end_ms


@settings(max_examples=100)
@given(st.data())
def test_a_restart_between_two_records_changes_nothing(data: st.DataObject) -> None:
    """A monitor that restarts from its store anywhere has the windows and verdicts of one that never did."""
    config = data.draw(configs(rules=True))
    _, told = draw_told(data, config, data.draw(idles))
    steady, store = listener(config), MemoryStore()
    for each in told:
        steady.hear(each)
    stops = data.draw(st.sets(st.integers(0, len(told) - 1), max_size=3))
    restarted = listener(config, store)
    verdicts: list[Verdict] = []
    for number, each in enumerate(told):
        restarted.hear(each)
        if number in stops:
            verdicts += restarted.verdicts
            restarted = listener(config, store)
    restarted.hear(told[-1])
    verdicts += restarted.verdicts
    assert windows_of(restarted.watch) == windows_of(steady.watch)
    assert answers(verdicts) == answers(steady.verdicts)


@settings(max_examples=60)
@given(st.data(), st.sampled_from([(80, 20), (50, 10), (150, 30), (20, 20), (240, 40)]))
def test_a_window_added_while_running_holds_whole_panes(data: st.DataObject, added: tuple[int, int]) -> None:
    """It equals the recount of what it says it covers, through more restarts; so do the others."""
    config = data.draw(configs(rules=True))
    spec = WindowSpec(length=seconds(added[0]), slide=seconds(added[1]))
    more = replace(config, windows=[*config.windows, spec])
    judged, told = draw_told(data, config)
    change, again = (data.draw(st.integers(0, len(told) - 1)) for _ in range(2))
    store = MemoryStore()
    monitor = listener(config, store)
    for number, each in enumerate(told):
        monitor.hear(each)
        if number in {change, max(change, again)}:
            monitor = listener(more, store)
    monitor.hear(told[-1])
    check_windows(more, monitor.watch, judged)
    assert monitor.watch.panes.beginnings.window(config.windows[0]) == 0


@settings(max_examples=150)
@given(st.data())
def test_a_crash_between_two_writes_changes_nothing(data: st.DataObject) -> None:
    """From any prefix of the store's writes, with the records since delivered again, all is the same."""
    config = data.draw(configs(rules=True))
    _, told = draw_told(data, config, data.draw(idles))
    steady, store = listener(config), JournalStore()
    for each in told:
        steady.hear(each)

    crashed = listener(config, store)
    writes_before = []
    for each in told:
        writes_before.append(len(store.writes))
        crashed.hear(each)
    kept = data.draw(st.integers(0, len(store.writes)))
    last = max((number for number, writes in enumerate(writes_before) if writes <= kept), default=0)
    again = data.draw(st.integers(max(0, last - 5), last))
    revived = listener(config, store.prefix(kept))
    for each in told[again:]:
        revived.hear(each)
    assert windows_of(revived.watch) == windows_of(steady.watch)
    expected = answers(steady.verdicts)
    for key, verdict in answers(revived.verdicts).items():
        assert verdict == expected[key]
    judged_before = {
        judge.rule.name: judge.last_end_ms
        for judge in SurfaceWatch(config, SURFACE, store.prefix(kept)).judges
    }
    due = {key for key, v in expected.items() if v.pane_end_ms > judged_before[v.rule]}
    assert due <= answers(revived.verdicts).keys()


@settings(max_examples=60)
@given(st.data())
def test_loading_changes_no_record(data: st.DataObject) -> None:
    """A start from a store that no crash has left behind changes nothing in it."""
    config = data.draw(configs(rules=True))
    _, told = draw_told(data, config)
    store = MemoryStore()
    monitor = listener(config, store)
    for each in told:
        monitor.hear(each)
    before = dict(store.data)
    SurfaceWatch(config, SURFACE, store)
    assert store.data == before


def test_outcomes_are_of_every_kind() -> None:
    """The generated logs are rich enough: they give answers of all three kinds."""
    seen: set[Outcome] = set()

    @settings(max_examples=120, database=None, derandomize=True)
    @given(st.data())
    def look(data: st.DataObject) -> None:
        config = data.draw(configs(rules=True))
        _, told = draw_told(data, config)
        monitor = listener(config)
        for each in told:
            monitor.hear(each)
        seen.update(verdict.verdict for verdict in monitor.verdicts)

    look()
    assert seen == set(Outcome)
