"""Learnt baselines: what shares were, over a stretch of the log that stays or one that moves along.

Sums are kept per slice and viewer bucket, so that a baseline's own uncertainty enters every interval.
"""

import zlib
from collections.abc import Iterable
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from monitor.config import BaselineReference
from monitor.config.baselines import baseline_ms

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Shares = dict[str, list[int]]
"""Sums of the measure per slice and bucket."""

LEARNING = "learning the baseline"
"""The reason that verdicts give until there is one."""


class ReferenceShares(NamedTuple):
    """Reference of S slices as sums per bucket: (S, B) and (B,). NaN-free; 0 of 0 where unknown."""

    part: Floats
    whole: Floats

    @property
    def shares(self) -> Floats:
        """(S,) shares; NaN where there is no reference."""
        part, whole = self.part.sum(axis=1), self.whole.sum()
        nothing = np.full_like(part, np.nan)
        return np.asarray(np.divide(part, whole, out=nothing, where=(part > 0) & (whole > 0)))


class BaselineState(Struct):
    """A baseline that is being learnt, or was."""

    start_ms: int = -1
    end_ms: int = -1
    learnt: bool = False
    sums: Shares = {}
    through_ms: int = 0
    """End of the newest pane taken; older ones are not taken again."""


class Baseline:
    """Shares learnt from the closed panes of a stretch of event time."""

    waiting = LEARNING

    def __init__(self, spec: BaselineReference, buckets: int) -> None:
        """Nothing learnt yet."""
        self._spec = spec
        self._buckets = buckets
        self._latest: tuple[list[str], ReferenceShares] | None = None
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
                _add(state.sums, slice_, row)
        state.learnt = end_ms >= state.end_ms

    def names(self) -> list[str]:
        """Slices that the baseline knows."""
        return list(self.state.sums)

    def of(self, slices: list[str], sums: Ints) -> ReferenceShares | None:
        """The learnt shares of the slices, whatever the sums, or None while learning."""
        return self.of_pane(slices, sums, 0) if self.state.learnt else None

    def of_pane(self, slices: list[str], sums: Ints, pane_ms: int) -> ReferenceShares:  # noqa: ARG002
        """The learnt shares."""
        if self._latest is None or self._latest[0] != slices:
            self._latest = list(slices), _shares(_arrays(self.state.sums), slices, self._buckets)
        return self._latest[1]

    def dump(self) -> bytes:
        """State as bytes."""
        return msgspec.msgpack.encode(self.state)

    def restore(self, data: bytes) -> None:
        """Inverse of :meth:`dump`."""
        self._latest = None
        if data:
            self.state = msgspec.msgpack.decode(data, type=BaselineState)


class MovingState(Struct):
    """What a moving baseline has not put into a bin yet, and since when it has everything."""

    since_ms: int = -1
    """All that came since then is in the bins that are kept."""
    through_ms: int = 0
    """End of the newest pane taken; older ones are not taken again."""
    bin_ms: int = 0
    """Start of the bin that is filling."""
    filling: Shares = {}


