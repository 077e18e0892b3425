"""Many e-detectors side by side: their state as arrays, and what a closed pane does to it.

Each series has two sides, LOW (null: its disparity is at least the lower tolerance) and HIGH (at most the
upper one). Panes are gathered into *blocks* until the smaller group has enough impressions or an hour has
passed: a block is one bet. Blocks are gathered into *super-blocks*, long enough for a viewer's session: their
variance between buckets is what later blocks are judged by.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.detectors.betting import BETS, grow, log_e_values, log_total
from monitor.detectors.scores import (
    REST,
    REST_WEIGHT,
    SLICE_WEIGHT,
    bucket_scores,
    degrees_of_freedom,
    spread,
    variance,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

LOW, HIGH = 0, 1
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
    """(S, 2) budget of false pages a day."""
    super_impressions: Floats
    """(S,) see :data:`RATE_SUPER_IMPRESSIONS`."""
    timeout_ms: int
    """A firing series that is neither proved again nor refuted for so long is let go."""


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
        """log M of each side's bets that something is wrong …"""
        self.resolve: Floats = np.zeros((0, 2, len(BETS)))
        """… and, while it fires, that nothing is any more."""
        self.proved_ms: Ints = np.zeros((0, 2), np.int64)
        """When the side last paged, or would have again; 0 while it is quiet."""

    def __len__(self) -> int:
        """Number of series."""
        return len(self.weight)

    def grow_to(self, count: int) -> None:
        """Add series that know nothing yet."""
        if count == len(self):
            return
        for name, held in list(vars(self).items()):
            fill = -np.inf if name in {"page", "resolve"} else 0
            new = np.full((count - len(held), *held.shape[1:]), fill, held.dtype)
            setattr(self, name, np.concatenate((held, new)))

    def packed(self) -> dict[str, bytes]:
        """The arrays as bytes, little-endian."""
        return {name: array.astype(_order(name)).tobytes() for name, array in vars(self).items()}

    @classmethod
    def unpacked(cls, arrays: dict[str, bytes], count: int, buckets: int) -> "State":
        """Inverse of :meth:`packed`, of ``count`` series."""
        state = cls(buckets)
        for name, none in list(vars(state).items()):
            shape = (count, *none.shape[1:])
            setattr(state, name, np.frombuffer(arrays[name], _order(name)).reshape(shape).copy())
        return state

    def forget_evidence(self) -> None:
        """Make every side quiet, and keep what was learnt of variances and rates."""
        self.page[:] = self.resolve[:] = -np.inf
        self.proved_ms[:] = 0

    def freedom(self, rows: Ints) -> Floats:
        """(R,) degrees of freedom of the discounted variance (Satterthwaite 1946); 0 before there is one.

        What counts is where the variance comes from: a slice that vanishes adds neither.
        """
        total, doubt = _spread_at_parity(self.variance_spread[rows]), self.doubt[rows]
        return np.divide(total**2, doubt, out=np.zeros_like(total), where=doubt > 0)

    @property
    def firing(self) -> Flags:
        """(S, 2) which sides have paged and not been let go."""
        return np.asarray(self.proved_ms > 0)

    def warm(self, rows: Ints) -> Flags:
        """(R,) whether enough is known to judge the next block."""
        return np.asarray((self.freedom(rows) >= LEAST_FREEDOM) & (self.rate[rows, 0] > 0))


def _spread_at_parity(spreads: Floats) -> Floats:
    return variance(spreads, np.ones(len(spreads)))


def _order(name: str) -> str:
    return "<i8" if name.endswith("_ms") else "<f8"


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
    closing = np.flatnonzero(begun & full)
    if not len(closing):
        return
    judged = closing[state.warm(closing)]
    for side in (LOW, HIGH):
        asked = judged[np.isfinite(limits.tolerance[judged, side])]
        if len(asked):
            _judge(state, asked, side, end_ms, limits)
    _learn(state, closing, end_ms, limits.super_impressions[closing])


class _Odds(NamedTuple):
    """What bets on R blocks need; see :func:`log_e_values`."""

    against: Floats
    """(R, B) scores that speak against the null."""
    variance: Floats
    kappa: Floats
    unit: Floats

    def log_e(self, sign: int = 1) -> Floats:
        """(R, J); of the opposite null with ``sign`` -1."""
        return log_e_values(sign * self.against, self.variance, self.kappa, self.unit)


