"""A slow, plain recount of a log: what fairstream's panes and windows must equal, to the bit.

It shares nothing with the measuring core but the configuration's model: JSON is read by the standard library,
sums are dictionaries, and whether an event is late follows from reading its partition's log from the start.
"""

import json
import math
import zlib
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

from monitor.config import Attribute, Config, Curve
from streams.verify.recount_rankings import request_measures

Cell = tuple[str, ...]
Sums = dict[tuple[Cell, int], list[int]]
"""Sums of all measures per (cell, bucket); entries that are all zero are left out."""

ACCEPTED = "accepted"
MALFORMED = "malformed"
INVALID = "invalid"
LATE = "late"
FUTURE = "future"
UNATTRIBUTED = "unattributed"
OVERSIZED = "oversized"

_LAST_MS = 253_402_300_799_999
_MEASURES_BEFORE_ACTIONS = 3
_MEASURES_OF_RANKING = 5


class LogRecord(NamedTuple):
    """One record of a source topic. ``kind`` is ``impressions`` or ``engagements``."""

    kind: str
    partition: int
    offset: int
    record_ms: int
    value: bytes | None
    row: int = -1
    """Which row of an Arrow stream it was."""


class Contribution(NamedTuple):
    """What an accepted event adds to a cell: one of its items, itself if an engagement, rankings, candidates.

    ``measures``: impressions, exposure, top k; each action; of each ranking requests and four metrics;
    candidates.
    """

    surface: str
    cell: Cell
    bucket: int
    pane_start_ms: int
    measures: tuple[int, ...]


class Judged(NamedTuple):
    """A record, what became of it, and what it adds."""

    record: LogRecord
    fate: str
    ts_ms: int
    contributions: list[Contribution]


class BadRecordError(ValueError):
    """The record is not the contract's; the only argument is the reason."""


def recount(config: Config, log: Iterable[LogRecord]) -> list[Judged]:
    """Judge every record of a log; each partition's records must come in the order of their offsets."""
    return list(iter_recount(config, log))


def iter_recount(config: Config, log: Iterable[LogRecord]) -> Iterator[Judged]:
    """The same, record by record."""
    watermarks: dict[tuple[str, int], int] = {}
    used: Counter[Hashable] = Counter()
    for record in log:
        source = (record.kind, record.partition)
        watermark_ms = watermarks.get(source, 0)
        fate, ts_ms, contributions = _judge(config, record, watermark_ms, used)
        if fate == ACCEPTED:
            watermarks[source] = max(watermark_ms, ts_ms)
        yield Judged(record, fate, ts_ms, contributions)


def pane_ms(config: Config, kind: str) -> int:
    """Length of the panes that a kind of record is summed in."""
    return int(config.time.pane if kind == "impressions" else config.engagement.pane)


def close_delay_ms(config: Config, kind: str) -> int:
    """How far the watermark must be past a pane's end for it to close."""
    waiting = 0 if kind == "impressions" else config.engagement.attribution_window
    return int(config.time.allowed_lateness + waiting)


def sum_up(judged: Iterable[Judged], surface: str, start_ms: int, end_ms: int) -> Sums:
    """Sums of a surface over the panes that start in [start, end)."""
    sums: Sums = {}
    for each in judged:
        for c in each.contributions:
            if c.surface == surface and start_ms <= c.pane_start_ms < end_ms:
                held = sums.setdefault((c.cell, c.bucket), [0] * len(c.measures))
                for place, amount in enumerate(c.measures):
                    held[place] += amount
    return {key: held for key, held in sums.items() if any(held)}


def by_slice(config: Config, sums: Sums, dimension: str) -> Sums:
    """The same sums per slice of a dimension, in place of cells: a cell of one value, the slice."""
    places = [_attributes(config).index(part) for part in dimension.split("*") if part]
    slices: Sums = {}
    for (cell, bucket), amounts in sums.items():
        values = [cell[place] for place in places]
        if "" in values:  # a request, in a dimension of items
            continue
        slice_ = "*".join(values)
        held = slices.setdefault(((slice_,), bucket), [0] * len(amounts))
        for place, amount in enumerate(amounts):
            held[place] += amount
    return slices


