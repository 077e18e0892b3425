"""Arrow streams: one Kafka record that holds many events as columns. Needs the extra ``arrow``.

A record's value is an Arrow IPC stream whose columns are the fields of the contract's JSON: structs for
objects, a list of structs for ``items``, null for what is absent. Text may be dictionary-encoded. Other
columns are ignored. A stream with a column of another type, or one that cannot be read, is rejected as a
whole; a row that breaks the contract, by itself.

Nothing here expands what a record holds, so memory is bounded by its size: buffers that Arrow has compressed
are refused (Kafka compresses records), dictionaries are not decoded, views are not read.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from monitor.arrow_rows import Rows
from monitor.rejections import BadStreamError, Reason

T = TypeVar("T")

_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3  # Message.fbs, in the order of its union
_TYPE, _HEADER, _DATA, _COMPRESSION = 1, 2, 1, 3  # fields of Message, DictionaryBatch, RecordBatch


class _Stream(NamedTuple):
    place: int
    batches: list[Any]


def read(
    values: Sequence[bytes], take: Callable[[Rows], T]
) -> tuple[list[T], list[tuple[int, BadStreamError]]]:
    """What ``take`` makes of the rows of some streams, in their order; and the place of each bad stream.

    Neighbours with the same columns are taken as one, unless one of them is bad: calls of Arrow's functions
    cost no less for few rows.
    """
    streams, found, bad = list[_Stream](), list[T](), list[tuple[int, BadStreamError]]()
    for place, value in enumerate(values):
        try:
            streams.append(_Stream(place, batches(value)))
        except BadStreamError as error:
            bad.append((place, error))
    for _, group in groupby(streams, key=lambda stream: stream.batches[0].schema):
        _take(list(group), take, found, bad)
    return found, bad


def _take(
    streams: list[_Stream], take: Callable[[Rows], T], found: list[T], bad: list[tuple[int, BadStreamError]]
) -> None:
    try:
        found.append(take(_rows(streams)))
    except (BadStreamError, pa.ArrowException) as error:
        if len(streams) == 1:
            bad.append((streams[0].place, BadStreamError(Reason.INVALID, str(error))))
            return
        for each in streams:
            _take([each], take, found, bad)


def _rows(streams: list[_Stream]) -> Rows:
    structs = pa.concat_arrays([batch.to_struct_array() for each in streams for batch in each.batches])
    counts = [sum(map(len, each.batches)) for each in streams]
    return Rows(
        structs,
        stream=np.repeat([each.place for each in streams], counts),
        row=np.concatenate([np.arange(count) for count in counts]),
    )


def rows_of(value: bytes, rows: list[int]) -> Iterator[bytes]:
    """Each of some rows of a stream as a stream of its own, with all its columns."""
    table = pa.ipc.open_stream(pa.py_buffer(value)).read_all()
    for row in rows:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table.slice(row, 1))
        yield sink.getvalue().to_pybytes()


def batches(value: bytes) -> list[Any]:
    """The record batches of a stream, verified to the last index.

    Raises:
        BadStreamError: it cannot be read, or may hold more than its size.
    """
    try:
        for message in pa.ipc.MessageReader.open_stream(pa.py_buffer(value)):
            if _is_compressed(message.metadata.to_pybytes()):
                raise BadStreamError(Reason.MALFORMED, "compressed by Arrow; let Kafka do that")
        found = list(pa.ipc.open_stream(pa.py_buffer(value)))
        for batch in found:
            batch.validate(full=True)
    except (pa.ArrowException, OSError, struct.error) as error:
        raise BadStreamError(Reason.MALFORMED, str(error)) from error
    if not any(map(len, found)):
        raise BadStreamError(Reason.INVALID, "a stream without rows")
    return found


def _is_compressed(message: bytes) -> bool:
    """Whether a message's flatbuffer says that its body is compressed."""
    (root,) = struct.unpack_from("<I", message)
    kind, batch = _field(message, root, _TYPE), _table(message, root, _HEADER)
    if kind is None or batch is None or message[kind] not in (_DICTIONARY_BATCH, _RECORD_BATCH):
        return False
    if message[kind] == _DICTIONARY_BATCH:
        batch = _table(message, batch, _DATA)
    return batch is not None and _field(message, batch, _COMPRESSION) is not None


def _field(message: bytes, table: int, number: int) -> int | None:
    """Where a table of a flatbuffer has a field; None if it has not."""
    slots = table - struct.unpack_from("<i", message, table)[0]
    slot = 4 + 2 * number
    if slot >= struct.unpack_from("<H", message, slots)[0]:
        return None
    (place,) = struct.unpack_from("<H", message, slots + slot)
    return table + place if place else None


def _table(message: bytes, table: int, number: int) -> int | None:
    place = _field(message, table, number)
    return None if place is None else place + int(struct.unpack_from("<I", message, place)[0])
