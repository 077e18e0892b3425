"""Many e-detectors side by side: their state as arrays, and what a closed pane does to it.

Each series has two sides, LOW (null: its disparity is at least the lower tolerance) and HIGH (at most the
upper one). Panes are gathered into *blocks* until the smaller group has enough impressions or an hour has
passed: a block is one bet. Blocks are gathered into *super-blocks*, long enough for a viewer's session: their
variance between buckets is what later blocks are judged by.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.detectors.betting import BETS, e_values, grow
from monitor.detectors.scores import (
    REST,
    SLICE_WEIGHT,
    Moments,
    bucket_scores,
    degrees_of_freedom,
    moments,
    spread,
    variance,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Rows = Ints | slice

LOW, HIGH = 0, 1
_AGAINST = np.array([1.0, -1.0])
"""Sign of what speaks against the null of LOW, and of HIGH."""
MINUTE_MS = 60_000
DAY_MS = 86_400_000

BLOCK_IMPRESSIONS = 150
BLOCK_MS = 60 * MINUTE_MS
RATE_SUPER_IMPRESSIONS, SHARE_SUPER_IMPRESSIONS = 360.0, 20.0
"""Of the smaller group in a super-block. Few make the variance of rates too small: their level is fitted."""
SUPER_MS = 60 * MINUTE_MS
VARIANCE_HALF_LIFE_MS = DAY_MS
RATE_HALF_LIFE_MS = 60 * MINUTE_MS
LEAST_FREEDOM = 100.0
"""Degrees of freedom that the variance needs before anything is judged: four super-blocks of many viewers."""
RESOLVE_PER_DAY = 0.1
"""False all-clears a day that a firing series may expect."""


class Limits(NamedTuple):
    """What series are held against; NaN: not on that side."""

    tolerance: Floats
    """(S, 2) of LOW and HIGH."""
    per_day: Floats
    """(S,) budget of false pages a day, of either side."""
    super_impressions: Floats
    """(S,) see :data:`RATE_SUPER_IMPRESSIONS`."""
    timeout_ms: Ints
    """(S,) a firing series that is neither proved again nor refuted for so long is let go."""


class State:
    """The arrays; series on the first axis. :meth:`grow_to` adds some. Times are in milliseconds."""

    def __init__(self, buckets: int) -> None:
        """No series."""
        none = (0,)
        self.block: Floats = np.zeros((0, 4, buckets))
        """Scores since the last block."""
        self.block_impressions: Floats = np.zeros(none)
        """Of the smaller group."""
        self.block_ms: Ints = np.zeros(none, np.int64)
        """Length of the panes in it."""
        self.block_start_ms: Ints = np.zeros(none, np.int64)
        """0: it has not begun."""
        self.gathered: Floats = np.zeros((0, 4, buckets))
        """Scores since the last super-block, and likewise:"""
        self.gathered_impressions: Floats = np.zeros(none)
        self.gathered_start_ms: Ints = np.zeros(none, np.int64)
        self.gathered_spread: Floats = np.zeros((0, 3))
        """Spreads of its blocks, summed."""
        self.variance_spread: Floats = np.zeros((0, 3))
        """Discounted sum of super-blocks' spreads …"""
        self.block_spread: Floats = np.zeros((0, 3))
        """… of what of them shows inside of blocks …"""
        self.weight: Floats = np.zeros(none)
        """… of their weights …"""
        self.doubt: Floats = np.zeros(none)
        """… and, discounted twice, of their squared variances over their degrees of freedom."""
        self.learnt_ms: Ints = np.zeros(none, np.int64)
        """When the last super-block ended."""
        self.rate: Floats = np.zeros((0, 2))
        """Events and weights of the rest, discounted."""
        self.rate_ms: Ints = np.zeros(none, np.int64)
        self.page: Floats = np.zeros((0, 2, len(BETS)))
        """M of each side's bets that something is wrong …"""
        self.resolve: Floats = np.zeros((0, 2, len(BETS)))
        """… and, while it fires, that nothing is any more."""
        self.proved_ms: Ints = np.zeros((0, 2), np.int64)
        """When the side last paged, or would have again; 0 while it is quiet."""
        self._freedom: Floats = np.zeros(none)
        """See :meth:`freedom`."""

    def __len__(self) -> int:
        """Number of series."""
        return len(self.weight)

    def grow_to(self, count: int) -> None:
        """Add series that know nothing yet."""
        if count == len(self):
            return
        for name, held in list(vars(self).items()):
            new = np.zeros((count - len(held), *held.shape[1:]), held.dtype)
            setattr(self, name, np.concatenate((held, new)))

    @classmethod
    def joined(cls, parts: Sequence["State"]) -> "State":
        """One state of all series of the parts, whose arrays become views of its: what it learns, they do."""
        whole = cls(parts[0].block.shape[2])
        for name in vars(whole):
            setattr(whole, name, np.concatenate([vars(part)[name] for part in parts]))
        begin = 0
        for part in parts:
            end = begin + len(part)
            for name, joint in vars(whole).items():
                setattr(part, name, joint[begin:end])
            begin = end
        return whole

    def is_made_of(self, parts: Sequence["State"]) -> bool:
        """Whether it was joined of these, and none of them has other arrays since."""
        return len(self) == sum(map(len, parts)) and all(part.block.base is self.block for part in parts)

    def packed(self) -> dict[str, bytes]:
        """The arrays as bytes, little-endian; without what follows from others."""
        return {name: vars(self)[name].astype(order).tobytes() for name, order in self._packed()}

    def _packed(self) -> Iterator[tuple[str, str]]:
        """Names of the arrays that are kept, and their types."""
        for name in vars(self):
            if not name.startswith("_"):
                yield name, "<i8" if name.endswith("_ms") else "<f8"

    @classmethod
    def unpacked(cls, arrays: dict[str, bytes], count: int, buckets: int) -> "State":
        """Inverse of :meth:`packed`, of ``count`` series."""
        state = cls(buckets)
        for name, order in list(state._packed()):
            shape = (count, *vars(state)[name].shape[1:])
            setattr(state, name, np.frombuffer(arrays[name], order).reshape(shape).copy())
        state._freedom = np.zeros(count)
        state.learn_freedom(slice(None))
        return state

    def forget_evidence(self) -> None:
        """Make every side quiet, and keep what was learnt of variances and rates."""
        self.page[:] = self.resolve[:] = 0.0
        self.proved_ms[:] = 0

    @property
    def freedom(self) -> Floats:
        """(S,) degrees of freedom of the discounted variance (Satterthwaite 1946); 0 before there is one.

        What counts is where the variance comes from: a slice that vanishes adds neither.
        """
        return self._freedom

    def learn_freedom(self, rows: Rows) -> None:
        """Find it anew, after these rows have another variance."""
        total, doubt = _spread_at_parity(self.variance_spread[rows]), self.doubt[rows]
        self._freedom[rows] = np.divide(total**2, doubt, out=np.zeros_like(total), where=doubt > 0)

    @property
    def firing(self) -> Flags:
        """(S, 2) which sides have paged and not been let go."""
        return np.asarray(self.proved_ms > 0)

    @property
    def warm(self) -> Flags:
        """(S,) whether enough is known to judge the next block."""
        return np.asarray((self._freedom >= LEAST_FREEDOM) & (self.rate[:, 0] > 0))


