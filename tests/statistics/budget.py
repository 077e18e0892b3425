"""Does the false-alarm budget hold? Series without any disparity, under everything that real traffic does."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.stats import chi2, poisson

from monitor.detectors.bank import (
    DAY_MS,
    MINUTE_MS,
    RATE_SUPER_IMPRESSIONS,
    SHARE_SUPER_IMPRESSIONS,
    Limits,
    State,
    take_pane,
)
from monitor.detectors.scores import rate_scores, share_scores
from tests.statistics.sessions import BUCKETS, DAY, Flags, Floats, Ints, Series, Stretch, simulate_all

MONTH_DAYS = 30
CONDITIONS: dict[str, Series] = {
    "cycles": Series(),
    "bursts": Series(bursts=4),
    "missing panes": Series(gaps=3),
    "tiny slices": Series(share=-1),
    "appears on day 10": Series(appears_day=10),
    "heavy-tailed viewers": Series(heavy=True),
    "bots, capped": Series(bots=True),
    "bots, not capped": Series(bots=True, capped=False),
    "late corrections": Series(behind=0.02),
    "slow drift": Series(growth=0.02),
    "independent viewers' panes": Series(cycle=0.0),
}
"""What each kind of series does beside its daily cycle; volume, share and side are drawn. -1: drawn small."""


class Judged(NamedTuple):
    """Pages of S series under some budgets."""

    conditions: list[str]
    """(S,) of each series."""
    shares: Flags
    """(S,) whether its share was judged, else its rate."""
    expected: Floats
    """(F,) pages that each budget allows all series together."""
    pages: Ints
    """(F, S, 2) low, high."""
    series_days: float


def population(
    seed: int, each: int, conditions: dict[str, Series], *, scattered: bool = False
) -> list[Series]:
    """``each`` series of every condition; half of them of viewers, half of items."""
    chance = np.random.default_rng(seed)
    found = []
    for series in conditions.values():
        for number in range(each):
            low, high = (0.002, 0.01) if series.share < 0 else (0.03, 0.3)
            volume, share = np.exp(chance.uniform(np.log((30, low)), np.log((300, high))))
            steady = number % 2 == 0  # of these, the share too is judged
            found.append(
                series._replace(
                    volume=float(volume),
                    share=float(share),
                    phase=float(chance.random()),
                    viewer_side=number % 4 > 1,
                    taste=8.0 if steady else 0.0,
                    share_cycle=0.0 if steady else series.cycle,
                    scattered=scattered,
                )
            )
    return found


def _shares_judged(population: list[Series]) -> Ints:
    """Series whose share is the same all the time."""
    steady = [p.share_cycle == 0 and p.growth == 0 and p.appears_day == 0 for p in population]
    return np.flatnonzero(steady)


class Panes(NamedTuple):
    """Scores and impressions of a minute: of all series' rates, then of steady series' shares."""

    scores: Floats
    impressions: Floats


def pane_of(stretch: Stretch, minute: int, shares: Floats, steady: Ints) -> Panes:
    """What the detectors see; ``shares`` (S,) are the references."""
    n, y = (x[minute].astype(np.float64) for x in stretch)
    rates = rate_scores(*(x[:, None] for x in (y[:, 0], n[:, 0], y[:, 1], n[:, 1])))
    smaller = n.sum(axis=2).min(axis=1)
    part, whole, share = n[steady, 0], n[steady].sum(axis=1), shares[steady]
    expected = whole.sum(axis=1) * np.minimum(share, 1 - share)
    scores = np.concatenate((rates, share_scores(part, whole, share)))
    return Panes(scores, np.concatenate((smaller, expected)))


def judge(
    seed: int,
    series: list[Series],
    names: list[str],
    days: int,
    budgets: list[float],
    say: Callable[[str], None],
) -> Judged:
    """Simulate, with a restart now and then; each budget is of all the series together, for 30 days."""
    shares, steady = np.array([p.share for p in series]), _shares_judged(series)
    count, copies = len(series) + len(steady), len(budgets)
    state = State(BUCKETS)
    state.grow_to(count * copies)
    per_day = np.repeat(np.array(budgets) / MONTH_DAYS / count / 2, count)
    parity = np.ones((count * copies, 2))
    least = np.repeat((RATE_SUPER_IMPRESSIONS, SHARE_SUPER_IMPRESSIONS), (len(series), len(steady)))
    limits = Limits(parity, per_day, np.tile(least, copies), np.full(len(per_day), 7 * DAY_MS))
    pages = np.zeros((count * copies, 2), dtype=np.int64)
    restarts = np.random.default_rng(seed).random(days * DAY) < 0.5 / DAY
    minute = 0
    for day, stretch in enumerate(simulate_all(seed, series, days * DAY)):
        say(f"seed {seed}: day {day + 1} of {days}")
        for row in range(len(stretch.impressions)):
            before = state.firing.copy()
            scores, impressions = pane_of(stretch, row, shares, steady)
            minute += 1
            start_ms = minute * MINUTE_MS
            take_pane(
                state,
                np.tile(scores, (copies, 1, 1)),
                np.tile(impressions, copies),
                start_ms,
                start_ms + MINUTE_MS,
                limits,
            )
            pages += state.firing & ~before
            if restarts[minute - 1]:
                state = State.unpacked(state.packed(), len(state), BUCKETS)
    return Judged(
        names + [names[i] for i in steady],
        np.arange(count) >= len(series),
        np.array(budgets) * days / MONTH_DAYS,
        pages.reshape(copies, count, 2),
        float(count * days),
    )


class Row(NamedTuple):
    """One budget: what it allows, and what came."""

    pages_per_30_days: float
    series_days: float
    allowed: float
    low: int
    high: int
    lower: float
    """95 % limits of the expected number, from the pages that came (Poisson) …"""
    upper: float
    """… so the budget is broken for sure when ``lower`` is above ``allowed``."""


def rows(found: list[Judged], budgets: list[float], picked: Callable[[Judged], Flags]) -> list[Row]:
    """One for each budget, over all seeds, of the series that are picked."""
    result = []
    for b, budget in enumerate(budgets):
        chosen = [(j, picked(j)) for j in found]
        low, high = (sum(int(j.pages[b, which, side].sum()) for j, which in chosen) for side in (0, 1))
        part = [(which.mean(), j) for j, which in chosen]
        result.append(
            Row(
                budget,
                float(sum(share * j.series_days for share, j in part)),
                float(sum(share * j.expected[b] for share, j in part)),
                low,
                high,
                *poisson_limits(low + high),
            )
        )
    return result


def poisson_limits(count: int) -> tuple[float, float]:
    """Exact 95 % limits of a Poisson mean (Garwood 1936).

    >>> [round(x, 2) for x in poisson_limits(3)]
    [0.62, 8.77]
    """
    lower = chi2.ppf(0.025, 2 * count) / 2 if count else 0.0
    return float(lower), float(chi2.ppf(0.975, 2 * count + 2) / 2)


def most_pages(allowed: float) -> int:
    """More pages than this are not chance at the 99.9 % level."""
    return int(poisson.ppf(0.999, allowed))
