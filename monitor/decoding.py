"""From the JSON of a whole batch to columns: the only Python work done per event.

The record types are made from the configuration, so that attributes nobody asked for
are skipped by the parser and never become objects.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from monitor.cells import UNKNOWN, Cell, ValueCoder, other_cell, viewer_bucket
from monitor.config import Attribute, Config
from monitor.exposure import MAX_POSITION, position_weights
from monitor.rejections import Reason, Rejected

Ints = NDArray[np.int64]

_Ts = Annotated[int, Meta(ge=1, le=253_402_300_799_999)]
_Id = Annotated[str, Meta(min_length=1, max_length=512)]
_Surface = Annotated[str, Meta(min_length=1, max_length=80)]
_Value = Annotated[str, Meta(max_length=128)]
_Position = Annotated[int, Meta(ge=1, le=1_000_000_000)]

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the parser raises for bytes that it cannot read; the last for JSON nested too deeply."""


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """A decoded batch. Per event (length E) and per contribution (length C: an item or an engagement)."""

    index: Ints
    """(E,) position of the event in the batch."""
    ts_ms: Ints
    """(E,) event time: what moves the watermark."""
    anchor_ms: Ints
    """(E,) time of the impression: what chooses the pane."""
    event: Ints
    """(C,) row of the event that the contribution belongs to, ascending."""
    surface: Ints
    """(C,) index into the decoder's surfaces."""
    cell: Ints
    """(C,) code; :meth:`names` of the decoder gives the cell."""
    bucket: Ints
    """(C,) viewer bucket."""
    measure: Ints
    """(C, M) what is added to the cell's sums."""
    rejected: list[Rejected]


def _values_struct(name: str, attributes: Iterable[str]) -> type[msgspec.Struct]:
    """A struct with one optional text per attribute; field names do not depend on the attributes'."""
    fields = [(f"v{i}", _Value, UNKNOWN) for i, _ in enumerate(attributes)]
    rename = {f"v{i}": attribute for i, attribute in enumerate(attributes)}
    return msgspec.defstruct(name, fields, rename=rename, gc=False)


class Decoder(ABC):
    """What impressions and engagements share: parsing a batch, coding cells."""

    def __init__(self, config: Config, record: type[msgspec.Struct]) -> None:
        attributes = config.attributes
        self._config = config
        self._one = msgspec.json.Decoder(record)
        self._many = msgspec.json.Decoder(record)
        self._surfaces = {surface: i for i, surface in enumerate(config.surfaces)}
        self._elsewhere = len(config.surfaces)
        self._variant = attributes.variant is not None
        about_request: list[Attribute] = [*([attributes.variant] if attributes.variant else [])]
        self._requests = ValueCoder([*about_request, *attributes.viewer.values()])
        self._items = ValueCoder([*attributes.item.values()])
        self._buckets = config.limits.buckets
        self.other: Cell = other_cell(config)
        self._viewer_values = _getter(len(attributes.viewer))
        self._item_values = _getter(len(attributes.item))

    @abstractmethod
    def decode(self, values: Sequence[bytes | None]) -> Columns:
        """Columns of a batch of record values, in their order."""

    def names(self, code: int) -> Cell:
        """The cell of a code in the latest batch's columns."""
        request, item = divmod(code, 1 << 32)
        return self._requests.names[request] + self._items.names[item]

    def _parse(self, values: Sequence[bytes | None]) -> tuple[list[Any], list[int], list[Rejected]]:
        """Records of a batch, their positions in it, and what was rejected."""
        self._requests.forget_if_full()
        self._items.forget_if_full()
        limit = self._config.limits.max_record_bytes
        if all(value is not None and len(value) <= limit for value in values):
            joined = b"\n".join(values)  # type: ignore[arg-type]  # no None: just checked
            if joined.count(b"\n") == len(values) - 1:
                try:
                    records = self._many.decode_lines(joined)
                    if len(records) == len(values):
                        return records, list(range(len(values))), []
                except _UNREADABLE:
                    pass  # some record is bad: find out which, one by one
        return self._parse_each(values, limit)

    def _parse_each(
        self, values: Sequence[bytes | None], limit: int
    ) -> tuple[list[Any], list[int], list[Rejected]]:
        records, index, rejected = [], [], []
        for i, value in enumerate(values):
            if value is None:
                rejected.append(Rejected(i, Reason.MALFORMED, "no value (tombstone)"))
            elif len(value) > limit:
                rejected.append(Rejected(i, Reason.OVERSIZED, f"{len(value)} bytes, allowed are {limit}"))
            else:
                try:
                    records.append(self._one.decode(value))
                    index.append(i)
                except msgspec.ValidationError as error:
                    rejected.append(Rejected(i, Reason.INVALID, str(error)))
                except _UNREADABLE as error:
                    rejected.append(Rejected(i, Reason.MALFORMED, str(error)))
        return records, index, rejected

    def _surface_codes(self, records: list[Any]) -> Ints:
        get, elsewhere = self._surfaces.get, self._elsewhere
        return np.array([get(r.surface, elsewhere) for r in records], dtype=np.int64)

    def _request_codes(self, records: list[Any]) -> Ints:
        codes, values = self._requests, self._viewer_values
        if self._variant:
            return np.array([codes[(r.variant, *values(r.viewer))] for r in records], dtype=np.int64)
        return np.array([codes[values(r.viewer)] for r in records], dtype=np.int64)

    def _bucket_codes(self, records: list[Any]) -> Ints:
        buckets = self._buckets
        return np.array([viewer_bucket(r.viewer_id, buckets) for r in records], dtype=np.int64)

    def _item_codes(self, items: Iterable[Any]) -> Ints:
        codes, values = self._items, self._item_values
        return np.array([codes[values(item.attrs)] for item in items], dtype=np.int64)


