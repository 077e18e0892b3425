"""The rows of Arrow streams: columns asked for one by one, and which rows break the contract."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from monitor.rejections import BadStreamError, Reason

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

_PER_MS = {"us": 1_000, "ns": 1_000_000}
_MOST_S = 1 << 50
_NOWHERE: Ints = np.zeros(0, dtype=np.int64)


class Coded(NamedTuple):
    """Texts as numbers."""

    codes: Ints
    """(N,) places in ``values``."""
    values: list[str | None]
    """The last is None, for null."""


class Rows:
    """Some structs, whose fields are asked for one by one; and which of them break the contract."""

    def __init__(self, structs: Any, path: str = "", stream: Ints = _NOWHERE, row: Ints = _NOWHERE) -> None:
        """``path``, for messages: what they are in; ``stream`` and ``row`` (N,): where outermost ones are."""
        self.good: Flags = np.ones(len(structs), dtype=np.bool_)
        """(N,) which rows keep to the contract, as far as it has been asked."""
        self.stream = stream
        self.row = row
        self._structs = structs
        self._path = path
        self._details: dict[int, str] = {}

    def __len__(self) -> int:
        """How many rows."""
        return len(self._structs)

    def refuse(self, bad: Flags, detail: str) -> None:
        """Say of some rows (N,) what is wrong with them; the first thing said counts."""
        for row in np.flatnonzero(bad & self.good).tolist():
            self._details[row] = self._path + detail
        self.good &= ~bad

    def refused(self) -> list[tuple[int, str]]:
        """The place (in N) of each bad row, and what is wrong with it."""
        return sorted(self._details.items())

    def whole(self, name: str, low: int, high: int, absent: int | None = None) -> Ints:
        """(N,) integers, or times in milliseconds; ``absent`` stands for null, if that may be."""
        column = self._column(name, _is_whole, "whole numbers", required=absent is None)
        if column is None:
            return np.full(len(self), absent)
        missing = _missing(column)
        numbers = _whole(column)
        if absent is None:
            self.refuse(missing, f"{name}: missing")
        self.refuse(~missing & ((numbers < low) | (numbers > high)), f"{name}: not from {low} to {high}")
        return numbers if absent is None else np.where(missing, absent, numbers)

    def check_text(self, name: str, longest: int) -> None:
        """A text that must be there, of 1 to ``longest`` characters."""
        column = self._column(name, _is_text, "text", required=True)
        if pa.types.is_dictionary(column.type):
            self._check_coded(name, _coded(column), longest)
        else:
            length = _numpy(pc.utf8_length(column), 0)
            self.refuse((length < 1) | (length > longest), f"{name}: not of 1 to {longest} characters")

    def coded(self, name: str, longest: int, *, required: bool = False) -> Coded:
        """(N,) a text as numbers; if it is not required, it may be null or empty."""
        column = self._column(name, _is_text, "text", required=required)
        if column is None:
            return Coded(np.zeros(len(self), dtype=np.int64), [None])
        coded = _coded(column)
        if required:
            self._check_coded(name, coded, longest)
        else:
            long = [value is not None and len(value) > longest for value in coded.values]
            self.refuse(np.array(long)[coded.codes], f"{name}: longer than {longest} characters")
        return coded

    def _check_coded(self, name: str, coded: Coded, longest: int) -> None:
        bad = [not value or len(value) > longest for value in coded.values]
        self.refuse(np.array(bad)[coded.codes], f"{name}: not of 1 to {longest} characters")

    def numeric(self, name: str) -> None:
        """A number that nobody reads."""
        self._column(name, _is_number, "numbers", required=False)

    def within(self, name: str) -> "Rows | None":
        """The structs of a column, where a missing one has null fields; None if there is no such column."""
        column = self._column(name, pa.types.is_struct, "structs", required=False)
        return None if column is None else Rows(column, f"{self._path}{name}.")

    def each(self, name: str) -> "tuple[Ints, Rows]":
        """How many structs (N,) each row's list has, at least one, and all of them one after the other."""
        counts, rows = self._lists(
            self._column(name, _is_list_of_structs, "lists of structs", required=True), name
        )
        self.refuse(counts < 1, f"{name}: missing or empty")
        return counts, rows

    def any_of(self, name: str) -> "tuple[Ints, Rows] | None":
        """The same, of lists that may be empty or missing; None if there is no such column."""
        column = self._column(name, _is_list_of_structs, "lists of structs", required=False)
        return None if column is None else self._lists(column, name)

    def _lists(self, column: Any, name: str) -> "tuple[Ints, Rows]":
        counts = _numpy(column.value_lengths(), 0)
        inner = column.flatten()
        rows = Rows(inner, f"{self._path}{name}.")
        null = np.repeat(np.arange(len(self)), counts)[_missing(inner)]
        self.refuse(np.bincount(null, minlength=len(self)) > 0, f"{name}: one is null")
        return counts, rows

    def numbers(self, columns: list[Coded], number: Callable[[tuple[str | None, ...]], int]) -> Ints:
        """(N,) the number of each row's combination of values."""
        which: Ints = np.zeros(len(self), dtype=np.int64)
        found: list[tuple[str | None, ...]] = [()]
        for codes, values in columns:
            used, which = _distinct(which * len(values) + codes, len(found) * len(values))
            found = [(*found[pair // len(values)], values[pair % len(values)]) for pair in used.tolist()]
        return np.array([number(each) for each in found], dtype=np.int64)[which]

    def blame(self, inner: "Rows", owner: Ints) -> None:
        """Refuse rows for what is wrong inside of them; ``owner`` is the row of each inner one."""
        for place, detail in inner.refused():
            self._details.setdefault(int(owner[place]), detail)
        self.good[owner[~inner.good]] = False

    def _column(self, name: str, accepts: Callable[[Any], bool], what: str, *, required: bool) -> Any:
        """A column, null where its struct is; None if it may be absent and is, or holds nothing but null."""
        kind = self._structs.type
        places = kind.get_all_field_indices(name)
        if len(places) != 1:
            if places or required:
                raise BadStreamError(Reason.INVALID, f"{self._path}{name}: {len(places)} such columns")
            return None
        found = kind.field(places[0]).type
        if pa.types.is_null(found) and not required:
            return None
        if not accepts(found):
            raise BadStreamError(Reason.INVALID, f"{self._path}{name}: expected {what}, found {found}")
        if self._structs.null_count:
            return pc.struct_field(self._structs, places)
        return self._structs.field(places[0])


def _distinct(values: Ints, size: int) -> tuple[Ints, Ints]:
    """As np.unique with the inverse, for values below a size; by a table if it is not large."""
    if size > 4 * len(values) + 1_000:
        used, which = np.unique(values, return_inverse=True)
        return used, which
    seen = np.zeros(size, dtype=np.bool_)
    seen[values] = True
    return np.flatnonzero(seen), (np.cumsum(seen) - 1)[values]


def _coded(column: Any) -> Coded:
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    codes = _numpy(column.indices, len(column.dictionary))
    return Coded(codes, [*column.dictionary.to_pylist(), None])


def _whole(column: Any) -> Ints:
    """Integers, 0 for null; times as milliseconds since the epoch."""
    if not pa.types.is_timestamp(column.type):
        plain = column if pa.types.is_signed_integer(column.type) else column.cast(pa.int64())
        return _numpy(plain, 0)
    raw = _numpy(column.cast(pa.int64()), 0)
    if column.type.unit == "s":
        raw = np.clip(raw, -_MOST_S, _MOST_S) * 1_000
    return raw // _PER_MS.get(column.type.unit, 1)


def _numpy(column: Any, absent: int) -> Ints:
    """A column of integers, with something in place of null."""
    if column.null_count:
        column = column.cast(pa.int64()).fill_null(absent)
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.int64)


def _missing(column: Any) -> Flags:
    """Which rows are null."""
    if not column.null_count:
        return np.zeros(len(column), dtype=np.bool_)
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False))


def _is_whole(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_timestamp(kind))


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_text(kind: Any) -> bool:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(plain) or pa.types.is_large_string(plain))


def _is_list_of_structs(kind: Any) -> bool:
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return bool(lists and pa.types.is_struct(kind.value_type))
