from __future__ import annotations

import json
import zlib
from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from monitor.cells import Cell, PairCoder, ValueCoder, viewer_hashes
from monitor.config import Attribute, Attributes, Config, Curve, Exposure, Limits, WindowSpec
from monitor.decoding import ImpressionDecoder
from monitor.estimates import double_ratio, jackknife_se, rate_terms, share_terms
from monitor.exposure import MAX_POSITION, position_weights
from monitor.pane_sums import PaneSums
from monitor.partition import SourcePartition
from monitor.progress import Progress
from monitor.slices import Projections
from monitor.snapshots import (
    VERSION,
    HeartbeatRecord,
    Kind,
    PaneSnapshot,
    PanesRecord,
    SourceProgress,
    SourceSnapshots,
    decode_raw,
    decode_record,
    encode_raw,
    encode_record,
)
from monitor.store import decode_sums, encode_sums
from monitor.sums import CellRows, Layout, Sparse, difference, merge_entries
from monitor.verdicts import (
    Direction,
    Estimate,
    Outcome,
    ToleranceBand,
    UnknownVersionError,
    Verdict,
    decode_verdict,
    encode_verdict,
)
from monitor.windows import PaneSeries, SlidingWindow
from streams.verify.recount import LogRecord, weight
from tests.support.core import batch_of
from tests.support.strategies import START_MS, exposures, seconds

pytestmark = pytest.mark.property

SLIDE_MS = 10
LAYOUT = Layout(buckets=4, measures=3)
Floats = NDArray[np.float64]

# ---------------------------------------------------------------- windows


entries = st.dictionaries(st.integers(0, 60), st.integers(1, 5), max_size=6).map(
    lambda held: merge_entries(
        np.array(list(held), dtype=np.int64), np.array(list(held.values()), dtype=np.int64)
    )
)


class PlainPanes:
    """A series with two windows, and beside it what it holds, kept the slow way."""

    def __init__(self) -> None:
        self.series = PaneSeries(SLIDE_MS, 1)
        self.windows = [SlidingWindow(self.series, length) for length in (SLIDE_MS, 4 * SLIDE_MS)]
        self.parts: dict[tuple[int, str], Sparse] = {}

    def replace(self, start_ms: int, key: str, part: Sparse) -> None:
        """Set a part, unless the pane's parts were folded into one."""
        if (start_ms, "folded") not in self.parts:
            held = self.series.held(start_ms, [key])
            self.series.replace(start_ms + SLIDE_MS - 1, {key: part}, [difference([part], held)])
            self.parts[start_ms, key] = part

    def fold(self, start_ms: int) -> None:
        """Hold the pane's parts as one."""
        pane = self.series.panes.get(start_ms)
        if pane is not None:
            merged = pane.entries()
            self.series.fold(start_ms, list(pane.parts), "folded", merged)
            self._forget(start_ms)
            self.parts[start_ms, "folded"] = merged

    def drop(self, start_ms: int) -> None:
        """Remove panes from before a time that no window holds."""
        oldest = min(window.span.start_ms for window in self.windows)
        for gone in self.series.drop_before(min(start_ms, oldest)):
            self._forget(gone)

    def _forget(self, start_ms: int) -> None:
        self.parts = {key: part for key, part in self.parts.items() if key[0] != start_ms}

    def check(self) -> None:
        """Windows and panes equal sums from scratch."""
        for window in self.windows:
            assert nonzero(window.totals[0].flat) == self.between(*window.span)
        for start_ms, pane in self.series.panes.items():
            assert nonzero(pane.slices[0].flat) == self.between(start_ms, start_ms + 1)

    def between(self, start_ms: int, end_ms: int) -> Counter[int]:
        """Return the sum of all entries of the panes that start in [start, end)."""
        total: Counter[int] = Counter()
        for (start, _), part in self.parts.items():
            if start_ms <= start < end_ms:
                total.update(dict(zip(part.index.tolist(), part.values.tolist(), strict=True)))
        return total


