"""A batch of record values parsed: what impressions and engagements share.

A value is the JSON of one event, or an Arrow stream of many (:mod:`monitor.arrow`). The record types are
made from the configuration, so that attributes nobody asked for are skipped by the parser and never
become objects.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from monitor.cells import UNKNOWN, Cell, CellCoder, other_cell, viewer_hashes
from monitor.columns import Columns, Lists, Parsed, ints
from monitor.config import Config
from monitor.rejections import WHOLE, BadStreamError, Reason, Rejected

if TYPE_CHECKING:
    from monitor.arrow_rows import Rows

Ints = NDArray[np.int64]

CHUNK_BYTES = 100_000
"""What is parsed at a time: little enough for the processor's cache, or parsing takes twice as long."""

MOST_NUMBERS = 200_000
"""Numbers of values and cells start again when there are more of them than this."""

LAST_MS = 253_402_300_799_999
MOST_POSITION = 1_000_000_000
MOST_CANDIDATES = 1_000_000
LONGEST_ID, LONGEST_NAME, LONGEST_VALUE = 512, 80, 128

Ts = Annotated[int, Meta(ge=1, le=LAST_MS)]
Id = Annotated[str, Meta(min_length=1, max_length=LONGEST_ID)]
Name = Annotated[str, Meta(min_length=1, max_length=LONGEST_NAME)]
Value = Annotated[str, Meta(max_length=LONGEST_VALUE)]
Position = Annotated[int, Meta(ge=1, le=MOST_POSITION)]
Count = Annotated[int, Meta(ge=1, le=MOST_CANDIDATES)]

_NEWLINE = ord("\n")
_NONE: Ints = np.zeros(0, dtype=np.int64)
_CONTINUATION = b"\xff\xff\xff\xff"
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the parser raises for bytes that it cannot read; the last for JSON nested too deeply."""


def values_struct(name: str, attributes: Iterable[str]) -> type[msgspec.Struct]:
    """A hashable struct of one optional text per attribute; field names do not depend on the attributes'."""
    fields = [(f"v{i}", Value, UNKNOWN) for i, _ in enumerate(attributes)]
    rename = {f"v{i}": attribute for i, attribute in enumerate(attributes)}
    return msgspec.defstruct(name, fields, rename=rename, gc=False, frozen=True)


def _is_stream(value: bytes | None) -> bool:
    """Whether a value is an Arrow stream: no text begins with such a byte."""
    return value is not None and value[:4] == _CONTINUATION


