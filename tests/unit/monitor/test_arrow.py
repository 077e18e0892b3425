from __future__ import annotations

import json
import sys
from typing import Any

import pyarrow as pa
import pytest

from monitor.config import parse_config
from monitor.decoding import EngagementDecoder, ImpressionDecoder
from monitor.rejections import WHOLE, Reason
from tests.support.arrow import schema_of, stream_from, stream_of
from tests.support.events import engagement, impression

TEXT = """
surfaces: [home]
windows: [{length: 1h, slide: 1m}]
attributes: {viewer: {gender: {}}, item: {skin_tone: {}}}
engagement: {actions: [save]}
"""
CONFIG = parse_config(TEXT)
TS = 1_700_000_000_000
EVENT = json.loads(impression(TS, tones=("4", "9")))
SCHEMA = schema_of(CONFIG, "impressions")


def details(value: bytes, config: Any = CONFIG) -> list[tuple[str, str, int]]:
    """What is rejected of a record: the reason, the detail and the row."""
    columns = ImpressionDecoder(config).decode([value])
    return [(r.reason.value, r.detail, r.row) for r in columns.rejected]


def changed(name: str, type_: Any) -> Any:
    """The columns of impressions, one of another type."""
    return SCHEMA.set(SCHEMA.get_field_index(name), pa.field(name, type_))


def test_a_stream_gives_the_columns_of_its_rows_json() -> None:
    """Cell by cell, bucket by bucket, whatever stands beside it in the batch."""
    rows = [EVENT, EVENT | {"viewer_id": "u-2", "viewer": None}, EVENT | {"items": EVENT["items"][:1]}]
    plain = [json.dumps({k: v for k, v in row.items() if v is not None}).encode() for row in rows]
    decoder = ImpressionDecoder(CONFIG)
    found = decoder.decode([plain[0], stream_of(rows, SCHEMA, 2), stream_of(rows, SCHEMA), plain[2]])
    wanted = decoder.decode([plain[0], *plain, *plain, plain[2]])
    assert found.index.tolist() == [0, 1, 1, 1, 2, 2, 2, 3]
    assert found.row.tolist() == [WHOLE, 0, 1, 2, 0, 1, 2, WHOLE]
    assert [found.names[cell] for cell in found.cell] == [wanted.names[cell] for cell in wanted.cell]
    for name in ("ts_ms", "event", "surface", "bucket", "measure", "actor"):
        assert (getattr(found, name) == getattr(wanted, name)).all(), name


@pytest.mark.parametrize(
    ("row", "detail"),
    [
        ({"ts": None}, "ts: missing"),
        ({"ts": 0}, "ts: not from 1 to 253402300799999"),
        ({"request_id": ""}, "request_id: not of 1 to 512 characters"),
        ({"viewer_id": "é" * 513}, "viewer_id: not of 1 to 512 characters"),
        ({"surface": "s" * 81}, "surface: not of 1 to 80 characters"),
        ({"viewer": {"gender": "g" * 129}}, "viewer.gender: longer than 128 characters"),
        ({"items": None}, "items: missing or empty"),
        ({"items": []}, "items: missing or empty"),
        ({"items": [EVENT["items"][0], None]}, "items: one is null"),
        ({"items": [EVENT["items"][0], {"id": None}]}, "items.id: not of 1 to 512 characters"),
        ({"items": [{"id": "p", "position": 0}]}, "items.position: not from 1 to 1000000000"),
        ({"items": [{"id": "p", "attrs": {"skin_tone": "t" * 129}}]}, "items.attrs.skin_tone: longer than"),
    ],
)
def test_a_bad_row_is_rejected_by_itself(row: dict[str, Any], detail: str) -> None:
    """Its neighbours count; the detail names the field and no value."""
    value = stream_of([EVENT, EVENT | row, EVENT], SCHEMA)
    columns = ImpressionDecoder(CONFIG).decode([value])
    [rejected] = columns.rejected
    assert (rejected.reason, rejected.row) == (Reason.INVALID, 1)
    assert rejected.detail.startswith(detail)
    assert columns.row.tolist() == [0, 2]
    assert len(columns.event) == 4


@pytest.mark.parametrize(
    ("schema", "detail"),
    [
        (changed("ts", pa.float64()), "ts: expected whole numbers, found double"),
        (changed("surface", pa.int64()), "surface: expected text, found int64"),
        (changed("viewer", pa.string()), "viewer: expected structs, found string"),
        (changed("items", pa.list_(pa.string())), "items: expected lists of structs, found list"),
        (SCHEMA.remove(SCHEMA.get_field_index("viewer_id")), "viewer_id: 0 such columns"),
        (SCHEMA.append(pa.field("ts", pa.int64())), "ts: 2 such columns"),
    ],
)
def test_other_columns_reject_the_whole_stream(schema: Any, detail: str) -> None:
    """And no other stream of the batch."""
    empty = pa.Table.from_arrays([pa.nulls(1, field.type) for field in schema], schema=schema)
    good = stream_of([EVENT], SCHEMA)
    columns = ImpressionDecoder(CONFIG).decode([good, stream_from(empty), good])
    [rejected] = columns.rejected
    assert (rejected.index, rejected.reason, rejected.row) == (1, Reason.INVALID, WHOLE)
    assert rejected.detail.startswith(detail)
    assert columns.index.tolist() == [0, 2]