def nonzero(flat: NDArray[np.int64]) -> Counter[int]:
    """Return a vector's entries that are not 0."""
    places = np.flatnonzero(flat)
    return Counter(dict(zip(places.tolist(), flat[places].tolist(), strict=True)))


@settings(max_examples=150)
@given(st.data(), st.integers(1, 30))
def test_running_windows_equal_sums_from_scratch(data: st.DataObject, steps: int) -> None:
    """After any corrections, advances, foldings and removals, a running window is the sum of its panes."""
    panes = PlainPanes()
    for _ in range(steps):
        start_ms = SLIDE_MS * data.draw(st.integers(0, 12))
        match data.draw(st.sampled_from(["replace", "replace", "replace", "advance", "fold", "drop"])):
            case "replace":
                panes.replace(start_ms, data.draw(st.sampled_from(["a", "b"])), data.draw(entries))
            case "advance":
                data.draw(st.sampled_from(panes.windows)).advance(start_ms)
            case "fold":
                panes.fold(start_ms)
            case "drop":
                panes.drop(start_ms)
        panes.check()


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(-9, 9))), st.sampled_from([1, 1_000]))
def test_merging_entries_adds_what_repeats(pairs: list[tuple[int, int]], apart: int) -> None:
    """Positions come out ascending and unique, and no amount is lost, near each other or far apart."""
    pairs = [(place * apart, amount) for place, amount in pairs]
    index, values = (np.array([pair[i] for pair in pairs], dtype=np.int64) for i in (0, 1))
    merged = merge_entries(index, values)
    expected: dict[int, int] = {}
    for place, amount in pairs:
        expected[place] = expected.get(place, 0) + amount
    expected = {place: amount for place, amount in expected.items() if amount}
    assert merged.index.tolist() == sorted(expected)
    assert merged.values.tolist() == [expected[place] for place in sorted(expected)]


# ---------------------------------------------------------------- cells and caps


@given(st.lists(st.tuples(st.text(max_size=3), st.sampled_from(["f", "m", "x", "", "unknown", "other"]))))
def test_value_coder_gives_stable_numbers_and_clean_names(values: list[tuple[str, ...]]) -> None:
    """A tuple keeps its number; empty values are `unknown`, undeclared ones `other`."""
    coder = ValueCoder[tuple[str, ...]]([Attribute(), Attribute(values=["f", "m"])], tuple)
    numbers = [coder[value] for value in values]
    assert numbers == [coder[value] for value in values]
    assert len(coder.names) == len(set(values))
    for value, number in zip(values, numbers, strict=True):
        free, declared = coder.names[number]
        assert free == (value[0] or "unknown")
        assert declared == {"": "unknown", "x": "other"}.get(value[1], value[1])


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3))),
    st.integers(1, 5),
    st.sampled_from([1, 1 << 20]),
)
def test_pair_coder_joins_the_names_of_both(pairs: list[tuple[int, int]], batch: int, most: int) -> None:
    """A pair keeps its number over batches, found in a table or not, and is called as its two halves are."""
    halves = [ValueCoder[tuple[str, ...]]([Attribute()], tuple) for _ in range(2)]
    for half in halves:
        assert [half[(letter,)] for letter in "abcd"] == [0, 1, 2, 3]
    coder = PairCoder(halves[0], halves[1], most)
    numbers: list[int] = []
    for first in range(0, len(pairs), batch):
        codes = np.array(pairs[first : first + batch], dtype=np.int64)
        numbers += coder.numbers(codes[:, 0], codes[:, 1]).tolist()
    assert [coder.names[number] for number in numbers] == [("abcd"[a], "abcd"[b]) for a, b in pairs]
    assert len(coder.names) == len(set(pairs))


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 9)), min_size=1, max_size=40),
    st.integers(1, 4),
    st.integers(1, 10),
)
def test_the_cap_on_cells_keeps_totals(shown: list[tuple[str, int]], max_cells: int, batch: int) -> None:
    """Beyond the cap all goes to the cell `other`: totals stay exact and overflow is counted."""
    config = Config(
        surfaces=["home"],
        windows=[WindowSpec(length=seconds(10), slide=seconds(10))],
        attributes=Attributes(item={"tone": Attribute()}),
        limits=Limits(buckets=4, max_cells=max_cells),
    )
    state = SourcePartition(config, Kind.IMPRESSIONS, ImpressionDecoder(config), 0)
    overflowed = 0
    for first in range(0, len(shown), batch):
        records = [
            LogRecord("impressions", 0, first + i, -1, _impression(tone, viewer))
            for i, (tone, viewer) in enumerate(shown[first : first + batch])
        ]
        overflowed += state.read(batch_of(records)).overflowed
    [snapshot] = state.take_snapshots()["home"]
    fitting = list(dict.fromkeys(tone for tone, _ in shown))[:max_cells]
    beyond = [tone for tone, _ in shown if tone not in fitting]
    index, values = snapshot.sums()
    assert int(values[index % 3 == 0].sum()) == len(shown)
    assert overflowed == len(beyond)
    assert snapshot.cells == [(tone,) for tone in fitting] + ([("other",)] if beyond else [])


