"""Hypothesis strategies for the measuring core: small configurations, logs with all that can go wrong."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from hypothesis import strategies as st
from msgspec import structs

from monitor.config import (
    Attribute,
    Attributes,
    Compare,
    Config,
    Curve,
    DetectorKind,
    DetectorSpec,
    Duration,
    Engagement,
    Exposure,
    Limits,
    Metric,
    Ranking,
    Reference,
    Rule,
    Time,
    Tolerance,
    ViewerCap,
    WindowSpec,
)
from monitor.config.crosscheck import cross_check
from monitor.config.model import BaselineReference
from streams.verify.recount import LogRecord

START_MS = 1_700_000_000_000
"""About when the logs begin; aligned to every pane used here."""
SPAN_S = 150
"""About how long a log is in event time."""
PARTITIONS = 3
MAX_RECORD_BYTES = 3_000
VIEWERS = [f"u-{number}" for number in range(7)]
TONES = ["1", "4", "7"]


def seconds(count: int) -> Duration:
    """Return a duration."""
    return Duration(count * 1000)


# ---------------------------------------------------------------- configurations

exposures = st.one_of(
    st.builds(Exposure, curve=st.sampled_from([Curve.LOG2, Curve.RECIPROCAL]), k=st.integers(1, 3)),
    st.builds(Exposure, curve=st.just(Curve.GEOMETRIC), patience=st.floats(0.1, 0.9)),
    st.builds(Exposure, curve=st.just(Curve.TOP_K), k=st.integers(1, 3)),
    st.builds(Exposure, curve=st.just(Curve.TABLE), table=st.lists(st.floats(0, 2), min_size=1, max_size=3)),
)


rankings = st.sampled_from(
    [
        [],
        [Ranking(dimension="item.tone", targets={"4": 0.5, "1": 0.3, "7": 0.2}, k=2)],
        [Ranking(dimension="item.tone", targets={"1": 0.6, "7": 0.395}, k=3)],
    ]
)


@st.composite
def configs(draw: st.DrawFn, *, engaged: bool | None = None, rules: bool = False) -> Config:
    """Return a small valid configuration; ``engaged`` says whether it counts engagements."""
    engaged = draw(st.booleans()) if engaged is None else engaged
    windows = draw(st.sampled_from([[(30, 10)], [(40, 20), (30, 10)], [(120, 40), (60, 20)]]))
    specs = [WindowSpec(length=seconds(length), slide=seconds(slide)) for length, slide in windows]
    engagement_pane = draw(st.sampled_from([10, 20]))
    matures = engaged and windows[0][1] % engagement_pane == 0
    declared = draw(st.sampled_from([None, ["f", "m"]]))
    exposure = draw(exposures)
    candidates = draw(st.booleans())
    ranked = draw(rankings) if exposure.curve is not Curve.TABLE or exposure.table[0] >= 1e-6 else []
    config = Config(
        surfaces=["home", "search"],
        windows=specs,
        attributes=Attributes(
            variant=draw(st.sampled_from([None, Attribute(), Attribute(values=["control", "new"])])),
            viewer={"gender": Attribute(values=declared)},
            item={"tone": Attribute()},
        ),
        time=Time(
            pane=seconds(10),
            allowed_lateness=seconds(draw(st.sampled_from([0, 7, 20]))),
            allowed_skew=seconds(60),
            correction_horizon=seconds(draw(st.sampled_from([0, 20]))),
        ),
        exposure=exposure,
        engagement=Engagement(
            actions=["save", "click"] if engaged else [],
            attribution_window=seconds(draw(st.sampled_from([15, 30]))),
            pane=seconds(engagement_pane),
        ),
        dimensions=["item.tone", "viewer.gender*item.tone", "viewer.gender"],
        rankings=ranked,
        candidates=candidates,
        limits=Limits(
            buckets=draw(st.sampled_from([4, 5])),
            max_cells=1000,
            max_record_bytes=MAX_RECORD_BYTES,
            viewer_cap=draw(st.sampled_from([None, ViewerCap(contributions=2, per=seconds(40))])),
            suppress_below=draw(st.sampled_from([0, 2])),
            min_viewers=draw(st.sampled_from([0, 2])),
        ),
    )
    if rules:
        drawn = draw(rule_lists(specs[0], engaged=matures, ranked=bool(ranked), candidates=candidates))
        config = structs.replace(config, rules=drawn)
    assert not cross_check(config)
    return config


@st.composite
def rule_lists(
    draw: st.DrawFn, spec: WindowSpec, *, engaged: bool, ranked: bool, candidates: bool
) -> list[Rule]:
    """Return three rules, with every kind of reference and detector; more on engagement and on rankings."""
    window, bin_ = spec.name, spec.slide
    sliding = BaselineReference(sliding=Duration(2 * bin_), lag=spec.length, bin=bin_)
    daily = BaselineReference(every=Duration(spec.length + bin_), periods=2, bin=bin_)
    references = st.sampled_from(
        [
            Reference(targets={"1": 0.5, "4": 0.3, "absent": 0.2}),
            Reference(uniform=True),
            Reference(baseline=BaselineReference(first=seconds(80))),
            Reference(baseline=sliding),
            Reference(baseline=daily),
            *([Reference(candidates=True)] * 3 if candidates else []),
        ]
    )
    detectors = st.sampled_from(
        [
            [DetectorSpec(confidence=0.05)],
            [DetectorSpec(), DetectorSpec(kind=DetectorKind.ADWIN)],
            [DetectorSpec(kind=DetectorKind.PAGE_HINKLEY)],
        ]
    )
    of_ratios = detectors | st.just([DetectorSpec(kind=DetectorKind.E_DETECTOR)])
    metrics = st.sampled_from(
        [Metric.EXPOSURE_SHARE, Metric.IMPRESSION_SHARE, Metric.TOP_K_SHARE, Metric.SKEW_AT_K]
    )
    chosen = [draw(metrics) for _ in range(2)]
    rules = [
        Rule(
            name=f"share-{number}",
            metric=metric,
            dimension="item.tone",
            window=window,
            compare=Compare.REFERENCE,
            reference=draw(references),
            tolerance=Tolerance(low=0.8, high=1.25) if metric.parity else Tolerance(low=-0.2, high=0.2),
            min_support=draw(st.integers(1, 5)),
            detectors=draw(of_ratios if metric.parity else detectors),
        )
        for number, metric in enumerate(chosen)
    ]
    rest = Rule(
        name="placed",
        metric=Metric.EXPOSURE_RATE,
        dimension="viewer.gender",
        window=window,
        min_support=1,
        detectors=draw(of_ratios),
    )
    saved = Rule(
        name="saved",
        metric=Metric.ENGAGEMENT_RATE,
        action="save",
        dimension="item.tone",
        window=window,
        min_support=1,
        detectors=draw(detectors),
    )
    lists = Rule(
        name="lists",
        metric=Metric.DIV_AT_K,
        dimension="item.tone",
        window=window,
        tolerance=Tolerance(low=0.9),
        min_support=1,
        detectors=[DetectorSpec(confidence=0.05)],
    )
    return [*rules, rest, *([saved] if engaged else []), *([lists] if ranked else [])]


# ---------------------------------------------------------------- logs

_JUNK: list[bytes | None] = [
    None,
    b"",
    b"   ",
    b"{",
    b"null",
    b"[]",
    b"17",
    b"\x00\xff\xfe",
    b'{"ts": NaN}',
    b'{"ts": 1700000000000}',
    b'{"surface": "\xff"}',
    b'{"a": ' + b"[" * 1000,
    b"x" * (MAX_RECORD_BYTES + 1),
]


@st.composite
def logs(draw: st.DrawFn, config: Config, *, most: int = 60) -> list[LogRecord]:
    """Return records of several partitions as they arrive: out of order, late, ahead, repeated, bad.

    Each record is made of one drawn number: quick to draw, and a failing log shrinks to its fewest records.
    """
    kinds = ["impressions", *(["engagements"] if config.engagement.actions else [])]
    offsets: dict[tuple[str, int], int] = {}
    log: list[LogRecord] = []
    least = draw(st.integers(1, most * 2 // 3))
    numbers = draw(st.lists(st.integers(0, 2**24), min_size=least, max_size=most))
    for step, number in enumerate(numbers):
        chance = Random(number)
        kind, partition = chance.choice(kinds), chance.randrange(PARTITIONS)
        gap = chance.choice([0, 0, 0, 0, 3])  # as transaction markers leave
        offset = offsets.get((kind, partition), 0) + gap
        offsets[kind, partition] = offset + 1
        about_ms = START_MS + step * SPAN_S * 1000 // len(numbers)
        record_ms, value = _record(chance, config, kind, about_ms, log)
        log.append(LogRecord(kind, partition, offset, record_ms, value))
    return log


def _record(
    chance: Random, config: Config, kind: str, about_ms: int, before: list[LogRecord]
) -> tuple[int, bytes | None]:
    """Return a record's time and value, at about a time of the log."""
    choice = chance.randrange(20)
    ts_ms = about_ms + chance.randint(-15_000, 15_000)
    if choice == 0:
        return ts_ms, chance.choice(_JUNK)
    if choice == 1 and before:
        again = chance.choice(before)
        return again.record_ms, again.value
    record_ms = chance.choice([ts_ms, ts_ms - 60_000, ts_ms + 5_000, -1])
    if choice == 2:
        ts_ms += chance.choice([-100_000, -40_000])
    if choice == 3:
        record_ms, ts_ms = about_ms, about_ms + chance.choice([60_001, 10**9])
    event = _impression(chance, ts_ms) if kind == "impressions" else _engagement(chance, config, ts_ms)
    return record_ms, json.dumps(event, ensure_ascii=chance.random() < 0.5).encode()