class MovingBaseline:
    """Shares of a stretch that ends before the pane, or of the same hours of past days.

    Sums are kept in *bins* of event time, aligned to the epoch. A pane is held against whole bins that lie
    before the window that it ends, so nothing is its own reference; there is none until every bin that it
    takes came after the first pane with impressions. A function of the closed panes, in their order.
    """

    waiting = LEARNING

    def __init__(self, spec: BaselineReference, window_ms: int, buckets: int) -> None:
        """``window_ms``: length of the window that is judged."""
        self.state = MovingState()
        self.bins: dict[int, dict[str, Ints]] = {}
        """The bins that are full, by their start; those without impressions are left out."""
        self._filled: list[int] = []
        self._dropped: list[int] = []
        self._spec = spec
        self._window_ms = window_ms
        self._bin_ms = int(spec.bin)
        self._buckets = buckets
        self._summed: dict[tuple[int, ...], dict[str, Ints]] = {}

    def observe(self, slices: list[str], sums: Ints, start_ms: int, end_ms: int) -> None:
        """Take a closed pane: sums (S, B) of the measure per slice."""
        state = self.state
        if end_ms <= state.through_ms:
            return
        state.through_ms = end_ms
        if state.since_ms < 0 and sums.any():
            state.since_ms = start_ms
        bin_ms = start_ms - start_ms % self._bin_ms
        if bin_ms > state.bin_ms:
            if state.filling:
                self.bins[state.bin_ms] = _arrays(state.filling)
                self._filled.append(state.bin_ms)
            state.bin_ms, state.filling = bin_ms, {}
            self._forget()
        for slice_, row in zip(slices, sums, strict=True):
            if row.any():
                _add(state.filling, slice_, row)

    def _forget(self) -> None:
        """Let go of bins that no coming pane takes."""
        oldest = min(self._stretches(self._window_ms)[0], self.state.bin_ms)
        for bin_ms in [start for start in self.bins if start < oldest]:
            del self.bins[bin_ms]
            self._dropped.append(bin_ms)
        if self.state.since_ms >= 0:
            self.state.since_ms = max(self.state.since_ms, oldest)

    def _stretches(self, length_ms: int) -> tuple[int, ...]:
        """Starts of the bins that the time until the end of the newest pane is held against, ascending."""
        spec, bin_ms, end_ms = self._spec, self._bin_ms, self.state.through_ms
        if spec.sliding is not None:
            end = (end_ms - int(spec.lag)) // bin_ms * bin_ms
            return tuple(range(end - int(spec.sliding), end, bin_ms))
        first = (end_ms - length_ms) // bin_ms * bin_ms
        now = range(first, end_ms, bin_ms)
        every = int(spec.every or 0)
        return tuple(start - back * every for back in range(spec.periods, 0, -1) for start in now)

    def _reference(self, length_ms: int) -> dict[str, Ints] | None:
        """Sums that a time is held against; None while they are not complete."""
        wanted = self._stretches(length_ms)
        if not 0 <= self.state.since_ms <= wanted[0]:
            return None
        if wanted not in self._summed:
            if len(self._summed) > 1:  # those of a pane and of its window are asked for in turns
                self._summed.clear()
            summed: dict[str, Ints] = {}
            for bin_ms in wanted:
                for slice_, row in self.bins.get(bin_ms, {}).items():
                    summed[slice_] = summed.get(slice_, 0) + row
            self._summed[wanted] = summed
        return self._summed[wanted]

    def names(self) -> list[str]:
        """Slices that the baseline knows just now."""
        return list(self._reference(self._window_ms) or {})

    def of(self, slices: list[str], sums: Ints) -> ReferenceShares | None:  # noqa: ARG002
        """The shares that the window of the newest pane is held against; None while they are not known."""
        before = self._reference(self._window_ms)
        return _shares(before, slices, self._buckets) if before else None

    def of_pane(self, slices: list[str], sums: Ints, pane_ms: int) -> ReferenceShares:  # noqa: ARG002
        """Those that the newest pane itself, of a length, is held against; 0 of 0 where not known."""
        return _shares(self._reference(pane_ms) or {}, slices, self._buckets)

    def dump(self) -> bytes:
        """State as bytes; the full bins are kept by themselves, see :meth:`changes`."""
        return msgspec.msgpack.encode(self.state)

    def restore(self, data: bytes) -> None:
        """Inverse of :meth:`dump`."""
        if data:
            self.state = msgspec.msgpack.decode(data, type=MovingState)

    def changes(self) -> tuple[dict[int, bytes], list[int]]:
        """Bins filled since the last call, as bytes, and those that were dropped. A bin never changes."""
        filled = {start: _packed(self.bins[start]) for start in self._filled if start in self.bins}
        dropped, self._filled, self._dropped = self._dropped, [], []
        return filled, dropped

    def take_bins(self, held: Iterable[tuple[int, bytes]]) -> None:
        """Bins as they were kept; those not before the bin that is filling will be filled again."""
        for bin_ms, data in held:
            if bin_ms < self.state.bin_ms:
                self.bins[bin_ms] = _arrays(msgspec.msgpack.decode(zlib.decompress(data), type=Shares))
        self._forget()


def _add(sums: Shares, slice_: str, row: Ints) -> None:
    held = sums.get(slice_)
    sums[slice_] = row.tolist() if held is None else (row + np.array(held, dtype=np.int64)).tolist()


def _shares(sums: dict[str, Ints], slices: list[str], buckets: int) -> ReferenceShares:
    none = np.zeros(buckets, dtype=np.int64)
    part = np.array([sums.get(slice_, none) for slice_ in slices], dtype=np.float64)
    whole = np.array([none, *sums.values()], dtype=np.float64).sum(axis=0)
    return ReferenceShares(part.reshape(len(slices), buckets), whole)


def _packed(sums: dict[str, Ints]) -> bytes:
    plain = {slice_: row.tolist() for slice_, row in sums.items()}
    return zlib.compress(msgspec.msgpack.encode(plain), level=1)


def _arrays(sums: Shares) -> dict[str, Ints]:
    return {slice_: np.array(row, dtype=np.int64) for slice_, row in sums.items()}