def _impression(tone: str, viewer: int) -> bytes:
    items = [{"id": "p", "attrs": {"tone": tone}}]
    event = {"ts": START_MS, "request_id": "r", "viewer_id": f"u{viewer}", "surface": "home", "items": items}
    return json.dumps(event).encode()


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3), st.integers(0, 3)), min_size=1),
    st.integers(1, 200),
)
def test_every_contribution_is_in_exactly_one_part(
    contributions: list[tuple[int, int, int]], wide: int
) -> None:
    """However many parts a pane's snapshot has, their sums add up to what was added."""
    buckets, measures = 4, wide  # wide: few cells go into one part
    pane = PaneSums(0, 0, buckets, measures, 1_000, ("other",))
    for number, (cell, bucket, amount) in enumerate(contributions):
        measure = np.full((1, measures), amount, dtype=np.int64)
        zero = np.zeros(1, dtype=np.int64)
        pane.add([(f"c{cell}",)], zero, zero + bucket, measure)
        pane.covers(number, number + 1)
    expected: Counter[tuple[str, int]] = Counter()
    for cell, bucket, amount in contributions:
        expected[f"c{cell}", bucket] += amount * measures
    found: Counter[tuple[str, int]] = Counter()
    for snapshot in pane.take_snapshots():
        index, values = snapshot.sums()
        for place, value in zip(index.tolist(), values.tolist(), strict=True):
            cell, rest = divmod(place, buckets * measures)
            found[snapshot.cells[cell][0], rest // measures] += value
    assert +found == +expected
    assert pane.take_snapshots() == []


@settings(max_examples=60)
@given(st.data())
def test_projections_keep_totals(data: st.DataObject) -> None:
    """Slices add up to the cells they project, also where the cap sums them as `other`."""
    rows = CellRows(1_000, ("other", "other"))
    pairs = st.tuples(st.sampled_from("fmx"), st.sampled_from("1234"))
    cells: list[Cell] = [*data.draw(st.lists(pairs, min_size=1))]
    numbers = rows.rows(cells)
    amounts = np.arange(1, len(cells) + 1, dtype=np.int64)
    sparse = merge_entries(numbers * LAYOUT.per_cell + 1, amounts)
    most = data.draw(st.integers(1, 5))
    projections = Projections(["a", "b", "a*b"], ["a", "b"], rows, LAYOUT, most)
    for dimension, projected in zip(["a", "b", "a*b"], projections.project(sparse), strict=True):
        assert int(projected.values.sum()) == int(amounts.sum())
        assert len(projections.slices(dimension)) <= most + 1
        for slice_ in projections.slices(dimension)[:most]:
            place = projections.slices(dimension).index(slice_) * LAYOUT.per_cell + 1
            name = {"a": lambda c: c[0], "b": lambda c: c[1], "a*b": "*".join}[dimension]
            wanted = sum(int(n) for c, n in zip(cells, amounts, strict=True) if name(c) == slice_)
            assert projected.values[projected.index == place].sum() == wanted


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1)))
def test_viewer_hashes_are_those_of_zlib(viewers: list[str]) -> None:
    """Each viewer's hash is the CRC-32 of its id in UTF-8, whoever else is in the batch."""
    assert list(viewer_hashes(viewers)) == [zlib.crc32(viewer.encode()) for viewer in viewers]


