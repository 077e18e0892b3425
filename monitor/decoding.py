"""From the JSON of a whole batch to columns: the only Python work done per event.

The record types are made from the configuration, so that attributes nobody asked for
are skipped by the parser and never become objects.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from monitor.cells import UNKNOWN, Cell, CellCoder, other_cell, viewer_hashes
from monitor.columns import Columns, Lists, ints
from monitor.config import Config
from monitor.exposure import MAX_POSITION, position_weights
from monitor.rejections import Reason, Rejected
from monitor.requests import RequestMeasures

Ints = NDArray[np.int64]

CHUNK_BYTES = 100_000
"""What is parsed at a time: little enough for the processor's cache, or parsing takes twice as long."""

MOST_NUMBERS = 200_000
"""Numbers of values and cells start again when there are more of them than this."""

_NO_TIME = -1
_HASH_BITS = 32
_NEWLINE = ord("\n")

_Ts = Annotated[int, Meta(ge=1, le=253_402_300_799_999)]
_Id = Annotated[str, Meta(min_length=1, max_length=512)]
_Surface = Annotated[str, Meta(min_length=1, max_length=80)]
_Value = Annotated[str, Meta(max_length=128)]
_Position = Annotated[int, Meta(ge=1, le=1_000_000_000)]

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the parser raises for bytes that it cannot read; the last for JSON nested too deeply."""


def _values_struct(name: str, attributes: Iterable[str]) -> type[msgspec.Struct]:
    """A hashable struct of one optional text per attribute; field names do not depend on the attributes'."""
    fields = [(f"v{i}", _Value, UNKNOWN) for i, _ in enumerate(attributes)]
    rename = {f"v{i}": attribute for i, attribute in enumerate(attributes)}
    return msgspec.defstruct(name, fields, rename=rename, gc=False, frozen=True)


class _SurfaceCodes(dict[str, int]):
    """The index of each configured surface; any other one is the last."""

    def __missing__(self, _: str) -> int:
        return len(self)


