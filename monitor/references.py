"""References: what a slice's share should be, fixed or learnt, with its own uncertainty."""

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from monitor.config import Attributes, BaselineReference
from monitor.config import Reference as ReferenceSpec
from monitor.config.crosscheck import baseline_ms

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class ReferenceShares(NamedTuple):
    """Reference of S slices as sums per bucket: (S, B) and (B,). NaN-free; 0 of 0 where unknown."""

    part: Floats
    whole: Floats

    @property
    def shares(self) -> Floats:
        """(S,) shares; NaN where there is no reference."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(self.part.sum(1) > 0, self.part.sum(1) / self.whole.sum(), np.nan))


class BaselineState(Struct):
    """A baseline that is being learnt, or was."""

    start_ms: int = -1
    end_ms: int = -1
    learnt: bool = False
    sums: dict[str, list[int]] = {}
    """Sums of the measure per slice and bucket."""
    through_ms: int = 0
    """End of the newest pane taken; older ones are not taken again."""


class Baseline:
    """Shares learnt from the closed panes of a stretch of event time."""

    def __init__(self, spec: BaselineReference, buckets: int) -> None:
        """Nothing learnt yet."""
        self._spec = spec
        self._buckets = buckets
        self.state = BaselineState()
        if spec.start is not None and spec.end is not None:
            self.state.start_ms, self.state.end_ms = baseline_ms(spec.start), baseline_ms(spec.end)

    def observe(self, slices: list[str], sums: Ints, start_ms: int, end_ms: int) -> None:
        """Take a closed pane: sums (S, B) of the measure per slice."""
        state = self.state
        if state.learnt or end_ms <= state.through_ms:
            return
        state.through_ms = end_ms
        if state.start_ms < 0 and sums.any():
            state.start_ms, state.end_ms = start_ms, start_ms + (self._spec.first or 0)
        if state.start_ms < 0:
            return
        if state.start_ms <= start_ms and end_ms <= state.end_ms:
            for slice_, row in zip(slices, sums, strict=True):
                held = np.array(state.sums.get(slice_, [0] * self._buckets), dtype=np.int64)
                state.sums[slice_] = (held + row).tolist()
        state.learnt = end_ms >= state.end_ms

    def names(self) -> list[str]:
        """Slices that the baseline knows."""
        return list(self.state.sums)

    def of(self, slices: list[str]) -> ReferenceShares | None:
        """The learnt shares of the slices, or None while learning."""
        if not self.state.learnt:
            return None
        none = [0] * self._buckets
        part = np.array([self.state.sums.get(s, none) for s in slices], dtype=np.float64)
        whole = np.array(list(self.state.sums.values()) or [none], dtype=np.float64).sum(axis=0)
        return ReferenceShares(part.reshape(len(slices), self._buckets), whole)

    def dump(self) -> bytes:
        """State as bytes."""
        return msgspec.msgpack.encode(self.state)

    def restore(self, data: bytes) -> None:
        """Inverse of :meth:`dump`."""
        if data:
            self.state = msgspec.msgpack.decode(data, type=BaselineState)


class Fixed:
    """Shares given by the configuration: targets, or equal ones."""

    def __init__(self, names: list[str], share_of: Callable[[str, int], float], buckets: int) -> None:
        """``share_of(slice, number of slices)`` is the share; ``names`` are always slices."""
        self._names = names
        self._share_of = share_of
        self._buckets = buckets

    def observe(self, slices: list[str], sums: Ints, start_ms: int, end_ms: int) -> None:
        """Nothing to learn."""

    def names(self) -> list[str]:
        """Slices that the reference names."""
        return self._names

    def of(self, slices: list[str]) -> ReferenceShares | None:
        """The shares of the slices."""
        shares = np.array([self._share_of(slice_, len(slices)) for slice_ in slices], dtype=np.float64)
        part = np.repeat(shares[:, None] / self._buckets, self._buckets, axis=1)
        return ReferenceShares(part, np.full(self._buckets, 1 / self._buckets))

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


Reference = Baseline | Fixed


def make_reference(
    reference: ReferenceSpec, attributes: Attributes, dimension: str, buckets: int
) -> Reference:
    """The reference of a rule."""
    if reference.baseline is not None:
        return Baseline(reference.baseline, buckets)
    targets = reference.targets
    if targets is not None:
        return Fixed(list(targets), lambda slice_, _: targets.get(slice_, 0.0), buckets)
    declared = declared_slices(attributes, dimension)
    if declared:
        equal = 1 / len(declared)
        return Fixed(declared, lambda slice_, _: equal if slice_ in declared else 0.0, buckets)
    return Fixed([], lambda _, count: 1 / count, buckets)
