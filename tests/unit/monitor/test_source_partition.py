from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from monitor.config import Config, parse_config
from monitor.decoding import EngagementDecoder, ImpressionDecoder
from monitor.pane_sums import cells_per_part
from monitor.partition import Resume, SourcePartition, count_reasons, pane_clock
from monitor.rejections import Reason
from monitor.snapshots import Kind, PaneSnapshot, encode_raw
from streams.verify.recount import LogRecord
from tests.support.core import batch_of

PANE_MS = 10_000
T = 1_700_000_000_000

CONFIG = """\
surfaces: [home]
windows: [{length: 1m, slide: 10s}]
attributes: {item: {tone: {}}}
time: {pane: 10s, allowed_lateness: 5s, allowed_skew: 1m}
engagement: {actions: [save], attribution_window: 20s, pane: 10s}
limits: {buckets: 4, max_cells: 3}
"""


@pytest.fixture
def config() -> Config:
    """Return a small configuration."""
    return parse_config(CONFIG)


def record(offset: int, at_s: float, tone: str = "a", record_ms: int = -1) -> LogRecord:
    """Return an impression `at_s` seconds after T."""
    event = {
        "ts": T + int(at_s * 1000),
        "request_id": "r",
        "viewer_id": "u",
        "surface": "home",
        "items": [{"id": "p", "attrs": {"tone": tone}}],
    }
    return LogRecord("impressions", 0, offset, record_ms, json.dumps(event).encode())


def started(config: Config, offset: int = 0, resume: Resume | None = None) -> SourcePartition:
    """Return a reader of impressions."""
    return SourcePartition(config, Kind.IMPRESSIONS, ImpressionDecoder(config), offset, resume)


def reasons(state: SourcePartition, records: Sequence[LogRecord]) -> dict[Reason, int]:
    """Read records; return what was rejected."""
    return dict(count_reasons(state.read(batch_of(records)).rejected))


def taken(state: SourcePartition) -> list[PaneSnapshot]:
    """Take the snapshots of the surface home."""
    return state.take_snapshots().get("home", [])


def test_a_pane_closes_when_the_watermark_passes_its_end_and_the_lateness(config: Config) -> None:
    """One millisecond before, an event is still counted; then it is `late`."""
    for last_s, expected in ((14.999, {}), (15.0, {Reason.LATE: 1})):
        state = started(config)
        assert reasons(state, [record(0, 0), record(1, last_s), record(2, 9.999)]) == expected


def test_late_is_decided_by_the_log_and_not_by_the_batch(config: Config) -> None:
    """An event after the one that closes its pane is late within the same batch, and before it is not."""
    assert reasons(started(config), [record(0, 9), record(1, 15), record(2, 9)]) == {Reason.LATE: 1}


def test_an_event_is_late_only_for_its_own_pane(config: Config) -> None:
    """What is older than the watermark but whose pane is open corrects the pane in place."""
    state = started(config)
    assert reasons(state, [record(0, 14.999), record(1, 0), record(2, 10)]) == {}
    assert {s.pane_start_ms: s.end_offset for s in taken(state)} == {T: 2, T + PANE_MS: 3}


def test_the_future_is_rejected_and_moves_no_watermark(config: Config) -> None:
    """One bad clock does not make everybody else late; time is compared with the record's own."""
    state = started(config)
    ahead = [record(0, 0, record_ms=T), record(1, 60.001, record_ms=T), record(2, 1, record_ms=T)]
    assert reasons(state, ahead) == {Reason.FUTURE: 1}
    assert state.watermark_ms == T + 1_000
    assert reasons(state, [record(3, 60, record_ms=T)]) == {}
    assert state.watermark_ms == T + 60_000


def test_replays_are_judged_by_the_records_time(config: Config) -> None:
    """Events of years ago are no trouble, and a record without a time is taken at its word."""
    assert reasons(started(config), [record(0, 0, record_ms=T + 10**11), record(1, 10**6)]) == {}


def test_bad_records_move_no_watermark(config: Config) -> None:
    """Only accepted events do."""
    state = started(config)
    bad = LogRecord("impressions", 0, 0, -1, record(0, 1000).value[:-1])  # type: ignore[index]
    outcome = state.read(batch_of([bad]))
    assert (outcome.accepted, len(outcome.rejected)) == (0, 1)
    assert state.watermark_ms == 0
    assert state.position == 1
    assert state.take_snapshots() == {}


def test_a_snapshot_is_cumulative_and_sent_only_when_changed(config: Config) -> None:
    """Each snapshot holds all since the pane began; what has not changed is not sent again."""
    state = started(config)
    state.read(batch_of([record(5, 0), record(6, 12)]))
    assert [(s.pane_start_ms, s.first_offset, s.end_offset) for s in taken(state)] == [
        (T, 5, 6),
        (T + PANE_MS, 6, 7),
    ]
    state.read(batch_of([record(7, 3)]))
    [changed] = taken(state)
    assert (changed.first_offset, changed.end_offset) == (5, 8)
    assert changed.sums()[1].tolist() == [2, 2_000_000, 2]
    assert taken(state) == []


def test_the_commit_waits_for_open_panes(config: Config) -> None:
    """It is the first offset that an open pane still needs; a closed pane is let go once it was taken."""
    state = started(config)
    state.read(batch_of([record(0, 0), record(1, 1), record(2, 12), record(3, 15)]))
    assert state.open_panes == 2
    taken(state)
    assert state.commit_point() == (2, Resume(watermark_ms=T + 15_000, position=4))
    assert (state.open_panes, state.panes_closed) == (1, 1)


