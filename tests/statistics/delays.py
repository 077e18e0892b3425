"""How long until a change is seen, held against D*, the best that any rule with the same budget can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from monitor.detectors.bank import (
    DAY_MS,
    LOW,
    MINUTE_MS,
    RATE_SUPER_IMPRESSIONS,
    SHARE_SUPER_IMPRESSIONS,
    Limits,
    State,
    take_pane,
)
from monitor.detectors.scores import variance
from monitor.planning import best_delay, information
from tests.statistics.budget import pane_of
from tests.statistics.sessions import BUCKETS, DAY, Floats, Ints, Series, Stretch, simulate_all

PER_DAY = 1 / 6_000
"""Budget of a series: one page in 30 days over 200 of them."""
SHARE, RATE, TASTE = 0.1, 0.05, 8.0
STEP = 120
"""Minutes that are drawn at once. The change comes in the middle of a step, where sessions are under way."""


class Case(NamedTuple):
    """A change: part of the slice's rate or share that is lost."""

    volume: float
    drop: float
    of_share: bool
    warm_days: int = 2
    """Days before the change: several D*, since what a detector holds in quiet times is part of its speed."""
    pane: int = 1
    """Minutes of a pane; more suit thin traffic, since few impressions in a pane lose weight."""


CASES = [
    Case(60, 0.2, of_share=False, warm_days=10),
    Case(60, 0.2, of_share=False, warm_days=10, pane=15),
    Case(600, 0.2, of_share=False),
    Case(600, 0.1, of_share=False),
    Case(6_000, 0.5, of_share=False),
    Case(6_000, 0.2, of_share=False),
    Case(6_000, 0.1, of_share=False),
    Case(6_000, 0.05, of_share=False),
    Case(600, 0.05, of_share=True),
    Case(600, 0.1, of_share=True),
    Case(600, 0.2, of_share=True),
    Case(6_000, 0.05, of_share=True),
    Case(6_000, 0.1, of_share=True),
    Case(6_000, 0.2, of_share=True),
]


class Delay(NamedTuple):
    """Minutes from a change to the page."""

    case: Case
    best: float
    """D*."""
    median: float
    p90: float
    runs: int

    @property
    def good(self) -> bool:
        """At most 1.3 D* from two hours on, 1.6 D* from half an hour on, else under 15 panes."""
        if self.best >= 120:
            return self.median <= 1.3 * self.best
        return self.median <= 1.6 * self.best if self.best >= 30 else self.median < 15


def series_of(case: Case, drop_minute: int) -> Series:
    """The series of a case. Rates are of viewers, shares of items that viewers have a taste for."""
    return Series(
        volume=case.volume,
        share=SHARE,
        rate=RATE,
        viewer_side=not case.of_share,
        taste=TASTE if case.of_share else 0.0,
        cycle=0.0,
        share_cycle=0.0,
        drop=case.drop,
        drop_minute=drop_minute,
        drops_share=case.of_share,
    )


def measure(case: Case, runs: int, seed: int, say: Callable[[str], None]) -> Delay:
    """Simulate until every run has paged, for 20 days at most."""
    changed = case.warm_days * DAY + STEP // 2
    state, shares = State(BUCKETS), np.full(runs, SHARE)
    state.grow_to(runs)
    least = SHARE_SUPER_IMPRESSIONS if case.of_share else RATE_SUPER_IMPRESSIONS
    limits = Limits(
        np.tile((1.0, np.nan), (runs, 1)),
        np.full(runs, PER_DAY),
        np.full(runs, least),
        np.full(runs, 7 * DAY_MS),
    )
    steady: Ints = np.arange(runs)
    which = slice(runs, None) if case.of_share else slice(runs)
    minute, seen, q = 0, np.full(runs, np.inf), 0.0
    for stretch in simulate_all(seed, [series_of(case, changed)] * runs, changed + 20 * DAY, STEP):
        coarse = coarser(stretch, case.pane)
        for row in range(len(coarse.impressions)):
            if minute <= changed < minute + case.pane:
                q = float(np.median(variance(state.variance_spread, np.ones((runs, 1)))[:, 0] / state.weight))
                state.proved_ms[:] = 0
            panes = pane_of(coarse, row, shares, steady)
            start_ms, minute = (minute + 1) * MINUTE_MS, minute + case.pane
            end_ms = start_ms + case.pane * MINUTE_MS
            take_pane(state, panes.scores[which], panes.impressions[which], start_ms, end_ms, limits)
            if minute > changed:
                seen = np.where(state.firing[:, LOW] & np.isinf(seen), minute - changed, seen)
        if np.isfinite(seen).all():
            break
    say(f"{case}: q {q:.4f}")
    return Delay(case, _best(case, q), *_quantiles(seen), runs)


def coarser(stretch: Stretch, pane: int) -> Stretch:
    """Sums of so many minutes."""
    return Stretch(*(x.reshape(-1, pane, *x.shape[1:]).sum(axis=1, dtype=np.uint16) for x in stretch))


def _best(case: Case, q: float) -> float:
    difference = case.drop * (SHARE if case.of_share else RATE)
    weight = case.volume * (1.0 if case.of_share else SHARE * (1 - SHARE))
    return best_delay(information(difference, weight, q), DAY / PER_DAY)


def _quantiles(minutes: Floats) -> tuple[float, float]:
    ordered = np.sort(minutes)
    return float(ordered[(len(ordered) - 1) // 2]), float(ordered[int(0.9 * (len(ordered) - 1))])
