"""Hypothesis strategies for the measuring core: small configurations, and logs with everything that goes wrong."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

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
    Reference,
    Rule,
    Time,
    Tolerance,
    WindowSpec,
)
from monitor.config.crosscheck import cross_check
from monitor.config.model import BaselineReference
from tests.support.recount import LogRecord

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


@st.composite
def configs(draw: st.DrawFn, *, engaged: bool | None = None, rules: bool = False) -> Config:
    """Return a small valid configuration; ``engaged`` says whether it counts engagements."""
    engaged = draw(st.booleans()) if engaged is None else engaged
    windows = draw(st.sampled_from([[(30, 10)], [(40, 20), (30, 10)], [(120, 40), (60, 20)]]))
    declared = draw(st.sampled_from([None, ["f", "m"]]))
    config = Config(
        surfaces=["home", "search"],
        windows=[WindowSpec(length=seconds(length), slide=seconds(slide)) for length, slide in windows],
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
        exposure=draw(exposures),
        engagement=Engagement(
            actions=["save", "click"] if engaged else [],
            attribution_window=seconds(draw(st.sampled_from([15, 30]))),
            pane=seconds(draw(st.sampled_from([10, 20]))),
        ),
        dimensions=["item.tone", "viewer.gender*item.tone"],
        limits=Limits(
            buckets=draw(st.sampled_from([4, 5])), max_cells=1000, max_record_bytes=MAX_RECORD_BYTES
        ),
        rules=draw(rule_lists(f"{windows[0][0]}s" if windows[0][0] < 60 else f"{windows[0][0] // 60}m"))
        if rules
        else [],
    )
    assert not cross_check(config)
    return config


@st.composite
def rule_lists(draw: st.DrawFn, window: str) -> list[Rule]:
    """Return two or three rules with every kind of reference and detector."""
    references = st.sampled_from(
        [
            Reference(targets={"1": 0.5, "4": 0.3, "absent": 0.2}),
            Reference(uniform=True),
            Reference(baseline=BaselineReference(first=seconds(80))),
        ]
    )
    detectors = st.sampled_from(
        [
            [DetectorSpec()],
            [DetectorSpec(), DetectorSpec(kind=DetectorKind.ADWIN)],
            [DetectorSpec(kind=DetectorKind.PAGE_HINKLEY)],
        ]
    )
    metrics = st.sampled_from([Metric.EXPOSURE_SHARE, Metric.IMPRESSION_SHARE, Metric.TOP_K_SHARE])
    rules = [
        Rule(
            name=f"share-{number}",
            metric=draw(metrics),
            dimension="item.tone",
            window=window,
            compare=Compare.REFERENCE,
            reference=draw(references),
            tolerance=Tolerance(low=0.8, high=1.25),
            min_support=draw(st.integers(1, 5)),
            detectors=draw(detectors),
        )
        for number in range(2)
    ]
    rest = Rule(
        name="placed",
        metric=Metric.EXPOSURE_RATE,
        dimension="viewer.gender",
        window=window,
        min_support=1,
        detectors=draw(detectors),
    )
    return [*rules, rest]


# ---------------------------------------------------------------- logs

_texts = st.sampled_from(["", "f", "m", "x", "unknown", "other", "é"])
_junk = st.sampled_from(
    [
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
        b"x" * (MAX_RECORD_BYTES + 1),
    ]
)


@st.composite
def logs(draw: st.DrawFn, config: Config, *, most: int = 60) -> list[LogRecord]:
    """Return records of several partitions in the order they arrive: out of order, late, ahead, repeated, bad."""
    kinds = ["impressions", *(["engagements"] if config.engagement.actions else [])]
    offsets: dict[tuple[str, int], int] = {}
    log: list[LogRecord] = []
    count = draw(st.integers(1, most))
    for step in range(count):
        kind = draw(st.sampled_from(kinds))
        partition = draw(st.integers(0, PARTITIONS - 1))
        source = (kind, partition)
        offset = offsets.get(source, 0) + draw(st.sampled_from([0, 0, 0, 0, 3]))  # gaps: transaction markers
        offsets[source] = offset + 1
        record_ms, value = draw(_records(config, kind, step * SPAN_S // count, log))
        log.append(LogRecord(kind, partition, offset, record_ms, value))
    return log


@st.composite
def _records(
    draw: st.DrawFn, config: Config, kind: str, about_s: int, before: list[LogRecord]
) -> tuple[int, bytes | None]:
    """Return a record's time and value, at about a time of the log."""
    choice = draw(st.integers(0, 19))
    ts_ms = START_MS + about_s * 1000 + draw(st.integers(-15_000, 15_000))
    if choice == 0:
        return ts_ms, draw(_junk)
    if choice == 1 and before:
        again = draw(st.sampled_from(before))
        return again.record_ms, again.value
    if choice == 2:  # far behind, or ahead of its record
        ts_ms += draw(st.sampled_from([-100_000, -40_000, 61_000, 10**9]))
        record_ms = START_MS + about_s * 1000
    else:
        record_ms = draw(st.sampled_from([ts_ms, ts_ms - 60_000, ts_ms + 5_000, -1]))
    event = draw(_impressions(ts_ms) if kind == "impressions" else _engagements(config, ts_ms))
    return record_ms, json.dumps(event, ensure_ascii=draw(st.booleans())).encode()


