"""Arrow streams made of JSON records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

import pyarrow as pa

from monitor.config import Config
from streams.verify.recount import LogRecord

Document = dict[str, Any]


def schema_of(config: Config, kind: str, chance: Random | None = None) -> Any:
    """Columns of the contract; ``chance`` chooses among the types that a column may have."""

    def one_of(*types: Any) -> Any:
        return types[0] if chance is None else chance.choice(types)

    coded = pa.dictionary(pa.int16(), pa.string())

    def texts(*names: str) -> list[tuple[str, Any]]:
        return [(name, one_of(coded, pa.string(), pa.large_string())) for name in names]

    def ids(*names: str) -> list[tuple[str, Any]]:
        return [(name, one_of(pa.string(), coded, pa.large_string())) for name in names]

    time = one_of(pa.int64(), pa.timestamp("ms"), pa.timestamp("us", tz="UTC"))
    attrs = pa.struct(texts(*config.attributes.item))
    viewer = pa.struct(texts(*config.attributes.viewer))
    both = [("ts", time), *ids("request_id", "viewer_id"), *texts("surface", "variant"), ("viewer", viewer)]
    if kind == "engagements":
        return pa.schema(
            [*both, *ids("item_id"), *texts("action"), ("impression_ts", time), ("attrs", attrs)]
        )
    whole = one_of(pa.int64(), pa.int32(), pa.uint32())
    item = pa.struct([*ids("id"), ("position", whole), ("attrs", attrs), ("score", pa.float64())])
    candidate = pa.struct([("attrs", attrs), ("count", whole)])
    lists = [
        (name, one_of(pa.list_(kind), pa.large_list(kind)))
        for name, kind in (("items", item), ("candidates", candidate))
    ]
    return pa.schema([*both, *lists])


def stream_of(
    documents: Sequence[Document], schema: Any, per_batch: int | None = None, **options: Any
) -> bytes:
    """A stream of some events in batches."""
    return stream_from(pa.Table.from_pylist(list(documents), schema=schema), per_batch, **options)


def stream_from(table: Any, per_batch: int | None = None, **options: Any) -> bytes:
    """A stream of a table's rows in batches."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=per_batch)
    found: bytes = sink.getvalue().to_pybytes()
    return found


def packed(config: Config, log: Iterable[LogRecord], chance: Random) -> list[LogRecord]:
    """A log with Arrow streams in place of some stretches of its partitions' records."""
    held: dict[tuple[str, int], list[LogRecord]] = {}
    found: list[LogRecord] = []
    for record in log:
        if chance.random() < 0.2 or _document(record) is None:
            found += _stream(config, held.pop((record.kind, record.partition), []), chance)
            found.append(record)
        else:
            held.setdefault((record.kind, record.partition), []).append(record)
    for records in held.values():
        found += _stream(config, records, chance)
    return found


def _document(record: LogRecord) -> Document | None:
    try:
        found = json.loads(record.value or b"")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _timed(document: Document, schema: Any) -> Document:
    """The same with times as the schema counts them: a plain number stands for microseconds in some."""
    per_ms = 1_000 if schema.field("ts").type == pa.timestamp("us", tz="UTC") else 1
    times = {k: v for k, v in document.items() if k.endswith("ts") and isinstance(v, int)}
    return document | {name: per_ms * value for name, value in times.items()}


def _stream(config: Config, records: list[LogRecord], chance: Random) -> list[LogRecord]:
    """One record in place of several; those of them that no column can hold stay what they are."""
    schema = schema_of(config, records[0].kind, chance) if records else None
    documents, left = [], []
    for record in records:
        document = _document(record)
        try:
            [back] = pa.Table.from_pylist([_timed(document or {}, schema)], schema=schema).to_pylist()
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            left.append(record)
        else:
            documents.append(back)
    if not documents:
        return left
    kept = [record for record in records if record not in left]
    value = stream_of(documents, schema, chance.choice([None, 2]))
    newest_ms = max(record.record_ms for record in kept)
    stream = kept[0]._replace(value=value, record_ms=newest_ms)
    return sorted([*left, stream], key=lambda record: record.offset)
