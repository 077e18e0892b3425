"""What the monitor remembers across restarts: an ordered log of upserts, behind one small interface.

Every write is idempotent. After a crash the store holds what some prefix of the writes left,
so the order of writes is what makes each multi-step change safe: first the new, then the
mark that it is there, then the removal of the old.
"""

import zlib
from collections.abc import Iterator
from typing import Protocol

import msgspec
import numpy as np
from msgspec import Struct

from monitor.cells import Cell
from monitor.pane_sums import cells_per_part
from monitor.sums import CellRows, Ints, Layout, Sparse, difference
from monitor.verdicts import UnknownVersionError

VERSION = 1


class Store(Protocol):
    """Keys are readable text joined by ``|``; values are bytes, never empty."""

    def put(self, key: str, value: bytes) -> None:
        """Insert or replace."""

    def delete(self, key: str) -> None:
        """Remove; a key that is not there is no error."""

    def items(self) -> Iterator[tuple[str, bytes]]:
        """Everything held."""


class MemoryStore:
    """A store in a dictionary, for tests and for computing without Kafka."""

    def __init__(self) -> None:
        """Empty."""
        self.data: dict[str, bytes] = {}

    def put(self, key: str, value: bytes) -> None:
        """Insert or replace."""
        self.data[key] = value

    def delete(self, key: str) -> None:
        """Remove."""
        self.data.pop(key, None)

    def items(self) -> Iterator[tuple[str, bytes]]:
        """Everything held."""
        return iter(list(self.data.items()))


class SumsEntry(Struct, frozen=True, array_like=True):
    """A chunk of the merged sums of one pane. ``index`` and ``values`` as in a snapshot."""

    version: int
    meaning: str
    chunk: int
    chunks: int
    cells: list[Cell]
    index: bytes
    values: bytes


_decoder = msgspec.msgpack.Decoder(SumsEntry)


def encode_sums(entries: Sparse, rows: CellRows, layout: Layout, meaning: str) -> list[bytes]:
    """Merged sums as chunks, each small enough for one record. At least one chunk."""
    attributes = len(rows.names[0]) if rows.names else 0
    per_chunk = cells_per_part(layout.buckets, layout.measures, attributes)
    used, local = np.unique(entries.index // layout.per_cell, return_inverse=True)
    chunks = max(1, -(-len(used) // per_chunk))
    index = local * layout.per_cell + entries.index % layout.per_cell
    encoded = []
    for chunk in range(chunks):
        mine = local // per_chunk == chunk
        entry = SumsEntry(
            VERSION,
            meaning,
            chunk,
            chunks,
            [rows.names[row] for row in used[chunk * per_chunk : (chunk + 1) * per_chunk]],
            (index[mine] - chunk * per_chunk * layout.per_cell).astype("<u4").tobytes(),
            entries.values[mine].astype("<i8").tobytes(),
        )
        encoded.append(zlib.compress(msgspec.msgpack.encode(entry), 1))
    return encoded


def decode_sums(chunks: list[bytes], rows: CellRows, layout: Layout, meaning: str) -> Sparse | None:
    """Inverse of :func:`encode_sums`; None if a chunk is missing or the meaning is another.

    Raises:
        UnknownVersionError: written by a newer fairstream, which may want it back.
    """
    entries = sorted((_decoder.decode(zlib.decompress(chunk)) for chunk in chunks), key=lambda e: e.chunk)
    newest = max(e.version for e in entries)
    if newest > VERSION:
        raise UnknownVersionError(f"sums of version {newest}, this program knows up to {VERSION}")
    if any(e.meaning != meaning for e in entries) or len(entries) != entries[0].chunks:
        return None
    places = np.arange(layout.measures)
    parts = [spread(e.cells, e.index, e.values, rows, layout, places) for e in entries]
    return difference(parts, [])


def spread(
    cells: list[Cell], index: bytes, values: bytes, rows: CellRows, layout: Layout, places: Ints
) -> Sparse:
    """Sparse entries over local cells as entries over the surface's rows, not merged.

    ``places``: which measure of the layout each measure of the local array is.
    """
    measures = len(places)
    local = np.frombuffer(index, dtype="<u4").astype(np.int64)
    cell, rest = np.divmod(local, layout.buckets * measures)
    bucket, measure = np.divmod(rest, measures)
    row = rows.rows(cells)[cell] if len(cells) else cell
    placed = (row * layout.buckets + bucket) * layout.measures + places[measure]
    return Sparse(placed, np.frombuffer(values, dtype="<i8").astype(np.int64))