def _sometimes(draw: st.DrawFn, event: dict[str, Any], name: str, values: st.SearchStrategy[Any]) -> None:
    if draw(st.integers(0, 3)):
        event[name] = draw(values)


@st.composite
def _common(draw: st.DrawFn, ts_ms: int) -> dict[str, Any]:
    event: dict[str, Any] = {
        "ts": draw(st.sampled_from([*[ts_ms] * 19, float(ts_ms)])),
        "request_id": "r-1",
        "viewer_id": draw(st.sampled_from(VIEWERS)),
        "surface": draw(st.sampled_from(["home", "home", "search", "elsewhere"])),
        "unasked": [1, {"a": None}],
    }
    _sometimes(draw, event, "variant", st.sampled_from(["control", "new", "old"]))
    _sometimes(draw, event, "viewer", st.one_of(st.none(), st.fixed_dictionaries({"gender": _texts})))
    return event


_attrs = st.one_of(st.none(), st.just({}), st.fixed_dictionaries({"tone": st.sampled_from(TONES)}))
_positions = st.sampled_from([*[1, 2, 3, 4, 99_999] * 4, 0, -1, 10**12])


@st.composite
def _items(draw: st.DrawFn) -> dict[str, Any]:
    item: dict[str, Any] = {"id": "p-1"}
    _sometimes(draw, item, "attrs", _attrs)
    if draw(st.integers(0, 5)) == 0:
        item["position"] = draw(_positions)
    if draw(st.integers(0, 5)) == 0:
        item["score"] = draw(st.sampled_from([*[0.5, 1, None] * 6, "high"]))
    return item


@st.composite
def _impressions(draw: st.DrawFn, ts_ms: int) -> dict[str, Any]:
    event = draw(_common(ts_ms))
    event["items"] = draw(st.lists(_items(), min_size=0 if draw(st.integers(0, 19)) == 0 else 1, max_size=4))
    return event


@st.composite
def _engagements(draw: st.DrawFn, config: Config, ts_ms: int) -> dict[str, Any]:
    event = draw(_common(ts_ms))
    event |= {"item_id": "p-1", "action": draw(st.sampled_from(["save", "click", "hide"]))}
    window_ms = int(config.engagement.attribution_window)
    delay_ms = draw(st.sampled_from([0, 1_000, window_ms, window_ms, window_ms + 1, -1]))
    _sometimes(draw, event, "impression_ts", st.sampled_from([*[ts_ms - delay_ms] * 9, None]))
    _sometimes(draw, event, "attrs", _attrs)
    return event


def batch_cuts(count: int) -> st.SearchStrategy[list[int]]:
    """Return where to cut a list of ``count`` records into batches, ascending."""
    return st.lists(st.integers(1, max(1, count - 1)), unique=True, max_size=8).map(sorted)