def weight(config: Config, position: int) -> int:
    """Micro-exposures of a position, from the formulas in the literature."""
    exposure = config.exposure
    j = min(position, 10_000)
    match exposure.curve:
        case Curve.LOG2:
            value = 1 / math.log2(1 + j)
        case Curve.RECIPROCAL:
            value = 1 / j
        case Curve.GEOMETRIC:
            value = exposure.patience ** (j - 1)
        case Curve.TOP_K:
            value = 1.0 if j <= exposure.k else 0.0
        case Curve.TABLE:
            value = exposure.table[j - 1] if j <= len(exposure.table) else 0.0
    return round(value * 1_000_000)


# ---------------------------------------------------------------- one record


def _judge(
    config: Config, record: LogRecord, watermark_ms: int, used: Counter[Hashable]
) -> tuple[str, int, list[Contribution]]:
    try:
        event = _read(config, record)
        anchor_ms = _anchor_ms(config, record.kind, event)
    except BadRecordError as bad:
        return str(bad), 0, []
    ts_ms = int(event["ts"])
    length = pane_ms(config, record.kind)
    start_ms = anchor_ms // length * length
    if record.record_ms >= 0 and ts_ms > record.record_ms + config.time.allowed_skew:
        return FUTURE, ts_ms, []
    capped = _is_capped(config, record, event, anchor_ms, used)
    if start_ms + length + close_delay_ms(config, record.kind) <= watermark_ms:
        return LATE, ts_ms, []
    contribute = _of_impression if record.kind == "impressions" else _of_engagement
    return ACCEPTED, ts_ms, [] if capped else contribute(config, event, start_ms)


