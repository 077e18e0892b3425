"""The demo's log through the whole core, without Kafka."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import pytest

from monitor.config import Config, parse_config
from monitor.snapshots import Kind
from monitor.store import MemoryStore
from monitor.verdicts import Direction, Outcome, Verdict
from monitor.watch import SurfaceWatch
from streams.replay import START_MS, SURFACE, SWITCH_MS, iter_replay
from streams.verify.recount import LogRecord
from tests.support.core import Listener, Reader

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
PARTITIONS = 4

Replayed = tuple[list[Verdict], Reader]

CONFIG = """\
surfaces: [shop]
windows: [{length: 24h, slide: 1h}]
attributes: {item: {item_feature_1: {}}}
time: {pane: 1h, allowed_lateness: 1h}
exposure: {curve: top_k, k: 3}
limits: {buckets: 32}
rules:
- name: feature
  metric: exposure_share
  dimension: item.item_feature_1
  window: 24h
  compare: reference
  reference: {baseline: {first: 3d}}
  tolerance: {low: 0.8, high: 1.25}
  min_support: 15
"""


def logs_by_hour() -> Iterable[list[LogRecord]]:
    """Yield the impressions of each hour, spread over partitions by viewer."""
    offset = 0
    shown = (record for record in iter_replay() if record.kind == "impression")
    for _, records in groupby(shown, key=lambda record: record.ts_ms // HOUR_MS):
        batch = []
        for record in records:
            partition = sum(record.key) % PARTITIONS
            batch.append(LogRecord("impressions", partition, offset, record.ts_ms, record.value))
            offset += 1
        yield batch


def replay(config: Config) -> Replayed:
    """Return the verdicts of the whole fortnight, and the reader with its counts."""
    reader = Reader(config, [(Kind.IMPRESSIONS, p) for p in range(PARTITIONS)], PARTITIONS)
    listener = Listener(SurfaceWatch(config, SURFACE, MemoryStore()), config)
    for batch in logs_by_hour():
        reader.read(batch)
        for sent in reader.flush():
            listener.hear(sent)
        listener.hear(reader.heartbeat())
    return listener.verdicts, reader


@pytest.fixture(scope="module")
def replayed() -> Replayed:
    """Replay once for all tests."""
    return replay(parse_config(CONFIG))


def test_every_impression_is_counted(replayed: Replayed) -> None:
    """The log is clean: all is accepted, in each partition."""
    _, reader = replayed
    assert sum(outcome.accepted for _, outcome in reader.outcomes) == sum(n for n, _ in reader.outcomes)
    assert sum(n for n, _ in reader.outcomes) == 20_000


def test_nothing_is_judged_while_the_baseline_is_learnt(
    replayed: Replayed,
) -> None:
    """For three days every answer is `insufficient`."""
    early = [v for v in replayed[0] if v.pane_end_ms < START_MS + 3 * DAY_MS]
    assert {v.verdict for v in early} == {Outcome.INSUFFICIENT}
    assert {v.pane_end_ms for v in early} == {START_MS + h * HOUR_MS for h in range(1, 72)}


def test_the_random_week_has_no_breach(replayed: Replayed) -> None:
    """Under the uniformly random ranker all shares stay with their baseline."""
    random_week = [v for v in replayed[0] if v.pane_end_ms <= SWITCH_MS]
    judged = {v.pane_end_ms for v in random_week if v.verdict is not Outcome.INSUFFICIENT}
    assert len(judged) > 90
    assert not [v for v in random_week if v.verdict is Outcome.BREACH]


def test_the_switch_collapses_four_slices_and_raises_one(
    replayed: Replayed,
) -> None:
    """A day after the switch the slices that lost are low and the one that won is high, and stay so."""
    later = [v for v in replayed[0] if v.pane_end_ms > SWITCH_MS + DAY_MS]
    breaches: dict[str, set[Direction]] = {}
    for v in later:
        if v.verdict is Outcome.BREACH:
            breaches.setdefault(v.slice_[:6], set()).add(v.direction)
    for slice_ in ("84c523", "bf9100", "31a4dc", "ab5678"):
        assert breaches[slice_] == {Direction.LOW}
    assert breaches["9a2a41"] == {Direction.HIGH}
    last = [v for v in later if v.pane_end_ms == later[-1].pane_end_ms]
    assert {v.slice_[:6] for v in last if v.direction is Direction.LOW} >= {"84c523", "31a4dc"}


def test_the_verdicts_are_the_same_every_time(replayed: Replayed) -> None:
    """The core reads no clock and draws no lots."""
    assert replay(parse_config(CONFIG))[0] == replayed[0]


@pytest.fixture(scope="module")
def budgeted() -> list[Verdict]:
    """Replay with an e-detector in place of the tolerance."""
    return replay(parse_config(CONFIG + "  detectors: [{kind: e_detector}]\n"))[0]


def test_the_e_detector_is_silent_on_the_random_week(budgeted: list[Verdict]) -> None:
    """Nearly all slices have warmed up by the switch, and none has paged."""
    week = [v for v in budgeted if v.pane_end_ms <= SWITCH_MS]
    assert not [v for v in week if v.verdict is Outcome.BREACH]
    assert len({v.slice_ for v in week if v.verdict is Outcome.OK}) >= 11


def test_the_e_detector_finds_the_right_slices_within_a_day(budgeted: list[Verdict]) -> None:
    """Four slices that collapse and the one that trebles page on their side, most within 15 hours."""
    first: dict[str, Verdict] = {}
    for v in budgeted:
        if v.verdict is Outcome.BREACH:
            first.setdefault(v.slice_[:6], v)
    sides = dict.fromkeys(("84c523", "bf9100", "31a4dc", "ab5678"), Direction.LOW) | {
        "9a2a41": Direction.HIGH
    }
    hours = []
    for slice_, direction in sides.items():
        assert first[slice_].direction is direction
        hours.append((first[slice_].pane_end_ms - SWITCH_MS) // HOUR_MS)
    assert max(hours) <= 24
    assert sorted(hours)[3] <= 15