# ---------------------------------------------------------------- exposure


@settings(max_examples=60)
@given(exposures)
def test_position_weights_equal_their_formulas(exposure: Exposure) -> None:
    """Every weight is the formula's in micro-exposures, and only a table may ever grow with the position."""
    config = Config(surfaces=["home"], windows=[], exposure=exposure)
    weights = position_weights(exposure)
    assert weights.shape == (MAX_POSITION + 1,)
    for position in [1, 2, 3, 4, 5, 10, 100, 9_999, MAX_POSITION]:
        assert int(weights[position]) == weight(config, position)
    assert (weights >= 0).all()
    if exposure.curve is not Curve.TABLE:
        assert (np.diff(weights[1:]) <= 0).all()


# ---------------------------------------------------------------- records

offsets = st.integers(0, 2**62)
names = st.text(max_size=8)
snapshots = st.builds(
    PaneSnapshot,
    offsets,
    st.integers(0, 99),
    offsets,
    offsets,
    offsets,
    st.lists(st.lists(names, max_size=3).map(tuple), max_size=3),
    st.binary(max_size=16),
    st.binary(max_size=16),
)
of_sources = st.builds(SourceSnapshots, st.integers(0, 9), st.lists(snapshots, max_size=3))
panes_records = st.builds(
    PanesRecord,
    version=st.just(VERSION),
    meaning=names,
    surface=names,
    kind=st.sampled_from(Kind),
    sources=st.lists(of_sources, max_size=3),
)
progresses = st.builds(
    SourceProgress,
    st.sampled_from(Kind),
    names,
    st.integers(0, 3),
    st.integers(1, 4),
    st.integers(0, 2**50),
    offsets,
    offsets,
    st.booleans(),
)
heartbeats = st.builds(
    HeartbeatRecord, version=st.just(VERSION), meaning=names, sources=st.lists(progresses, max_size=3)
)
shares = st.floats(0, 100)
verdicts = st.builds(
    Verdict,
    rule=names,
    surface=names,
    dimension=names,
    slice_=names,
    metric=names,
    window=names,
    pane_end_ms=offsets,
    verdict=st.sampled_from(Outcome),
    estimate=st.builds(Estimate, value=shares, lower=st.none() | shares, upper=shares, support=offsets),
    tolerance=st.builds(ToleranceBand, low=st.none() | shares, high=st.none() | shares),
    evidence=st.floats(-99, 99),
    detector=names,
    direction=st.sampled_from(Direction),
    share=st.none() | shares,
    reason=names,
)


@given(st.one_of(panes_records, heartbeats))
def test_records_come_back_as_they_were(record: PanesRecord | HeartbeatRecord) -> None:
    """What is encoded for ``fairness.panes`` decodes to the same."""
    assert decode_record(encode_record(record)) == record


@given(snapshots, st.integers(0, 9))
def test_records_of_version_1_are_read(snapshot: PaneSnapshot, partition: int) -> None:
    """They held one source partition; and what is written now shows them its version."""
    old = PanesRecord(
        version=1, meaning="m", surface="s", kind=Kind.IMPRESSIONS, partition=partition, snapshots=[snapshot]
    )
    written = msgspec.msgpack.decode(encode_record(old))
    del written["sources"]
    found = decode_record(msgspec.msgpack.encode(written))
    assert isinstance(found, PanesRecord)
    assert list(found.each()) == [(partition, snapshot)]
    now = msgspec.msgpack.decode(encode_record(msgspec.structs.replace(found, version=VERSION)))
    assert {"partition", "snapshots"} < now.keys(), "without them, a reader of version 1 calls it malformed"