def _getter(count: int) -> Any:
    """The values of a struct made by :func:`_values_struct` as a tuple; an absent struct is all unknown."""
    absent = (UNKNOWN,) * count
    if count == 0:
        return lambda _struct: ()
    as_tuple = msgspec.structs.astuple
    return lambda struct: absent if struct is None else as_tuple(struct)


class ImpressionDecoder(Decoder):
    """Decodes records of ``impressions``: one per request, one contribution per item.

    Measures: impressions, micro-exposure, impressions in the top k.
    """

    def __init__(self, config: Config) -> None:
        """Build the record types for the configuration's attributes."""
        attributes = config.attributes
        viewer = _values_struct("Viewer", attributes.viewer)
        attrs = _values_struct("Attrs", attributes.item)
        item = msgspec.defstruct(
            "Item",
            [
                ("id", _Id),
                ("position", _Position, 0),
                ("attrs", attrs | None, None),
                ("score", float | None, None),
            ],
            gc=False,
        )
        record = msgspec.defstruct(
            "Impression",
            [
                ("ts", _Ts),
                ("request_id", _Id),
                ("viewer_id", _Id),
                ("surface", _Surface),
                ("items", Annotated[list[item], Meta(min_length=1)]),  # type: ignore[valid-type]
                ("variant", _Value, UNKNOWN),
                ("viewer", viewer | None, None),
            ],
            gc=False,
        )
        super().__init__(config, record)
        self._weights = position_weights(config.exposure)
        self._k = config.exposure.k

    def decode(self, values: Sequence[bytes | None]) -> Columns:
        """Columns of a batch of record values, in their order."""
        records, index, rejected = self._parse(values)
        counts = np.array([len(r.items) for r in records], dtype=np.int64)
        event = np.repeat(np.arange(len(records), dtype=np.int64), counts)
        first = np.cumsum(counts) - counts
        items = list(chain.from_iterable(r.items for r in records))
        given = np.array([item.position for item in items], dtype=np.int64)
        implied = np.arange(len(items), dtype=np.int64) - first[event] + 1
        position = np.where(given > 0, given, implied)
        weight = self._weights[np.minimum(position, MAX_POSITION)]
        measure = np.stack((np.ones_like(position), weight, position <= self._k), axis=1)
        ts = np.array([r.ts for r in records], dtype=np.int64)
        return Columns(
            index=np.array(index, dtype=np.int64),
            ts_ms=ts,
            anchor_ms=ts,
            event=event,
            surface=self._surface_codes(records)[event],
            cell=(self._request_codes(records)[event] << 32) | self._item_codes(items),
            bucket=self._bucket_codes(records)[event],
            measure=measure.astype(np.int64),
            rejected=rejected,
        )


class EngagementDecoder(Decoder):
    """Decodes records of ``engagements``: one contribution each, credited to its impression's pane.

    Measures: one count per configured action. Other actions are accepted and contribute nothing.
    """

    def __init__(self, config: Config) -> None:
        """Build the record types for the configuration's attributes and actions."""
        attributes = config.attributes
        record = msgspec.defstruct(
            "Engagement",
            [
                ("ts", _Ts),
                ("request_id", _Id),
                ("viewer_id", _Id),
                ("surface", _Surface),
                ("item_id", _Id),
                ("action", Annotated[str, Meta(min_length=1, max_length=80)]),
                ("impression_ts", _Ts | None, None),
                ("variant", _Value, UNKNOWN),
                ("viewer", _values_struct("Viewer", attributes.viewer) | None, None),
                ("attrs", _values_struct("Attrs", attributes.item) | None, None),
            ],
            gc=False,
        )
        super().__init__(config, record)
        self._actions = {action: i for i, action in enumerate(config.engagement.actions)}
        self._window = config.engagement.attribution_window

    def decode(self, values: Sequence[bytes | None]) -> Columns:
        """Columns of a batch of record values, in their order."""
        parsed, parsed_index, rejected = self._parse(values)
        records, index = [], []
        for record, i in zip(parsed, parsed_index, strict=True):
            refusal = self._refusal(record)
            if refusal is None:
                records.append(record)
                index.append(i)
            else:
                rejected.append(Rejected(i, *refusal))
        action = np.array([self._actions.get(r.action, -1) for r in records], dtype=np.int64)
        counted = np.flatnonzero(action >= 0)
        measure = np.zeros((len(counted), len(self._actions)), dtype=np.int64)
        measure[np.arange(len(counted)), action[counted]] = 1
        return Columns(
            index=np.array(index, dtype=np.int64),
            ts_ms=np.array([r.ts for r in records], dtype=np.int64),
            anchor_ms=np.array([r.impression_ts for r in records], dtype=np.int64),
            event=counted,
            surface=self._surface_codes(records)[counted],
            cell=((self._request_codes(records) << 32) | self._item_codes(records))[counted],
            bucket=self._bucket_codes(records)[counted],
            measure=measure,
            rejected=rejected,
        )

    def _refusal(self, record: Any) -> tuple[Reason, str] | None:
        if record.impression_ts is None:
            return Reason.UNATTRIBUTED, "no impression_ts (joining by request_id is not built yet)"
        if record.impression_ts > record.ts:
            return Reason.INVALID, "impression_ts is after ts"
        if record.ts - record.impression_ts > self._window:
            return Reason.UNATTRIBUTED, f"more than {self._window} after its impression"
        return None