class Decoder(ABC):
    """What impressions and engagements share: parsing a batch, coding cells."""

    def __init__(self, config: Config, record: type[msgspec.Struct], viewer: Any, attrs: Any) -> None:
        """``viewer`` and ``attrs`` are the structs of values within ``record``."""
        self._config = config
        self._json = msgspec.json.Decoder(record)
        self._surfaces = _SurfaceCodes({surface: i for i, surface in enumerate(config.surfaces)})
        self._no_values = viewer(), attrs()
        self._with_variant = config.attributes.variant is not None
        self._coder = CellCoder(config, *self._no_values)
        self._chunk = 1  # records that make CHUNK_BYTES, by the latest ones
        self.other: Cell = other_cell(config)

    @abstractmethod
    def _extract(self, records: list[Any], lists: Lists) -> None:
        """Append what is wanted of some records."""

    @abstractmethod
    def _columns(self, lists: Lists, rejected: list[Rejected]) -> Columns:
        """Columns of a batch."""

    def decode(self, values: Sequence[bytes | None]) -> Columns:
        """Columns of a batch of record values, in their order."""
        if self._coder.size > MOST_NUMBERS:
            self._coder = CellCoder(self._config, *self._no_values)
        lists, rejected = Lists(), list[Rejected]()
        first = 0
        while first < len(values):
            chunk = values[first : first + self._chunk]
            records = self._parse(chunk)
            if records is None:
                records, index = self._parse_each(chunk, first, rejected)
                lists.index += index
            else:
                lists.index += range(first, first + len(chunk))
            self._extract(records, lists)
            first += len(chunk)
        return self._columns(lists, rejected)

    def decode_each(self, batches: Sequence[Sequence[bytes | None]]) -> Iterator[Columns]:
        """Columns of several batches, decoded as one: numpy's calls cost no less for few records."""
        columns = self.decode([value for batch in batches for value in batch])
        return iter([columns]) if len(batches) == 1 else columns.parts(list(accumulate(map(len, batches))))

    def _parse(self, values: Sequence[bytes | None]) -> list[Any] | None:
        """Records of some values at once; None if one of them is bad."""
        limit = self._config.limits.max_record_bytes
        try:
            joined = b"\n".join(values)  # type: ignore[arg-type]  # a None among them is the TypeError
            self._chunk = CHUNK_BYTES * len(values) // (len(joined) + 1) + 1
            if len(joined) > limit and max(map(len, values)) > limit:  # type: ignore[arg-type]
                return None
            if np.count_nonzero(np.frombuffer(joined, np.uint8) == _NEWLINE) != len(values) - 1:
                return None
            records: list[Any] = self._json.decode_lines(joined)
        except (TypeError, *_UNREADABLE):
            return None
        return records if len(records) == len(values) else None

    def _parse_each(
        self, values: Sequence[bytes | None], first: int, rejected: list[Rejected]
    ) -> tuple[list[Any], list[int]]:
        """Records of some values one by one, and their places in the batch; bad ones go to ``rejected``."""
        limit = self._config.limits.max_record_bytes
        records, index = [], []
        for i, value in enumerate(values, first):
            if value is None:
                rejected.append(Rejected(i, Reason.MALFORMED, "no value (tombstone)"))
            elif len(value) > limit:
                rejected.append(Rejected(i, Reason.OVERSIZED, f"{len(value)} bytes, allowed are {limit}"))
            else:
                try:
                    records.append(self._json.decode(value))
                    index.append(i)
                except msgspec.ValidationError as error:
                    rejected.append(Rejected(i, Reason.INVALID, str(error)))
                except _UNREADABLE as error:
                    rejected.append(Rejected(i, Reason.MALFORMED, str(error)))
        return records, index

    def _extract_request(self, records: list[Any], lists: Lists) -> None:
        """What both kinds of record say of the request."""
        lists.ts_ms += [r.ts for r in records]
        lists.surface += map(self._surfaces.__getitem__, [r.surface for r in records])
        lists.hash += viewer_hashes([r.viewer_id for r in records])
        viewers = self._coder.viewers
        lists.viewer += [viewers[r.viewer] for r in records]
        if self._with_variant:
            variants = self._coder.variants
            lists.variant += [variants[r.variant] for r in records]

    def _extract_attrs(self, items: list[Any], lists: Lists) -> None:
        numbers = self._coder.items
        lists.item += [numbers[item.attrs] for item in items]

    def _requests(self, lists: Lists) -> Ints:
        viewers = ints(lists.viewer)
        if not self._with_variant:
            self._coder.variants[None]
            return self._coder.requests(np.zeros_like(viewers), viewers)
        return self._coder.requests(ints(lists.variant), viewers)