def _is_capped(
    config: Config, record: LogRecord, event: dict[str, Any], anchor_ms: int, used: Counter[Hashable]
) -> bool:
    """Whether its viewer has used up the cap in this session; and use it up further."""
    cap = config.limits.viewer_cap
    if cap is None:
        return False
    action = event.get("action")
    viewer = zlib.crc32(event["viewer_id"].encode())
    key = (record.kind, record.partition, anchor_ms // cap.per, viewer, action)
    before = used[key]
    used[key] += len(event["items"]) if action is None else int(action in config.engagement.actions)
    return before >= cap.contributions


def _read(config: Config, record: LogRecord) -> dict[str, Any]:
    value = record.value
    if value is None:
        raise BadRecordError(MALFORMED)
    if len(value) > config.limits.max_record_bytes:
        raise BadRecordError(OVERSIZED)
    try:
        event = json.loads(value.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise BadRecordError(MALFORMED) from None
    if not isinstance(event, dict):
        raise BadRecordError(INVALID)
    check = _check_impression if record.kind == "impressions" else _check_engagement
    check(config, event)
    return event


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _anchor_ms(config: Config, kind: str, event: dict[str, Any]) -> int:
    """Time of the impression, which chooses the pane."""
    ts_ms = int(event["ts"])
    if kind == "impressions":
        return ts_ms
    shown_ms = event.get("impression_ts")
    if shown_ms is None:
        raise BadRecordError(UNATTRIBUTED)
    if shown_ms > ts_ms:
        raise BadRecordError(INVALID)
    if ts_ms - shown_ms > config.engagement.attribution_window:
        raise BadRecordError(UNATTRIBUTED)
    return int(shown_ms)


def _require(right: bool) -> None:
    if not right:
        raise BadRecordError(INVALID)


def _is_int(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_text(value: Any, shortest: int, longest: int) -> bool:
    return isinstance(value, str) and shortest <= len(value) <= longest


def _check_common(config: Config, event: dict[str, Any]) -> None:
    _require(_is_int(event.get("ts"), 1, _LAST_MS))
    for name in ("request_id", "viewer_id"):
        _require(_is_text(event.get(name), 1, 512))
    _require(_is_text(event.get("surface"), 1, 80))
    _require(_is_text(event.get("variant", ""), 0, 128))
    _check_values(event.get("viewer"), config.attributes.viewer)


def _check_values(given: Any, declared: dict[str, Attribute]) -> None:
    if given is not None:
        _require(isinstance(given, dict))
        for name in declared:
            _require(_is_text(given.get(name, ""), 0, 128))


def _check_impression(config: Config, event: dict[str, Any]) -> None:
    _check_common(config, event)
    items = event.get("items")
    _require(isinstance(items, list) and len(items) > 0)
    for item in items or []:
        _require(isinstance(item, dict))
        _require(_is_text(item.get("id"), 1, 512))
        _require("position" not in item or _is_int(item["position"], 1, 1_000_000_000))
        _check_values(item.get("attrs"), config.attributes.item)
        score = item.get("score")
        _require(score is None or (isinstance(score, (int, float)) and not isinstance(score, bool)))
    candidates = event.get("candidates") if config.candidates else None
    _require(candidates is None or isinstance(candidates, list))
    for candidate in candidates or []:
        _require(isinstance(candidate, dict))
        _require("count" not in candidate or _is_int(candidate["count"], 1, 1_000_000))
        _check_values(candidate.get("attrs"), config.attributes.item)


def _check_engagement(config: Config, event: dict[str, Any]) -> None:
    _check_common(config, event)
    _require(_is_text(event.get("item_id"), 1, 512))
    _require(_is_text(event.get("action"), 1, 80))
    shown_ms = event.get("impression_ts")
    _require(shown_ms is None or _is_int(shown_ms, 1, _LAST_MS))
    _check_values(event.get("attrs"), config.attributes.item)


# ---------------------------------------------------------------- what it adds


def _attributes(config: Config) -> list[str]:
    attributes = config.attributes
    names = ["variant"] if attributes.variant is not None else []
    names += [f"viewer.{name}" for name in attributes.viewer]
    return names + [f"item.{name}" for name in attributes.item]


def other_cell(config: Config) -> Cell:
    """The cell of what does not fit under ``limits.max_cells``."""
    return ("other",) * len(_attributes(config))


def _value(given: str | None, attribute: Attribute) -> str:
    value = given or "unknown"
    known = attribute.values is None or value in attribute.values or value == "unknown"
    return value if known else "other"


def _cell(config: Config, event: dict[str, Any], attrs: dict[str, Any] | None) -> Cell:
    attributes = config.attributes
    values = []
    if attributes.variant is not None:
        values.append(_value(event.get("variant"), attributes.variant))
    viewer, item = event.get("viewer") or {}, attrs or {}
    values += [_value(viewer.get(name), each) for name, each in attributes.viewer.items()]
    values += [_value(item.get(name), each) for name, each in attributes.item.items()]
    return tuple(values)


def _place(config: Config, event: dict[str, Any]) -> tuple[str, int]:
    surface = event["surface"] if event["surface"] in config.surfaces else "other"
    return surface, zlib.crc32(event["viewer_id"].encode()) % config.limits.buckets


def _of_impression(config: Config, event: dict[str, Any], start_ms: int) -> list[Contribution]:
    surface, bucket = _place(config, event)
    contributions = []
    for number, item in enumerate(event["items"], start=1):
        position = item.get("position", number)
        in_top = int(position <= config.exposure.k)
        nothing_else = [0] * (len(config.engagement.actions) + _measures_after_actions(config))
        measures = (1, weight(config, position), in_top, *nothing_else)
        cell = _cell(config, event, item.get("attrs"))
        contributions.append(Contribution(surface, cell, bucket, start_ms, measures))
    weigh = partial(weight, config)
    ranked = [
        amount for ranking in config.rankings for amount in request_measures(config, ranking, event, weigh)
    ]
    before = [0] * (_MEASURES_BEFORE_ACTIONS + len(config.engagement.actions))
    if any(ranked):
        cell = _cell(config, event, None)[: -len(config.attributes.item)] + ("",) * len(
            config.attributes.item
        )
        measures = (*before, *ranked, *([0] * config.candidates))
        contributions.append(Contribution(surface, cell, bucket, start_ms, measures))
    for candidate in (event.get("candidates") or []) if config.candidates else []:
        cell = _cell(config, event, candidate.get("attrs"))
        measures = (*before, *([0] * len(ranked)), candidate.get("count", 1))
        contributions.append(Contribution(surface, cell, bucket, start_ms, measures))
    return contributions


def _measures_after_actions(config: Config) -> int:
    return _MEASURES_OF_RANKING * len(config.rankings) + config.candidates


def _of_engagement(config: Config, event: dict[str, Any], start_ms: int) -> list[Contribution]:
    surface, bucket = _place(config, event)
    hits = [int(action == event["action"]) for action in config.engagement.actions]
    after = [0] * _measures_after_actions(config)
    measures = (*(0 for _ in range(_MEASURES_BEFORE_ACTIONS)), *hits, *after)
    return [Contribution(surface, _cell(config, event, event.get("attrs")), bucket, start_ms, measures)]
