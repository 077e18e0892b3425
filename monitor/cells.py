"""Cells: combinations of attribute values, and the dictionaries that give them numbers."""

import zlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Protocol, TypeVar

import numpy as np
from msgspec import Struct
from msgspec.structs import astuple
from numpy.typing import NDArray

from monitor.config import Attribute, Config

Ints = NDArray[np.int64]

UNKNOWN = "unknown"
"""Value of an attribute that an event does not carry; a slice like any other."""

OTHER = "other"
"""Value, cell and surface of what is not declared or does not fit under a cap."""

NO_VALUE = ""
"""Value of every item attribute of a request cell. No item has it: an empty value is ``unknown``."""

Cell = tuple[str, ...]
"""Values in the order of :func:`cell_attributes`."""


def cell_attributes(config: Config) -> list[str]:
    """The attributes that make a cell, in order: ``variant``, ``viewer.*``, ``item.*``."""
    attributes = config.attributes
    return [
        *(["variant"] if attributes.variant else []),
        *(f"viewer.{name}" for name in attributes.viewer),
        *(f"item.{name}" for name in attributes.item),
    ]


def other_cell(config: Config) -> Cell:
    """The cell that takes what the cap on cells leaves out."""
    return (OTHER,) * len(cell_attributes(config))


def viewer_hashes(viewer_ids: Iterable[str]) -> Iterable[int]:
    """CRC-32 of the UTF-8 of each id; modulo the number of buckets it is the viewer's bucket, always.

    >>> [crc % 32 for crc in viewer_hashes(["u-1", "u-2", "u-1"])]
    [28, 6, 28]
    """
    return map(zlib.crc32, map(str.encode, viewer_ids))


class Coder(Protocol):
    """Numbers for values; ``names[number]`` are the values that a number stands for."""

    names: list[tuple[str, ...]]


Key = TypeVar("Key", bound=Hashable)


class ValueCoder(dict[Key, int]):
    """Numbers for what holds some attributes' values, given out in order of appearance.

    ``coder[key]`` is always a number. ``names[number]`` are the values after cleaning:
    empty ones are ``unknown``, undeclared ones ``other``.
    """

    def __init__(self, declared: Sequence[Attribute], values: Callable[[Key], tuple[str, ...]]) -> None:
        """One declaration for each value; ``values`` takes them out of a key."""
        super().__init__()
        self._allowed = [None if a.values is None else frozenset([*a.values, UNKNOWN]) for a in declared]
        self._values = values
        self.names: list[tuple[str, ...]] = []

    def __missing__(self, key: Key) -> int:
        """Give the key a new number."""
        number = self[key] = len(self.names)
        self.names.append(
            tuple(
                self._clean(value, allowed)
                for value, allowed in zip(self._values(key), self._allowed, strict=True)
            )
        )
        return number

    def add(self, values: tuple[str, ...]) -> int:
        """A number for values that no key has; they stay as they are."""
        self.names.append(values)
        return len(self.names) - 1

    @staticmethod
    def _clean(value: str, allowed: frozenset[str] | None) -> str:
        value = value or UNKNOWN
        return value if allowed is None or value in allowed else OTHER


MOST_PAIRS = 1 << 20
"""A table of so many pairs of numbers finds them at once; more are found in a dictionary."""


class PairCoder(dict[int, int]):
    """Numbers for pairs of numbers of two other coders; the names are theirs, joined."""

    def __init__(self, first: Coder, second: Coder, most: int = MOST_PAIRS) -> None:
        """Both keep their numbers for as long as this one lives; ``most``: the largest table."""
        super().__init__()
        self._first = first
        self._second = second
        self._most = most
        self._table: Ints = np.zeros((0, 0), dtype=np.int64)  # number of each pair that has one, or -1
        self.names: list[tuple[str, ...]] = []

    def numbers(self, first: Ints, second: Ints) -> Ints:
        """The pairs' numbers; all of shape (C,)."""
        if len(self._first.names) * len(self._second.names) > self._most:
            return self._search(first, second)
        self._widen()
        found: Ints = self._table[first, second]
        new = found < 0
        if new.any():
            self._table[first[new], second[new]] = self._search(first[new], second[new])
            found = self._table[first, second]
        return found

    def _search(self, first: Ints, second: Ints) -> Ints:
        pairs, which = np.unique((first << 32) | second, return_inverse=True)
        return np.array(list(map(self.__getitem__, pairs.tolist())), dtype=np.int64)[which]

    def _widen(self) -> None:
        """Make room in the table for every pair of the numbers that there are."""
        rows, columns = len(self._first.names), len(self._second.names)
        held = self._table
        if rows > held.shape[0] or columns > held.shape[1]:
            self._table = np.full((max(2 * rows, held.shape[0]), max(2 * columns, held.shape[1])), -1)
            self._table[: held.shape[0], : held.shape[1]] = held

    def __missing__(self, pair: int) -> int:
        """Give the pair a new number."""
        first, second = divmod(pair, 1 << 32)
        number = self[pair] = len(self.names)
        self.names.append(self._first.names[first] + self._second.names[second])
        return number


class CellCoder:
    """Numbers for cells: what is known of the request (variant, viewer) and of the item, combined."""

    def __init__(self, config: Config, no_viewer: Struct, no_attrs: Struct) -> None:
        """Knows no value yet; the two structs stand for a viewer and for attributes that are absent."""
        attributes = config.attributes
        self.variants = ValueCoder[str | None](
            [attributes.variant] if attributes.variant else [],
            lambda variant: () if variant is None else (variant,),
        )
        self.viewers = ValueCoder[Struct | None](
            [*attributes.viewer.values()], lambda values: astuple(values or no_viewer)
        )
        self.items = ValueCoder[Struct | None](
            [*attributes.item.values()], lambda values: astuple(values or no_attrs)
        )
        self.no_item = self.items.add((NO_VALUE,) * len(attributes.item)) if config.rankings else None
        """Number of what stands in place of an item in request cells; None without rankings."""
        self._requests = PairCoder(self.variants, self.viewers)
        self._cells = PairCoder(self._requests, self.items)

    @property
    def names(self) -> list[Cell]:
        """The cell of each number."""
        return self._cells.names

    def requests(self, variants: Ints, viewers: Ints) -> Ints:
        """Numbers of requests, from those of their parts; all of shape (E,)."""
        return self._requests.numbers(variants, viewers)

    def cells(self, requests: Ints, items: Ints) -> Ints:
        """Numbers of cells, from those of requests and items; all of shape (C,)."""
        return self._cells.numbers(requests, items)

    @property
    def size(self) -> int:
        """The most numbers that one of its coders has given out."""
        coders = (self.variants, self.viewers, self.items, self._requests, self._cells)
        return max(len(coder.names) for coder in coders)
