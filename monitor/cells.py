"""Cells: combinations of attribute values, and the dictionaries that give them numbers."""

import zlib
from collections.abc import Sequence

from monitor.config import Attribute, Config

UNKNOWN = "unknown"
"""Value of an attribute that an event does not carry; a slice like any other."""

OTHER = "other"
"""Value, cell and surface of what is not declared or does not fit under a cap."""

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


def viewer_bucket(viewer_id: str, buckets: int) -> int:
    """The bucket a viewer always falls into: CRC-32 of the UTF-8 id, modulo ``buckets``."""
    return zlib.crc32(viewer_id.encode("utf-8", "surrogatepass")) % buckets


class ValueCoder(dict[tuple[str, ...], int]):
    """Numbers for tuples of attribute values, given out in order of appearance.

    ``coder[values]`` is always a number. ``names[number]`` are the values after cleaning:
    empty ones are ``unknown``, undeclared ones ``other``.
    """

    def __init__(self, declared: Sequence[Attribute], limit: int = 200_000) -> None:
        """One declaration for each place of the tuples; at most ``limit`` numbers at a time."""
        super().__init__()
        self._allowed = [None if a.values is None else frozenset([*a.values, UNKNOWN]) for a in declared]
        self._limit = limit
        self.names: list[tuple[str, ...]] = []

    def __missing__(self, values: tuple[str, ...]) -> int:
        """Give the values a new number."""
        number = self[values] = len(self.names)
        self.names.append(
            tuple(self._clean(value, allowed) for value, allowed in zip(values, self._allowed, strict=True))
        )
        return number

    @staticmethod
    def _clean(value: str, allowed: frozenset[str] | None) -> str:
        value = value or UNKNOWN
        return value if allowed is None or value in allowed else OTHER

    def forget_if_full(self) -> None:
        """Between batches: start again when too many different tuples have been seen."""
        if len(self.names) > self._limit:
            self.clear()
            self.names.clear()
