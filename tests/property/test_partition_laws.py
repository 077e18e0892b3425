from __future__ import annotations

from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.config import Config, parse_config
from monitor.partition import count_reasons
from monitor.snapshots import Kind, PaneSnapshot, is_partial, supersede
from streams.verify.compare import sums_of
from streams.verify.recount import ACCEPTED, Judged, LogRecord, pane_ms, recount, sum_up
from tests.support.core import Reader, Sent, batch_of, new_decoder, sources_of
from tests.support.events import impression
from tests.support.strategies import PARTITIONS, START_MS, batch_cuts, configs, logs

pytestmark = pytest.mark.property

CAPPED = parse_config(
    """
surfaces: [home]
windows: [{length: 1m, slide: 10s}]
time: {pane: 10s, allowed_lateness: 0s}
limits: {viewer_cap: {contributions: 3, per: 40s}}
"""
)

STEPS = ["read", "read", "flush", "flush and commit", "crash"]
"""What a process may do; `read` takes the next batch."""


def newest(sent: list[Sent]) -> list[Sent]:
    """Return the snapshots that are left when each supersedes what it is a newer version of."""
    held: dict[object, Sent] = {}
    for each in sent:
        before = held.get(each.key)
        if before is None or not is_partial(before.snapshot, each.snapshot):
            snapshot = each.snapshot if before is None else supersede(before.snapshot, each.snapshot)
            held[each.key] = each._replace(snapshot=snapshot)
    return list(held.values())


def check_panes(config: Config, sent: list[Sent], judged: list[Judged]) -> None:
    """Every pane of every surface and source partition equals the recount."""
    held = newest(sent)
    places = {(s.surface, s.kind, s.partition, s.snapshot.pane_start_ms) for s in held}
    places |= {
        (c.surface, Kind(j.record.kind), j.record.partition, c.pane_start_ms)
        for j in judged
        for c in j.contributions
    }
    for surface, kind, partition, start_ms in places:
        mine = [s for s in held if (s.surface, s.kind, s.partition) == (surface, kind, partition)]
        found = sums_of(config, kind, [s.snapshot for s in mine if s.snapshot.pane_start_ms == start_ms])
        theirs = [j for j in judged if (j.record.kind, j.record.partition) == (kind, partition)]
        assert found == sum_up(theirs, surface, start_ms, start_ms + pane_ms(config, kind))


def fates(reader: Reader) -> tuple[int, dict[str, int]]:
    """Return how many records were accepted in all, and how many rejected for which reason."""
    accepted = sum(outcome.accepted for _, outcome in reader.outcomes)
    reasons: dict[str, int] = {}
    for _, outcome in reader.outcomes:
        for reason, count in count_reasons(outcome.rejected).items():
            reasons[reason.value] = reasons.get(reason.value, 0) + count
    return accepted, reasons


def expected_fates(judged: list[Judged]) -> tuple[int, dict[str, int]]:
    """Return the same from the recount."""
    reasons: dict[str, int] = {}
    for each in judged:
        if each.fate != ACCEPTED:
            reasons[each.fate] = reasons.get(each.fate, 0) + 1
    return sum(j.fate == ACCEPTED for j in judged), reasons


@given(st.data())
def test_any_batches_give_the_recount(data: st.DataObject) -> None:
    """However the log is cut into batches and flushes, panes and fates are those of the recount."""
    config = data.draw(configs())
    log = data.draw(logs(config))
    judged = recount(config, log)
    reader = Reader(config, sources_of(config, PARTITIONS), PARTITIONS)
    sent: list[Sent] = []
    for start, end in pairwise([0, *data.draw(batch_cuts(len(log))), len(log)]):
        reader.read(log[start:end])
        if data.draw(st.booleans()):
            sent += reader.flush()
            reader.commit()
    sent += reader.flush()
    check_panes(config, data.draw(st.permutations(sent + sent[::2])), judged)
    assert fates(reader) == expected_fates(judged)
    assert not any(outcome.replayed for _, outcome in reader.outcomes)