def _sometimes(chance: Random, event: dict[str, Any], name: str, *values: object) -> None:
    if chance.random() < 0.75:
        event[name] = chance.choice(values)


def _common(chance: Random, ts_ms: int) -> dict[str, Any]:
    event: dict[str, Any] = {
        "ts": ts_ms if chance.random() < 0.98 else float(ts_ms),
        "request_id": "r-1",
        "viewer_id": chance.choice(VIEWERS),
        "surface": chance.choice(["home", "home", "home", "search", "elsewhere"]),
        "unasked": [1, {"a": None}],
    }
    gender = chance.choice(["", "f", "f", "m", "x", "unknown", "other", "\u00e9"])
    _sometimes(chance, event, "variant", "control", "new", "old")
    _sometimes(chance, event, "viewer", None, {"gender": gender}, {"gender": gender}, {"age": 5})
    return event


def _item(chance: Random) -> dict[str, Any]:
    item: dict[str, Any] = {"id": "p-1"}
    _sometimes(chance, item, "attrs", None, {}, *({"tone": tone} for tone in TONES * 2))
    if chance.random() < 0.2:
        item["position"] = chance.choice([*[1, 2, 3, 4, 99_999] * 8, 0, -1, 10**12])
    if chance.random() < 0.2:
        item["score"] = chance.choice([*[0.5, 1, None] * 6, "high"])
    return item


