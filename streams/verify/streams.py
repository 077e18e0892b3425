"""Arrow streams of a log, unfolded into one JSON record for each of their rows, for the recount."""

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from monitor.config import Config
from monitor.rejections import BadStreamError
from streams.verify.recount import LogRecord

_BEGIN = b"\xff\xff\xff\xff"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_THE_CONTRACTS = b"[]"

Shape = dict[str, Any]
"""What a struct may hold: by field some types, a shape, or a list of one; ``!`` marks required ones."""

_TEXT, _TIME = ("text",), ("whole", "time")


def unfolded(config: Config, log: Iterable[LogRecord]) -> Iterator[LogRecord]:
    """The same log with rows in place of streams. One that cannot be read stays, and is no JSON either."""
    for record in log:
        value = record.value
        if value is None or value[:4] != _BEGIN or len(value) > config.limits.max_record_bytes:
            yield record
        else:
            yield from _rows(config, record, value)


def _rows(config: Config, record: LogRecord, value: bytes) -> Iterator[LogRecord]:
    import pyarrow as pa  # noqa: PLC0415 - an extra, which only such logs need

    from monitor import arrow  # noqa: PLC0415

    try:
        batches = arrow.batches(value)
    except BadStreamError:
        yield record
        return
    rows = [row for batch in batches for row in batch.to_pylist()]
    fits = all(_fits(pa, _shape(config, record.kind), batch.schema) for batch in batches)
    if not rows or not fits:
        yield record._replace(value=_NOT_THE_CONTRACTS)
        return
    for number, row in enumerate(rows):
        yield record._replace(value=json.dumps(_plain(row)).encode(), row=number)


def _shape(config: Config, kind: str) -> Shape:
    both: Shape = {
        "!ts": _TIME,
        "!request_id": _TEXT,
        "!viewer_id": _TEXT,
        "!surface": _TEXT,
        "viewer": dict.fromkeys(config.attributes.viewer, _TEXT),
    }
    if config.attributes.variant is not None:
        both["variant"] = _TEXT
    attrs = dict.fromkeys(config.attributes.item, _TEXT)
    if kind == "engagements":
        return both | {"!item_id": _TEXT, "!action": _TEXT, "impression_ts": _TIME, "attrs": attrs}
    item = {"!id": _TEXT, "position": _TIME, "score": ("whole", "fraction"), "attrs": attrs}
    if config.candidates:
        both["candidates"] = [{"attrs": attrs, "count": _TIME}]
    return both | {"!items": [item]}


def _fits(pa: Any, shape: Shape, fields: Any) -> bool:
    """Whether columns, or the fields of a struct, are of the types that a shape allows."""
    for name, wanted in shape.items():
        found = [f.type for f in fields if f.name == name.removeprefix("!")]
        if len(found) != 1:
            if found or name.startswith("!"):
                return False
        elif not _is_one_of(pa, wanted, found[0], may_be_null=not name.startswith("!")):
            return False
    return True


def _is_one_of(pa: Any, wanted: Any, kind: Any, *, may_be_null: bool) -> bool:
    types = pa.types
    if types.is_null(kind):
        return may_be_null
    if isinstance(wanted, dict):
        return types.is_struct(kind) and _fits(pa, wanted, kind)
    if isinstance(wanted, list):
        listed = types.is_list(kind) or types.is_large_list(kind)
        return listed and types.is_struct(kind.value_type) and _fits(pa, wanted[0], kind.value_type)
    text = kind.value_type if types.is_dictionary(kind) else kind
    checks: dict[str, Callable[[], bool]] = {
        "text": lambda: types.is_string(text) or types.is_large_string(text),
        "whole": lambda: types.is_integer(kind),
        "time": lambda: types.is_timestamp(kind),
        "fraction": lambda: types.is_floating(kind),
    }
    return any(checks[name]() for name in wanted)


def _plain(value: Any) -> Any:
    """As JSON has it: without what is null, times as milliseconds."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime):
        at = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return (at - _EPOCH) // timedelta(milliseconds=1)
    return value