class ImpressionDecoder(Decoder):
    """Decodes records of ``impressions``: one per request, one contribution per item.

    Measures: impressions, micro-exposure, impressions in the top k; then those of each ranking.
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
        super().__init__(config, record, viewer, attrs)
        self._weights = position_weights(config.exposure)
        self._k = config.exposure.k
        self._rankings = RequestMeasures(config) if config.rankings else None

    def _extract(self, records: list[Any], lists: Lists) -> None:
        self._extract_request(records, lists)
        of_each = [r.items for r in records]
        lists.items += map(len, of_each)
        items = list(chain.from_iterable(of_each))
        lists.place += [item.position for item in items]
        self._extract_attrs(items, lists)

    def _columns(self, lists: Lists, rejected: list[Rejected]) -> Columns:
        counts, given, ts = ints(lists.items), ints(lists.place), ints(lists.ts_ms)
        event = np.repeat(np.arange(len(counts)), counts)
        implied = np.arange(1, len(given) + 1) - (np.cumsum(counts) - counts)[event]
        position = np.where(given > 0, given, implied)
        measure = np.empty((len(given), 3), dtype=np.int64)
        measure[:, 0] = 1
        measure[:, 1] = self._weights[np.minimum(position, MAX_POSITION)]
        measure[:, 2] = position <= self._k
        requests, items, viewer = self._requests(lists), ints(lists.item), ints(lists.hash)
        columns = Columns(
            index=ints(lists.index),
            ts_ms=ts,
            anchor_ms=ts,
            event=event,
            surface=ints(lists.surface)[event],
            cell=self._coder.cells(requests[event], items),
            names=self._coder.names,
            bucket=(viewer % self._config.limits.buckets)[event],
            measure=measure,
            actor=viewer,
            rejected=rejected,
        )
        if self._rankings is None or self._coder.no_item is None:
            return columns
        of_requests = self._rankings.measures(self._coder.items.names, items, event, position)
        shown = np.flatnonzero(of_requests.any(axis=1))
        cell = self._coder.cells(requests[shown], np.full_like(shown, self._coder.no_item))
        return columns.with_requests(np.cumsum(counts)[shown] - 1, cell, of_requests[shown])


class EngagementDecoder(Decoder):
    """Decodes records of ``engagements``: one contribution each, credited to its impression's pane.

    Measures: one count per configured action. Other actions are accepted and contribute nothing.
    """

    def __init__(self, config: Config) -> None:
        """Build the record types for the configuration's attributes and actions."""
        viewer = _values_struct("Viewer", config.attributes.viewer)
        attrs = _values_struct("Attrs", config.attributes.item)
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
                ("viewer", viewer | None, None),
                ("attrs", attrs | None, None),
            ],
            gc=False,
        )
        super().__init__(config, record, viewer, attrs)
        self._actions = {action: i for i, action in enumerate(config.engagement.actions)}
        self._window = config.engagement.attribution_window

    def _extract(self, records: list[Any], lists: Lists) -> None:
        self._extract_request(records, lists)
        lists.anchor_ms += [r.impression_ts for r in records]
        lists.place += [self._actions.get(r.action, -1) for r in records]
        self._extract_attrs(records, lists)

    def _columns(self, lists: Lists, rejected: list[Rejected]) -> Columns:
        index, ts = ints(lists.index), ints(lists.ts_ms)
        anchor = ints([_NO_TIME if t is None else t for t in lists.anchor_ms])
        refused = (anchor == _NO_TIME) | (anchor > ts) | (ts - anchor > self._window)
        rejected += [
            Rejected(lists.index[i], *self._refusal(lists.ts_ms[i], lists.anchor_ms[i]))
            for i in np.flatnonzero(refused).tolist()
        ]
        good = np.flatnonzero(~refused)
        action = ints(lists.place)[good]
        event = np.flatnonzero(action >= 0)
        row = good[event]
        viewer = ints(lists.hash)[good]
        measure = np.zeros((len(event), len(self._actions)), dtype=np.int64)
        measure[np.arange(len(event)), action[event]] = 1
        return Columns(
            index=index[good],
            ts_ms=ts[good],
            anchor_ms=anchor[good],
            event=event,
            surface=ints(lists.surface)[row],
            cell=self._coder.cells(self._requests(lists)[row], ints(lists.item)[row]),
            names=self._coder.names,
            bucket=(viewer % self._config.limits.buckets)[event],
            measure=measure,
            actor=viewer + ((action + 1) << _HASH_BITS),
            rejected=rejected,
        )

    def _refusal(self, ts_ms: int, impression_ms: int | None) -> tuple[Reason, str]:
        if impression_ms is None:
            return Reason.UNATTRIBUTED, "no impression_ts (joining by request_id is not built yet)"
        if impression_ms > ts_ms:
            return Reason.INVALID, "impression_ts is after ts"
        return Reason.UNATTRIBUTED, f"more than {self._window} after its impression"