@given(st.one_of(panes_records, heartbeats), st.integers(1, 9))
def test_newer_records_are_refused(record: Any, newer: int) -> None:
    """A record of a newer version is refused as such, never taken for what it is not."""
    record = type(record)(
        **{f: getattr(record, f) for f in record.__struct_fields__} | {"version": VERSION + newer}
    )
    with pytest.raises(UnknownVersionError):
        decode_record(encode_record(record))


@given(names, snapshots)
def test_raw_snapshots_come_back_as_they_were(meaning: str, snapshot: PaneSnapshot) -> None:
    """What is encoded for the monitor's own table decodes to the same."""
    data = encode_raw(meaning, snapshot)
    assert decode_raw(data) == (meaning, snapshot)
    version, *rest = msgspec.msgpack.decode(data)
    with pytest.raises(UnknownVersionError):
        decode_raw(msgspec.msgpack.encode([version + 1, *rest]))


@given(verdicts)
def test_verdicts_come_back_as_they_were(verdict: Verdict) -> None:
    """A verdict survives its JSON; that of a newer version is refused."""
    assert decode_verdict(encode_verdict(verdict)) == verdict
    newer = encode_verdict(verdict).replace(b'"version":1}', b'"version":2}')
    with pytest.raises(UnknownVersionError):
        decode_verdict(newer)


@settings(max_examples=60)
@given(st.data())
def test_stored_sums_come_back_into_other_rows(data: st.DataObject) -> None:
    """Merged sums are the same per cell after a restart, when cells have other rows, chunks in any order."""
    layout = Layout(buckets=4, measures=data.draw(st.sampled_from([3, 4_000])))  # wide: a cell for each chunk
    cells: list[Cell] = [*data.draw(st.lists(st.tuples(names), min_size=1, max_size=6, unique=True))]
    rows = CellRows(99, ("other",))
    places = rows.rows(cells) * layout.per_cell + data.draw(st.integers(0, layout.per_cell - 1))
    sparse = merge_entries(places, np.arange(1, len(cells) + 1, dtype=np.int64))
    chunks = encode_sums(sparse, rows, layout, "meaning")
    others = CellRows(99, ("other",))
    others.rows(data.draw(st.permutations(cells)))
    back = decode_sums(data.draw(st.permutations(chunks)), others, layout, "meaning")
    assert back is not None
    assert _per_cell(back, others, layout) == _per_cell(sparse, rows, layout)
    assert decode_sums(chunks, others, layout, "another") is None
    with pytest.raises(UnknownVersionError):
        decode_sums([_newer(chunk) for chunk in chunks], others, layout, "meaning")
    if len(chunks) > 1:
        assert decode_sums(chunks[1:], others, layout, "meaning") is None


def _newer(chunk: bytes) -> bytes:
    version, *rest = msgspec.msgpack.decode(zlib.decompress(chunk))
    return zlib.compress(msgspec.msgpack.encode([version + 1, *rest]))


def _per_cell(sparse: Sparse, rows: CellRows, layout: Layout) -> dict[tuple[tuple[str, ...], int], int]:
    row, rest = np.divmod(sparse.index, layout.per_cell)
    keys = [(rows.names[r], int(place)) for r, place in zip(row, rest, strict=True)]
    return dict(zip(keys, sparse.values.tolist(), strict=True))


# ---------------------------------------------------------------- progress


@given(st.lists(progresses, max_size=12), st.randoms(use_true_random=False))
def test_progress_is_the_latest_of_each_partition(heard: list[SourceProgress], shuffle: Any) -> None:
    """In whatever order reports come, the one that has read furthest counts, and repeats change nothing."""
    assume(len({(s.kind, s.partition, s.position) for s in heard}) == len(heard))
    config = Config(surfaces=["home"], windows=[])
    one, other = Progress(config), Progress(config)
    for source in heard:
        one.update(source)
    again = [*heard, *heard]
    shuffle.shuffle(again)
    for source in again:
        other.update(source)
    assert one.sources == other.sources
    for kind in Kind:
        assert one.complete_through(kind) == other.complete_through(kind)