@settings(max_examples=60)
@given(st.data())
def test_batches_change_no_byte(data: st.DataObject) -> None:
    """The last snapshots of a log read at once and of one read record by record are equal to the byte."""
    config = data.draw(configs())
    log = data.draw(logs(config, most=30))
    whole, single = (Reader(config, sources_of(config, PARTITIONS), PARTITIONS) for _ in range(2))
    whole.read(log)
    sent: list[Sent] = []
    for record in log:
        single.read([record])
        sent += single.flush()
    assert {s.key: s for s in newest(sent)} == {s.key: s for s in whole.flush()}


@settings(max_examples=120)
@given(st.data())
def test_crashes_change_nothing(data: st.DataObject) -> None:
    """A process that crashes anywhere and comes back from its commit publishes the recount."""
    config = data.draw(configs())
    log = data.draw(logs(config))
    reader = Reader(config, sources_of(config, PARTITIONS), PARTITIONS)
    sent: list[Sent] = []
    read = 0
    for step in data.draw(st.lists(st.sampled_from(STEPS), max_size=25)):
        if step == "crash":
            reader.restart()
            read = 0
        elif step == "read":
            end = min(len(log), read + data.draw(st.integers(1, 20)))
            reader.read(log[read:end])
            read = end
        else:
            sent += reader.flush()
            if step == "flush and commit":
                reader.commit()
    reader.read(log[read:])
    sent += reader.flush()
    check_panes(config, sent, recount(config, log))
    for count, outcome in reader.outcomes:
        assert count == outcome.accepted + len(outcome.rejected) + outcome.replayed
    check_versions(sent)


@st.composite
def busy_logs(draw: st.DrawFn) -> list[LogRecord]:
    """Return one partition's log: two viewers, an event or so a second, some late."""
    steps = draw(
        st.lists(st.tuples(st.integers(0, 4_000), st.integers(0, 12_000), st.integers(0, 5)), min_size=8)
    )
    times = accumulate((gap for gap, _, _ in steps), initial=START_MS)
    return [
        LogRecord("impressions", 0, offset, -1, impression(ts - behind * (number == 0), f"u-{number % 2}"))
        for offset, (ts, (_, behind, number)) in enumerate(zip(times, steps, strict=False))
    ]


@given(busy_logs(), st.data())
def test_a_crash_forgets_nothing_of_what_viewers_have_used_up(
    log: list[LogRecord], data: st.DataObject
) -> None:
    """Though panes of the session have closed and were let go: a process that comes back counts the same."""
    config = CAPPED
    reader = Reader(config, sources_of(config, 1), 1)
    sent: list[Sent] = []
    for start, end in pairwise([0, *data.draw(batch_cuts(len(log))), len(log)]):
        reader.read(log[start:end])
        sent += reader.flush()
        reader.commit()
        if data.draw(st.booleans()):
            reader.restart()
            reader.read(log[:end])
    sent += reader.flush()
    judged = recount(config, log)
    check_panes(config, sent, judged)
    assert fates(reader) == expected_fates(judged)
    counted = sum(outcome.items for _, outcome in reader.outcomes)
    assert counted == sum(len(each.contributions) for each in judged)
    capped = sum(outcome.capped for _, outcome in reader.outcomes)
    assert counted + capped == sum(outcome.accepted for _, outcome in reader.outcomes)


def check_versions(sent: list[Sent]) -> None:
    """No snapshot of a process that kept its commits is partial, and equal ends mean equal sums."""
    held: dict[object, PaneSnapshot] = {}
    for each in sent:
        before = held.setdefault((*each.key, each.snapshot.end_offset), each.snapshot)
        assert (before.cells, before.index, before.values) == (
            each.snapshot.cells,
            each.snapshot.index,
            each.snapshot.values,
        )
        assert not is_partial(before, each.snapshot)
        assert each.snapshot.first_offset == before.first_offset


@settings(max_examples=60)
@given(st.data())
def test_after_a_clean_stop_nothing_is_judged_twice(data: st.DataObject) -> None:
    """A process that commits, stops and starts counts every record once as accepted or rejected."""
    config = data.draw(configs())
    log = data.draw(logs(config))
    reader = Reader(config, sources_of(config, PARTITIONS), PARTITIONS)
    for start, end in pairwise([0, *data.draw(batch_cuts(len(log))), len(log)]):
        reader.read(log[:start])  # what the open panes need, again
        reader.read(log[start:end])
        reader.flush()
        reader.commit()
        reader.restart()
    assert fates(reader) == expected_fates(recount(config, log))