def _impression(chance: Random, ts_ms: int) -> dict[str, Any]:
    count = chance.choice([*[1, 2, 3, 4] * 6, 0])
    event = {**_common(chance, ts_ms), "items": [_item(chance) for _ in range(count)]}
    if chance.random() < 0.75:
        event["candidates"] = chance.choice([None, [_candidate(chance) for _ in range(chance.randrange(4))]])
    return event


def _candidate(chance: Random) -> dict[str, Any]:
    candidate: dict[str, Any] = {}
    _sometimes(chance, candidate, "attrs", None, {}, *({"tone": tone} for tone in TONES * 2))
    if chance.random() < 0.5:
        candidate["count"] = chance.choice([*[1, 2, 30] * 9, 0, 1_000_001])
    return candidate


def _engagement(chance: Random, config: Config, ts_ms: int) -> dict[str, Any]:
    window_ms = int(config.engagement.attribution_window)
    delay_ms = chance.choice([0, 0, 1_000, 1_000, window_ms, window_ms, window_ms + 1, -1])
    event = _common(chance, ts_ms) | {"item_id": "p-1", "action": chance.choice(["save", "click", "hide"])}
    _sometimes(chance, event, "attrs", None, {}, *({"tone": tone} for tone in TONES * 2))
    if chance.random() < 0.95:
        event["impression_ts"] = ts_ms - delay_ms if chance.random() < 0.95 else None
    return event


def batch_cuts(count: int) -> st.SearchStrategy[list[int]]:
    """Return where to cut a list of ``count`` records into batches, ascending."""
    return st.lists(st.integers(1, max(1, count - 1)), unique=True, max_size=8).map(sorted)