# ---------------------------------------------------------------- jackknife


def _counts(data: st.DataObject, slices: int, buckets: int) -> tuple[Floats, Floats]:
    """Return trials and events per slice and bucket, all slices with some in several buckets."""
    chance = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    trials = chance.integers(1, 50, (slices, buckets)).astype(np.float64)
    return trials, np.floor(trials * chance.random((slices, buckets)))


@settings(max_examples=60)
@given(st.data())
def test_the_order_of_buckets_does_not_matter(data: st.DataObject) -> None:
    """Value and interval are the same when the buckets change places."""
    trials, events = _counts(data, 3, 8)
    order = np.array(data.draw(st.permutations(range(8))))
    for terms, moved in (
        (rate_terms(events, trials), rate_terms(events[:, order], trials[:, order])),
        (_shares(trials), _shares(trials[:, order])),
    ):
        for a, b in zip(double_ratio(terms, 0.95), double_ratio(moved, 0.95), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9)


def _shares(part: Floats, impressions: Floats | None = None, share: float = 0.25) -> Any:
    buckets = part.shape[1]
    reference = (np.full(part.shape, share / buckets), np.full(buckets, 1 / buckets))
    counts = part.sum(axis=1) if impressions is None else impressions
    return share_terms(part, part.sum(axis=0), reference, counts)


@settings(max_examples=60)
@given(st.data(), st.integers(2, 10**6))
def test_the_unit_of_exposure_does_not_matter(data: st.DataObject, unit: int) -> None:
    """Shares of exposure and their intervals are the same in any unit, absent slices included."""
    part, _ = _counts(data, 3, 8)
    part[0] *= data.draw(st.sampled_from([0, 1]))
    counts = part.sum(axis=1)
    one, scaled = (double_ratio(_shares(part * u, counts), 0.95) for u in (1, unit))
    for a, b in zip(one, scaled, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


@settings(max_examples=60)
@given(st.data())
def test_slices_of_the_rest_may_be_merged(data: st.DataObject) -> None:
    """A slice is held against all others together: how these are divided does not matter."""
    trials, events = _counts(data, 4, 8)
    merged_trials, merged_events = (np.vstack((x[:2], x[2:].sum(axis=0))) for x in (trials, events))
    apart = double_ratio(rate_terms(events, trials), 0.95)
    together = double_ratio(rate_terms(merged_events, merged_trials), 0.95)
    for a, b in zip(apart, together, strict=True):
        np.testing.assert_allclose(a[:2], b[:2], rtol=1e-9)


@settings(max_examples=60)
@given(st.data())
def test_a_slice_against_its_mirror_is_the_inverse(data: st.DataObject) -> None:
    """With two slices the one's disparity is 1 over the other's, and so are the ends of the intervals."""
    trials, events = _counts(data, 2, 8)
    assume((events.sum(axis=1) > 0).all())
    assume(((events.sum(axis=1, keepdims=True) - events) > 0).all())
    ratios = double_ratio(rate_terms(events, trials), 0.95)
    np.testing.assert_allclose(ratios.value[0], 1 / ratios.value[1], rtol=1e-9)
    np.testing.assert_allclose(ratios.lower[0], 1 / ratios.upper[1], rtol=1e-9)


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.floats(-5, 5))
def test_the_jackknife_ignores_a_common_shift(seed: int, shift: float) -> None:
    """A constant added to all replicates changes no standard error; equal replicates have none."""
    logs = np.random.default_rng(seed).normal(size=(2, 8))
    np.testing.assert_allclose(jackknife_se(logs + shift), jackknife_se(logs), rtol=1e-6)
    np.testing.assert_allclose(jackknife_se(np.full((1, 8), shift)), 0.0, atol=1e-12)