@settings(max_examples=60)
@given(st.data())
def test_a_commit_never_goes_back(data: st.DataObject) -> None:
    """Offset, position and watermark of the commits only grow, across restarts too."""
    config = data.draw(configs())
    log = data.draw(logs(config))
    reader = Reader(config, sources_of(config, PARTITIONS), PARTITIONS)
    before = dict.fromkeys(reader.states, (0, 0, 0))
    read = 0
    for cut in [*data.draw(batch_cuts(len(log))), len(log)]:
        reader.read(log[read:cut])
        read = cut
        reader.flush()
        reader.commit()
        for source, state in reader.states.items():
            offset, resume = state.commit_point()
            point = (offset, resume.position, resume.watermark_ms)
            assert all(new >= old for new, old in zip(point, before[source], strict=True))
            before[source] = point
        if data.draw(st.booleans()):
            reader.restart()
            read = 0


def _versions(log: list[LogRecord], config: Config) -> list[PaneSnapshot]:
    """Return snapshots of one pane by readers that began and stopped at different places of its log."""
    records = [r for r in log if (r.kind, r.partition) == ("impressions", 0)]
    versions = []
    for end in range(1, len(records) + 1):
        reader = Reader(config, [(Kind.IMPRESSIONS, 0)], 1)
        reader.read(records[:end])
        versions += [s.snapshot for s in reader.flush() if s.surface == "home"]
    first = versions[0].pane_start_ms if versions else 0
    return [v for v in versions if v.pane_start_ms == first and v.part == 0]


@settings(max_examples=60)
@given(st.data())
def test_supersede_is_a_semilattice(data: st.DataObject) -> None:
    """Superseding is idempotent, commutative and associative over the snapshots of one log."""
    config = data.draw(configs(engaged=False))
    versions = _versions(data.draw(logs(config, most=15)), config)
    if not versions:
        return
    one = st.sampled_from(versions)
    a, b, c = (data.draw(one) for _ in range(3))
    assert supersede(a, a) == a
    assert supersede(a, b) == supersede(b, a)
    assert supersede(supersede(a, b), c) == supersede(a, supersede(b, c))


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(4, 8)), min_size=3, max_size=3))
def test_supersede_orders_by_end_then_start(stretches: list[tuple[int, int]]) -> None:
    """Of the same end, the snapshot that began earlier wins; the laws hold for every stretch of log."""
    a, b, c = (
        PaneSnapshot(0, 0, start, 3, end, [("f",)], b"", np.int64(end).tobytes()) for start, end in stretches
    )
    assert supersede(a, b) == supersede(b, a)
    assert supersede(supersede(a, b), c) == supersede(a, supersede(b, c))
    assert supersede(a, b).end_offset == max(a.end_offset, b.end_offset)


@settings(max_examples=60)
@given(st.data())
def test_a_batch_decodes_like_its_records_one_by_one(data: st.DataObject) -> None:
    """The fast path for whole batches accepts and refuses exactly what a single record would be."""
    config = data.draw(configs())
    log = data.draw(logs(config, most=20))
    for kind in Kind if config.engagement.actions else [Kind.IMPRESSIONS]:
        records = [r for r in log if r.kind == kind]
        whole = new_decoder(config, kind).decode(batch_of(records).values)
        single = new_decoder(config, kind)
        alone = [single.decode([r.value]) for r in records]
        assert whole.index.tolist() == [i for i, c in enumerate(alone) if len(c.index)]
        assert {(r.index, r.reason) for r in whole.rejected} == {
            (i, r.reason) for i, c in enumerate(alone) for r in c.rejected
        }


@given(st.lists(st.one_of(st.binary(max_size=40), st.text(max_size=40).map(str.encode)), max_size=6))
def test_noise_is_refused_record_by_record(values: list[bytes | None]) -> None:
    """Arbitrary bytes never raise, are never accepted, and each gives one rejection."""
    config = Config(surfaces=["home"], windows=[])
    for kind in Kind:
        columns = new_decoder(config, kind).decode(values)
        assert len(columns.index) == 0
        assert sorted(r.index for r in columns.rejected) == list(range(len(values)))