def test_a_restart_reads_again_without_counting_twice(config: Config) -> None:
    """Records before the committed position rebuild their open panes and are `replayed`."""
    log = [record(0, 12), record(1, 1), record(2, 15), record(3, 16)]
    state = started(config)
    state.read(batch_of(log[:3]))
    before = taken(state)
    offset, resume = state.commit_point()
    again = started(config, offset, resume)
    outcome = again.read(batch_of(log[offset:]))
    assert (outcome.accepted, outcome.replayed, outcome.rejected) == (1, 3, [])
    [rebuilt] = taken(again)
    assert rebuilt.pane_start_ms == T + PANE_MS
    assert rebuilt.sums()[1].tolist() == [3, 3_000_000, 3]
    assert rebuilt.first_offset == before[1].first_offset


def test_a_commit_in_the_middle_of_a_replay_forgets_nothing(config: Config) -> None:
    """What was judged before two restarts is still not judged again."""
    log = [record(0, 12), record(1, 13), record(2, 14)]
    state = started(config)
    state.read(batch_of(log))
    taken(state)
    once = started(config, *state.commit_point())
    once.read(batch_of(log[:1]))
    taken(once)
    twice = started(config, *once.commit_point())
    outcome = twice.read(batch_of([*log, record(3, 15)]))
    assert (outcome.accepted, outcome.replayed) == (1, 3)


def test_a_lost_commit_is_seen_in_the_snapshot(config: Config) -> None:
    """A reader that begins in the middle says so: its snapshots start after the pane's first event."""
    whole, moved = started(config), started(config, 2)
    whole.read(batch_of([record(0, 0), record(1, 1), record(2, 2)]))
    moved.read(batch_of([record(2, 2)]))
    assert taken(moved)[0].from_offset > taken(whole)[0].first_offset


def test_overflow_is_counted_even_when_other_is_a_value_of_its_own(config: Config) -> None:
    """A cell that is `other` by its values takes a place like any; what the cap leaves out is counted."""
    state = started(config)
    tones = ["other", "a", "b", "c", "d", "a", "c"]
    outcome = state.read(batch_of([record(i, 0, tone) for i, tone in enumerate(tones)]))
    assert outcome.overflowed == 3
    [snapshot] = taken(state)
    assert snapshot.cells == [("other",), ("a",), ("b",)]
    assert snapshot.sums()[1][::3].tolist() == [4, 2, 1]


def test_engagements_go_to_the_pane_of_their_impression(config: Config) -> None:
    """Cohort crediting: the pane stays open for the attribution window and the lateness."""

    def engagement(offset: int, at_s: int, shown_s: int) -> LogRecord:
        event = {
            "ts": T + at_s * 1000,
            "request_id": "r",
            "viewer_id": "u",
            "surface": "home",
            "item_id": "p",
            "action": "save",
            "impression_ts": T + shown_s * 1000,
        }
        return LogRecord("engagements", 0, offset, -1, json.dumps(event).encode())

    state = SourcePartition(config, Kind.ENGAGEMENTS, EngagementDecoder(config), 0)
    assert reasons(state, [engagement(0, 20, 5), engagement(1, 34, 20), engagement(2, 25, 5)]) == {}
    assert {s.pane_start_ms: int(s.sums()[1].sum()) for s in taken(state)} == {T: 2, T + 2 * PANE_MS: 1}
    assert reasons(state, [engagement(3, 35, 30), engagement(4, 25, 5)]) == {Reason.LATE: 1}
    assert pane_clock(config, Kind.ENGAGEMENTS).close_delay_ms == 25_000


def test_no_part_outgrows_a_record_whatever_the_names() -> None:
    """The longest values of many attributes, in the widest letters, still fit into a broker's usual 1 MB."""
    names = [f"a{number}" for number in range(12)]
    attributes = "{item: {" + ", ".join(f"{name}: {{}}" for name in names) + "}}"
    config = parse_config(CONFIG.replace("{item: {tone: {}}}", attributes).replace("max_cells: 3", ""))
    state = started(config)
    for first in range(0, 600, 50):
        items = [
            {"id": "p", "attrs": dict.fromkeys(names, f"{number:04}" + "\U0001f600" * 124)}
            for number in range(first, first + 50)
        ]
        event = {"ts": T, "request_id": "r", "viewer_id": "u", "surface": "home", "items": items}
        state.read(batch_of([LogRecord("impressions", 0, first, -1, json.dumps(event).encode())]))
    parts = taken(state)
    assert sum(len(part.cells) for part in parts) == 600
    assert max(len(encode_raw("", part)) for part in parts) < 600_000


def test_a_large_pane_travels_in_parts(config: Config) -> None:
    """No snapshot holds more cells than fit into a record, and a change sends only the parts it touches."""
    wide = parse_config(CONFIG.replace("buckets: 4, max_cells: 3", "buckets: 256, max_cells: 500"))
    state = started(wide)
    state.read(batch_of([record(i, 0, f"t{i}") for i in range(320)]))
    parts = taken(state)
    most = cells_per_part(256, 3, 1)
    assert [len(s.cells) for s in parts] == [most] * (320 // most) + [320 % most]
    state.read(batch_of([record(320, 0, "t319")]))
    assert [s.part for s in taken(state)] == [parts[-1].part]