def _spread_at_parity(spreads: Floats) -> Floats:
    return variance(spreads, np.ones((len(spreads), 1)))[:, 0]


def take_pane(
    state: State, scores: Floats, impressions: Floats, start_ms: int, end_ms: int, limits: Limits
) -> None:
    """Take a closed pane: scores (S, 4, B), and the impressions (S,) of the smaller group."""
    has = scores[:, SLICE_WEIGHT].any(axis=1)
    state.block += scores
    state.block_impressions += np.where(has, impressions, 0.0)
    state.block_ms[has] += end_ms - start_ms
    state.block_start_ms[has & (state.block_start_ms == 0)] = start_ms
    begun = state.block_start_ms > 0
    full = (state.block_impressions >= BLOCK_IMPRESSIONS) | (end_ms - state.block_start_ms >= BLOCK_MS)
    closing = begun & full
    if not closing.any():
        return
    rows = _rows(closing)
    found, judged = moments(state.block[rows]), closing & state.warm
    if judged.any():
        _judge(state, _rows(judged), found.of(judged[rows]), end_ms, limits)
    _learn(state, rows, found, end_ms)
    long = end_ms - state.gathered_start_ms >= SUPER_MS
    ripe = closing & long & (state.gathered_impressions >= limits.super_impressions)
    if ripe.any():
        _learn_variance(state, _rows(ripe), end_ms)


def _rows(chosen: Flags) -> Rows:
    """The chosen series; all of them as a slice, of which numpy takes views."""
    return slice(None) if chosen.all() else np.flatnonzero(chosen)