def _arrow() -> Any:
    """:mod:`monitor.arrow`, whose library takes its time to load, and is an extra.

    Raises:
        BadStreamError: the extra is not installed.
    """
    try:
        return import_module("monitor.arrow")
    except ImportError as error:
        detail = f"an Arrow stream, which needs fairstream[arrow]: {error}"
        raise BadStreamError(Reason.MALFORMED, detail) from error


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
        self._viewer, self._attrs = viewer, attrs
        self._with_variant = config.attributes.variant is not None
        self._chunk = 1  # records that make CHUNK_BYTES, by the latest ones
        self.other: Cell = other_cell(config)
        self._forget_numbers()

    def _forget_numbers(self) -> None:
        self._coder = CellCoder(self._config, self._viewer(), self._attrs())

    @abstractmethod
    def _extract(self, records: list[Any], lists: Lists) -> None:
        """Append what is wanted of some records."""

    @abstractmethod
    def _from_arrow(self, rows: "Rows") -> Parsed:
        """What is wanted of the rows of an Arrow stream."""

    @abstractmethod
    def _columns(self, parsed: Parsed, rejected: list[Rejected]) -> Columns:
        """Columns of a batch."""

    def decode(self, values: Sequence[bytes | None]) -> Columns:
        """Columns of a batch of record values, in their order."""
        if self._coder.size > MOST_NUMBERS:
            self._forget_numbers()
        pieces, lists, rejected = list[Parsed](), Lists(), list[Rejected]()
        first = 0
        while first < len(values):
            chunk = values[first : first + self._chunk]
            if _is_stream(chunk[0]):
                streams = [value for value in takewhile(_is_stream, values[first:]) if value is not None]
                pieces += [self._parsed(lists), *self._parse_streams(streams, first, rejected)]
                lists = Lists()
                first += len(streams)
                continue
            records = self._parse(chunk)
            if records is None:
                chunk = list(takewhile(lambda value: not _is_stream(value), chunk))
                records, index = self._parse_each(chunk, first, rejected)
                lists.index += index
            else:
                lists.index += range(first, first + len(chunk))
            self._extract(records, lists)
            first += len(chunk)
        return self._columns(Parsed.joined([*pieces, self._parsed(lists)]), rejected)

    def decode_each(self, batches: Sequence[Sequence[bytes | None]]) -> Iterator[Columns]:
        """Columns of several batches, decoded as one: numpy's calls cost no less for few records."""
        columns = self.decode([value for batch in batches for value in batch])
        return iter([columns]) if len(batches) == 1 else columns.parts(list(accumulate(map(len, batches))))

    # --- Arrow -------------------------------------------------------------------------

    def _parse_streams(
        self, values: Sequence[bytes], first: int, rejected: list[Rejected]
    ) -> Iterable[Parsed]:
        """The good rows of Arrow streams; bad ones, or whole streams, go to ``rejected``."""
        limit = self._config.limits.max_record_bytes
        fit = []
        for i, value in enumerate(values, first):
            if len(value) <= limit:
                fit.append(i)
            else:
                rejected.append(Rejected(i, Reason.OVERSIZED, f"{len(value)} bytes, allowed are {limit}"))
        places = np.array(fit, dtype=np.int64)

        def take(rows: "Rows") -> Parsed:
            parsed = replace(self._from_arrow(rows), index=places[rows.stream])
            refused = ((int(parsed.index[i]), detail, int(parsed.row[i])) for i, detail in rows.refused())
            rejected.extend(Rejected(i, Reason.INVALID, detail, row) for i, detail, row in refused)
            return parsed.only(rows.good)

        try:
            found, bad = _arrow().read([values[i - first] for i in fit], take)
        except BadStreamError as error:  # no stream can be read at all
            found, bad = [], [(number, error) for number in range(len(fit))]
        rejected += [Rejected(fit[number], error.reason, str(error)) for number, error in bad]
        pieces: list[Parsed] = found
        return pieces

    def _of_arrow(
        self,
        rows: "Rows",
        items: Ints,
        item: Ints,
        place: Ints,
        *,
        anchor_ms: Ints | None = None,
        candidates: tuple[Ints, Ints, Ints] | None = None,
    ) -> Parsed:
        """What both kinds of record say, and what was taken out of this one."""
        ts_ms = rows.whole("ts", 1, LAST_MS)
        rows.check_text("request_id", LONGEST_ID)
        surface = rows.coded("surface", LONGEST_NAME, required=True)
        surfaces = np.array([self._surfaces[name or ""] for name in surface.values])
        viewer = rows.coded("viewer_id", LONGEST_ID, required=True)
        hashes = ints(list(viewer_hashes([name or "" for name in viewer.values])))
        counts, candidate, count = candidates or (np.zeros(len(rows), dtype=np.int64), _NONE, _NONE)
        return Parsed(
            index=np.zeros(len(rows), dtype=np.int64),
            row=rows.row,
            ts_ms=ts_ms,
            anchor_ms=ts_ms if anchor_ms is None else anchor_ms,
            surface=surfaces[surface.codes],
            hash=hashes[viewer.codes],
            request=self._arrow_requests(rows),
            items=items,
            item=item,
            place=place,
            candidates=counts,
            candidate=candidate,
            count=count,
        )

    def _arrow_requests(self, rows: "Rows") -> Ints:
        viewers = self._coder.viewers
        viewer = self._arrow_values(rows, "viewer", self._config.attributes.viewer, self._viewer, viewers)
        if not self._with_variant:
            return self._requests(viewer)
        variants, coded = self._coder.variants, rows.coded("variant", LONGEST_VALUE)
        numbers = np.array([variants[UNKNOWN if value is None else value] for value in coded.values])
        return self._requests(viewer, numbers[coded.codes])

    def _arrow_attrs(self, rows: "Rows") -> Ints:
        items = self._coder.items
        return self._arrow_values(rows, "attrs", self._config.attributes.item, self._attrs, items)

    def _arrow_values(
        self, rows: "Rows", name: str, attributes: Iterable[str], values: Any, numbers: Mapping[Any, int]
    ) -> Ints:
        """(N,) the number of each row's values of some attributes, in the structs of a column."""
        inner = rows.within(name)
        if inner is None:
            return np.full(len(rows), numbers[values()])
        columns = [inner.coded(attribute, LONGEST_VALUE) for attribute in attributes]
        rows.blame(inner, np.arange(len(rows)))

        def number(found: tuple[str | None, ...]) -> int:
            return numbers[values(*(UNKNOWN if value is None else value for value in found))]

        return inner.numbers(columns, number)

    # --- JSON --------------------------------------------------------------------------

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

    def _parsed(self, lists: Lists) -> Parsed:
        ts_ms = ints(lists.ts_ms)
        return Parsed(
            index=ints(lists.index),
            row=np.full(len(ts_ms), WHOLE),
            ts_ms=ts_ms,
            anchor_ms=ints(lists.anchor_ms) if lists.anchor_ms else ts_ms,
            surface=ints(lists.surface),
            hash=ints(lists.hash),
            request=self._requests(ints(lists.viewer), ints(lists.variant) if self._with_variant else None),
            items=ints(lists.items),
            item=ints(lists.item),
            place=ints(lists.place),
            candidates=ints(lists.candidates) if lists.candidates else np.zeros(len(ts_ms), dtype=np.int64),
            candidate=ints(lists.candidate),
            count=ints(lists.count),
        )

    def _requests(self, viewers: Ints, variants: Ints | None = None) -> Ints:
        """(E,) numbers of requests, from those of their viewers and, if they are told apart, variants."""
        if variants is None:
            variants = np.full_like(viewers, self._coder.variants[None])
        return self._coder.requests(variants, viewers)
