"""References: what a slice's share should be, fixed or learnt, with its own uncertainty."""

from collections.abc import Callable

import numpy as np

from monitor.baselines import Baseline, Ints, MovingBaseline, ReferenceShares
from monitor.config import Attributes
from monitor.config import Reference as ReferenceSpec


class Fixed:
    """Shares given by the configuration: targets, or equal ones."""

    def __init__(self, names: list[str], share_of: Callable[[str, int], float], buckets: int) -> None:
        """``share_of(slice, number of slices)`` is the share; ``names`` are always slices."""
        self._names = names
        self._share_of = share_of
        self._buckets = buckets
        self._latest: tuple[list[str], ReferenceShares] | None = None

    def observe(self, slices: list[str], sums: Ints, start_ms: int, end_ms: int) -> None:
        """Nothing to learn."""

    def names(self) -> list[str]:
        """Slices that the reference names."""
        return self._names

    def of(self, slices: list[str]) -> ReferenceShares | None:
        """The shares of the slices."""
        if self._latest is None or self._latest[0] != slices:
            shares = np.array([self._share_of(slice_, len(slices)) for slice_ in slices], dtype=np.float64)
            part = np.repeat(shares[:, None] / self._buckets, self._buckets, axis=1)
            whole = np.full(self._buckets, 1 / self._buckets)
            self._latest = list(slices), ReferenceShares(part, whole)
        return self._latest[1]

    def dump(self) -> bytes:
        """No state."""
        return b""

    def restore(self, data: bytes) -> None:
        """No state."""


def declared_slices(attributes: Attributes, dimension: str) -> list[str]:
    """Slices of a dimension whose attribute declares its values; empty if it does not, or is several."""
    if dimension == "variant":
        attribute = attributes.variant
    else:
        group, _, name = dimension.partition(".")
        attribute = getattr(attributes, group, {}).get(name)
    return list(attribute.values) if attribute is not None and attribute.values else []


Reference = Baseline | MovingBaseline | Fixed


def make_reference(
    reference: ReferenceSpec, attributes: Attributes, dimension: str, window_ms: int, buckets: int
) -> Reference:
    """The reference of a rule that judges windows of a length."""
    if reference.baseline is not None:
        if reference.baseline.moves:
            return MovingBaseline(reference.baseline, window_ms, buckets)
        return Baseline(reference.baseline, buckets)
    targets = reference.targets
    if targets is not None:
        return Fixed(list(targets), lambda slice_, _: targets.get(slice_, 0.0), buckets)
    declared = declared_slices(attributes, dimension)
    if declared:
        equal = 1 / len(declared)
        return Fixed(declared, lambda slice_, _: equal if slice_ in declared else 0.0, buckets)
    return Fixed([], lambda _, count: 1 / count, buckets)