def test_a_number_out_of_reach_spoils_no_neighbour() -> None:
    """Streams of the same columns are read as one; one that cannot be is found."""
    schema = changed("ts", pa.uint64())
    values = [stream_of([EVENT | {"ts": ts}], schema) for ts in (TS, 2**64 - 1, TS)]
    columns = ImpressionDecoder(CONFIG).decode(values)
    assert [(r.index, r.reason) for r in columns.rejected] == [(1, Reason.INVALID)]
    assert columns.index.tolist() == [0, 2]


def test_what_would_grow_is_refused() -> None:
    """Memory is bounded by the size of the record."""
    rows = [EVENT] * 50
    for codec in ("lz4", "zstd"):
        [(reason, detail, row)] = details(stream_of(rows, SCHEMA, compression=codec))
        assert (reason, detail, row) == ("malformed", "compressed by Arrow; let Kafka do that", WHOLE)
    config = parse_config(TEXT + "limits: {max_record_bytes: 2000}\n")
    [(reason, detail, row)] = details(stream_of(rows, SCHEMA), config)
    assert (reason, row) == ("oversized", WHOLE)
    assert detail.endswith("bytes, allowed are 2000")


def test_no_rows_are_no_event_but_are_not_lost() -> None:
    """A stream without rows is rejected, as what it is."""
    assert details(stream_of([], SCHEMA)) == [("invalid", "a stream without rows", WHOLE)]
    assert details(stream_of([EVENT], SCHEMA)[:8])[0][0] == "malformed"


def timed(type_: Any, raw: int) -> bytes:
    """A stream of one event at a time of some unit."""
    table = pa.ipc.open_stream(stream_of([EVENT], SCHEMA)).read_all()
    return stream_from(table.set_column(0, "ts", pa.array([raw], pa.int64()).cast(type_)))


@pytest.mark.parametrize(
    ("type_", "per_ms"),
    [
        (pa.timestamp("s"), 1 / 1_000),
        (pa.timestamp("ms", tz="Europe/Berlin"), 1),
        (pa.timestamp("us"), 1_000),
        (pa.timestamp("ns"), 1_000_000),
    ],
)
def test_times_may_be_arrows_own(type_: Any, per_ms: float) -> None:
    """Of any unit, with any zone; what is before the epoch or absurdly late is refused."""
    decoder = ImpressionDecoder(CONFIG)
    assert decoder.decode([timed(type_, int(TS * per_ms))]).ts_ms.tolist() == [TS]
    absurd = [-1 - int(per_ms), *([2**63 - 1] if per_ms < 1_000_000 else [])]
    for raw in absurd:
        assert [detail.split(":")[0] for _, detail, _ in details(timed(type_, raw))] == ["ts"]


def test_engagements_are_refused_as_their_json_is() -> None:
    """Unattributed, after their impression's end, before it; each with its row."""
    rows = [json.loads(engagement(TS + late, shown)) for late, shown in ((5, TS), (5, None), (-5, TS))]
    rows += [json.loads(engagement(TS + 5, TS, action="frown"))]
    columns = EngagementDecoder(CONFIG).decode([stream_of(rows, schema_of(CONFIG, "engagements"))])
    assert [(r.row, r.reason) for r in columns.rejected] == [(1, Reason.UNATTRIBUTED), (2, Reason.INVALID)]
    assert (columns.row.tolist(), columns.event.tolist()) == ([0, 3], [0])


def test_without_the_extra_a_stream_is_rejected_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process goes on with the JSON beside it."""
    for name in ("monitor.arrow", "monitor.arrow_rows"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    columns = ImpressionDecoder(CONFIG).decode([stream_of([EVENT], SCHEMA), impression(TS)])
    [rejected] = columns.rejected
    assert rejected.reason is Reason.MALFORMED
    assert "fairstream[arrow]" in rejected.detail
    assert columns.index.tolist() == [1]


def test_parts_of_a_batch_keep_their_streams() -> None:
    """Partitions decoded together are cut between records, never within one."""
    decoder = ImpressionDecoder(CONFIG)
    bad = stream_of([EVENT | {"ts": 0}, EVENT], SCHEMA)
    batches = [[stream_of([EVENT] * 3, SCHEMA)], [impression(TS), bad], [bad]]
    parts = list(decoder.decode_each(batches))
    assert [part.index.tolist() for part in parts] == [[0, 0, 0], [0, 1], [0]]
    assert [[(r.index, r.row) for r in part.rejected] for part in parts] == [[], [(1, 0)], [(0, 0)]]
    assert [part.event.tolist() for part in parts] == [[0, 0, 1, 1, 2, 2], [0, 1, 1], [0, 0]]
