"""Snapshots: cumulative sums of one pane in one source partition, and the records that carry them.

A snapshot is idempotent: of two for the same pane the one with the larger ``end_offset``
supersedes the other, so repeats, reorderings and stale writers change nothing.
"""

from collections.abc import Iterator
from enum import StrEnum

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from monitor.cells import Cell
from monitor.verdicts import UnknownVersionError

VERSION = 2
"""Of records. Those of version 1 held the panes of one source partition."""

STORED_VERSION = 1
"""Of what monitor keeps: one snapshot, and marks."""


class Kind(StrEnum):
    """Which of the two source topics a snapshot sums."""

    IMPRESSIONS = "impressions"
    ENGAGEMENTS = "engagements"


class PaneSnapshot(Struct, frozen=True, array_like=True):
    """Everything counted so far for one pane of one source partition (or one part of its cells).

    It covers the log from ``from_offset`` to ``end_offset`` (half-open); ``first_offset`` is
    the offset of the pane's first event, or with a cap on viewers of its session's. Sums are
    sparse: ``index`` (uint32, little-endian) numbers the non-zero entries of the array (cells,
    buckets, measures) in C order, ``values`` (int64, little-endian) holds them.
    """

    pane_start_ms: int
    part: int
    from_offset: int
    first_offset: int
    end_offset: int
    cells: list[Cell]
    index: bytes
    values: bytes

    def sums(self) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Index and values as arrays."""
        return np.frombuffer(self.index, dtype="<u4"), np.frombuffer(self.values, dtype="<i8")


class SourceSnapshots(Struct, frozen=True, array_like=True):
    """Changed panes of one source partition."""

    partition: int
    snapshots: list[PaneSnapshot]


class PanesRecord(Struct, frozen=True, tag="panes", kw_only=True):
    """One record of ``fairness.panes``, key = surface: changed panes of a process's source partitions."""

    version: int
    meaning: str
    surface: str
    kind: Kind
    sources: list[SourceSnapshots] = []
    partition: int = 0
    """In version 1, which had one source. Written still, so that its readers see the version."""
    snapshots: list[PaneSnapshot] = []
    """In version 1; later ones have none."""

    def each(self) -> Iterator[tuple[int, PaneSnapshot]]:
        """Every snapshot with the number of its source partition."""
        return ((source.partition, snapshot) for source in self.sources for snapshot in source.snapshots)


class SourceProgress(Struct, frozen=True, array_like=True):
    """How far one source partition has been read."""

    kind: Kind
    topic: str
    partition: int
    partitions: int
    """How many partitions the topic has."""
    watermark_ms: int
    """Largest accepted event time; 0 before the first."""
    position: int
    """Offset of the next record to read."""
    lag: int
    """Records between position and the end of the partition, as last known."""
    idle: bool
    """Read to its end and silent for the idle timeout: holds nothing back."""


class HeartbeatRecord(Struct, frozen=True, tag="heartbeat", kw_only=True):
    """Progress of an aggregate process's partitions; sent to every partition of ``fairness.panes``.

    It follows the snapshots that its watermarks speak of.
    """

    version: int
    meaning: str
    sources: list[SourceProgress]


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[PanesRecord | HeartbeatRecord] = msgspec.msgpack.Decoder(
    PanesRecord | HeartbeatRecord
)
_raw_decoder: msgspec.msgpack.Decoder[tuple[int, str, PaneSnapshot]] = msgspec.msgpack.Decoder(
    tuple[int, str, PaneSnapshot]
)


def encode_record(record: PanesRecord | HeartbeatRecord) -> bytes:
    """The record as MessagePack."""
    return _encoder.encode(record)


def decode_record(data: bytes) -> PanesRecord | HeartbeatRecord:
    """Inverse of :func:`encode_record`.

    Raises:
        UnknownVersionError: written by a newer fairstream.
        msgspec.DecodeError: not such a record.
    """
    record = _decoder.decode(data)
    check_version(record.version, VERSION)
    if isinstance(record, PanesRecord) and record.version == 1:
        only = SourceSnapshots(record.partition, record.snapshots)
        return msgspec.structs.replace(record, sources=[only], partition=0, snapshots=[])
    return record


def check_version(version: int, known: int = STORED_VERSION) -> None:
    """UnknownVersionError for sums that a newer fairstream has written."""
    if version > known:
        raise UnknownVersionError(f"snapshot version {version}, this program knows up to {known}")


def encode_raw(meaning: str, snapshot: PaneSnapshot) -> bytes:
    """One snapshot and the meaning of its sums, for the monitor's own table."""
    return _encoder.encode((STORED_VERSION, meaning, snapshot))


def decode_raw(data: bytes) -> tuple[str, PaneSnapshot]:
    """Inverse of :func:`encode_raw`; UnknownVersionError if it was written by a newer fairstream."""
    version, meaning, snapshot = _raw_decoder.decode(data)
    check_version(version)
    return meaning, snapshot


def compared(snapshot: PaneSnapshot) -> PaneSnapshot:
    """What the next snapshot of its pane is compared with: the same without cells and sums."""
    return msgspec.structs.replace(snapshot, cells=[], index=b"", values=b"")


def is_partial(held: PaneSnapshot, offered: PaneSnapshot) -> bool:
    """Whether the offered snapshot lacks events that the held one has counted.

    That happens when someone moved the group's offsets or a commit's metadata was lost.
    """
    return offered.from_offset > held.first_offset


def supersede(held: PaneSnapshot, offered: PaneSnapshot) -> PaneSnapshot:
    """The one of two snapshots of the same pane and part that knows more of the log.

    Idempotent, commutative and associative over the snapshots of one log.
    """
    return (
        offered if (offered.end_offset, -offered.from_offset) > (held.end_offset, -held.from_offset) else held
    )