def _odds(state: State, rows: Ints, side: int, tolerance: Floats) -> _Odds:
    """From the blocks of the rows, and what was learnt before them."""
    rate = state.rate[rows, 0] / state.rate[rows, 1]
    against = bucket_scores(state.block[rows], tolerance, rate) * (1 if side == LOW else -1)
    long_run = variance(state.variance_spread[rows], tolerance)
    inside = variance(state.block_spread[rows], tolerance)
    kappa = np.maximum(np.divide(long_run, inside, out=np.ones_like(inside), where=inside > 0), 1.0)
    q = long_run / state.weight[rows] * (1 + np.sqrt(2 / state.freedom(rows)))
    unit = np.divide(tolerance * rate, q, out=np.zeros_like(q), where=q > 0)
    return _Odds(against, state.block[rows, SLICE_WEIGHT].sum(axis=1) * q, kappa, unit)


def _judge(state: State, rows: Ints, side: int, end_ms: int, limits: Limits) -> None:
    """Bet on the blocks of the rows, and let sides page, or be quiet again."""
    odds = _odds(state, rows, side, limits.tolerance[rows, side])
    days = state.block_ms[rows] / DAY_MS
    page = grow(state.page[rows, side], days * limits.per_day[rows, side], odds.log_e())
    proved = log_total(page) >= 0

    firing, since_ms = state.firing[rows, side], state.proved_ms[rows, side]
    back = np.full_like(page, -np.inf)
    if firing.any():
        all_clear = grow(state.resolve[rows, side], days * RESOLVE_PER_DAY, odds.log_e(-1))
        back = np.where(firing[:, None], all_clear, back)
    refuted = (log_total(back) >= 0) | (end_ms - since_ms >= limits.timeout_ms)
    over = firing & ~proved & refuted

    anew = (proved | over)[:, None]
    state.page[rows, side] = np.where(anew, -np.inf, page)
    state.resolve[rows, side] = np.where(anew, -np.inf, back)
    state.proved_ms[rows, side] = np.where(proved, end_ms, np.where(over, 0, since_ms))


def _learn(state: State, rows: Ints, end_ms: int, super_impressions: Floats) -> None:
    """Put the blocks of the rows into rate and super-block, and begin new ones."""
    block = state.block[rows]
    kept = 0.5 ** ((end_ms - state.rate_ms[rows]) / RATE_HALF_LIFE_MS)
    state.rate[rows] = kept[:, None] * state.rate[rows] + block[:, (REST, REST_WEIGHT)].sum(axis=2)
    state.rate_ms[rows] = end_ms
    new = state.gathered_start_ms[rows] == 0
    state.gathered_start_ms[rows] = np.where(new, state.block_start_ms[rows], state.gathered_start_ms[rows])
    state.gathered[rows] += block
    state.gathered_impressions[rows] += state.block_impressions[rows]
    state.gathered_spread[rows] += spread(block)
    for name in ("block", "block_impressions", "block_ms", "block_start_ms"):
        getattr(state, name)[rows] = 0
    long = end_ms - state.gathered_start_ms[rows] >= SUPER_MS
    ripe = rows[long & (state.gathered_impressions[rows] >= super_impressions)]
    if len(ripe):
        _learn_variance(state, ripe, end_ms)


def _learn_variance(state: State, rows: Ints, end_ms: int) -> None:
    """Put the super-blocks of the rows into the discounted variance."""
    gathered = state.gathered[rows]
    new, freedom = spread(gathered), degrees_of_freedom(gathered)
    kept = 0.5 ** ((end_ms - state.learnt_ms[rows]) / VARIANCE_HALF_LIFE_MS)
    state.variance_spread[rows] = kept[:, None] * state.variance_spread[rows] + new
    state.block_spread[rows] = kept[:, None] * state.block_spread[rows] + state.gathered_spread[rows]
    state.weight[rows] = kept * state.weight[rows] + gathered[:, SLICE_WEIGHT].sum(axis=1)
    state.doubt[rows] = kept**2 * state.doubt[rows] + _spread_at_parity(new) ** 2 / freedom
    state.learnt_ms[rows] = end_ms
    for name in ("gathered", "gathered_impressions", "gathered_start_ms", "gathered_spread"):
        getattr(state, name)[rows] = 0