class _Odds(NamedTuple):
    """What decides over blocks, for either side: arrays (R, 2), see :func:`e_values`."""

    against: Floats
    """What speaks against the null."""
    square: Floats
    variance: Floats
    kappa: Floats
    unit: Floats

    def e(self, sign: int = 1) -> Floats:
        """(R, 2, J); of the opposite null with ``sign`` -1."""
        return e_values(sign * self.against, self.square, self.variance, self.kappa, self.unit)


def _odds(state: State, rows: Rows, found: Moments, tolerance: Floats) -> _Odds:
    """From the blocks of the rows, and what was learnt before them."""
    rate = state.rate[rows, 0] / state.rate[rows, 1]
    low, square = bucket_scores(found, tolerance, rate)
    spreads = np.array((state.variance_spread[rows], state.block_spread[rows]))
    long_run, inside = variance(spreads, tolerance)
    kappa = np.maximum(np.divide(long_run, inside, out=np.ones_like(inside), where=inside > 0), 1.0)
    q = long_run * ((1 + np.sqrt(2 / state.freedom[rows])) / state.weight[rows])[:, None]
    unit = np.divide(tolerance * rate[:, None], q, out=np.zeros_like(q), where=q > 0)
    return _Odds(low * _AGAINST, square, found.sums[SLICE_WEIGHT, :, None] * q, kappa, unit)


def _judge(state: State, rows: Rows, found: Moments, end_ms: int, limits: Limits) -> None:
    """Bet on the blocks of the rows, and let sides page, or be quiet again."""
    tolerance = limits.tolerance[rows]
    asked, odds = np.isfinite(tolerance), _odds(state, rows, found, tolerance)
    days = state.block_ms[rows, None] / DAY_MS
    page = grow(state.page[rows], days * limits.per_day[rows, None], odds.e())
    since_ms = state.proved_ms[rows].copy()
    firing, proved = asked & (since_ms > 0), asked & (page.sum(axis=2) >= 1)
    anew = proved
    if firing.any():
        grown = grow(state.resolve[rows], days * RESOLVE_PER_DAY, odds.e(-1))
        refuted = (grown.sum(axis=2) >= 1) | (end_ms - since_ms >= limits.timeout_ms[rows, None])
        over = firing & ~proved & refuted
        anew, since_ms[over] = proved | over, 0
        grown[anew] = 0.0
        state.resolve[rows] = np.where(firing[..., None], grown, state.resolve[rows])
    page[anew] = 0.0
    since_ms[proved] = end_ms
    state.page[rows] = np.where(asked[..., None], page, state.page[rows])
    state.proved_ms[rows] = since_ms


def _learn(state: State, rows: Rows, found: Moments, end_ms: int) -> None:
    """Put the blocks of the rows into rate and super-block, and begin new ones."""
    kept = 0.5 ** ((end_ms - state.rate_ms[rows]) / RATE_HALF_LIFE_MS)
    state.rate[rows] = kept[:, None] * state.rate[rows] + found.sums[REST:].T
    state.rate_ms[rows] = end_ms
    new = state.gathered_start_ms[rows] == 0
    state.gathered_start_ms[rows] = np.where(new, state.block_start_ms[rows], state.gathered_start_ms[rows])
    state.gathered[rows] += state.block[rows]
    state.gathered_impressions[rows] += state.block_impressions[rows]
    state.gathered_spread[rows] += spread(found, state.block.shape[2])
    for name in ("block", "block_impressions", "block_ms", "block_start_ms"):
        getattr(state, name)[rows] = 0


def _learn_variance(state: State, rows: Rows, end_ms: int) -> None:
    """Put the super-blocks of the rows into the discounted variance."""
    gathered = state.gathered[rows]
    new, freedom = spread(moments(gathered), gathered.shape[2]), degrees_of_freedom(gathered)
    kept = 0.5 ** ((end_ms - state.learnt_ms[rows]) / VARIANCE_HALF_LIFE_MS)
    state.variance_spread[rows] = kept[:, None] * state.variance_spread[rows] + new
    state.block_spread[rows] = kept[:, None] * state.block_spread[rows] + state.gathered_spread[rows]
    state.weight[rows] = kept * state.weight[rows] + gathered[:, SLICE_WEIGHT].sum(axis=1)
    state.doubt[rows] = kept**2 * state.doubt[rows] + _spread_at_parity(new) ** 2 / freedom
    state.learnt_ms[rows] = end_ms
    state.learn_freedom(rows)
    for name in ("gathered", "gathered_impressions", "gathered_start_ms", "gathered_spread"):
        getattr(state, name)[rows] = 0
