"""Series of one-minute panes from simulated viewers: sessions that cross panes, cycles, bursts, gaps, bots.

Two groups, the slice and the rest. Every impression is drawn, so whatever correlation viewers cause is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Counts = NDArray[np.uint16]

BUCKETS = 32
DAY = 1_440
SESSION = 12
"""Mean impressions of a session, geometric …"""
GAP_S = 25.0
"""… so many seconds apart."""
HEAVY_LEAST, LONGEST = 4, 500
"""Heavy-tailed sessions: their least length; none is longer."""
BOT_PART, BOT_SESSION, BOT_RATE, CAP = 0.003, 200, 0.5, 20
"""Bots: part of the sessions, their length, their click rate; impressions counted of a session if capped."""


class Series(NamedTuple):
    """How one series of panes comes about; without any disparity unless ``drop`` is given."""

    volume: float = 100.0
    """Impressions a minute that are counted, slice and rest together."""
    share: float = 0.1
    rate: float = 0.05
    viewer_side: bool = False
    """Whether viewers belong to the slice, rather than see it."""
    taste: float = 0.0
    """Concentration of viewers' tastes for the slice (beta); 0: all the same."""
    cycle: float = 1.0
    """1: over a day the volume varies by 70 %, the rate by 20 %, and …"""
    share_cycle: float = 1.0
    """… the share by 25 %; 0: not at all."""
    phase: float = 0.0
    """Of the day's cycle."""
    bursts: float = 0.0
    """A day: ten minutes of five times the volume."""
    gaps: float = 0.0
    """A day: half an hour without any data."""
    behind: float = 0.0
    """Part of the panes that are judged without a quarter of the viewers: corrected too late."""
    appears_day: int = 0
    heavy: bool = False
    """Session lengths have a tail of power 2."""
    bots: bool = False
    capped: bool = True
    growth: float = 0.0
    """Of volume, share and rate in a day, in logarithms."""
    drop: float = 0.0
    """Part of the slice's rate (or, with ``drops_share``, of its share) that is lost …"""
    drop_minute: int = 1 << 60
    """… from this minute on."""
    drops_share: bool = False
    scattered: bool = False
    """Buckets of impressions, not of viewers: their variance is that of independent impressions."""


class Stretch(NamedTuple):
    """Some minutes, (minutes, 2, BUCKETS) or with series in between: slice first, then rest."""

    impressions: Counts
    clicks: Counts


class _Course(NamedTuple):
    """A series' parameters at each minute, (minutes,)."""

    volume: Floats
    share: Floats
    rate: Floats
    left: Floats
    """What the slice keeps of its rate."""


def _course(chance: np.random.Generator, series: Series, first: int, count: int) -> _Course:
    minutes = np.arange(first, first + count)
    turn = 2 * np.pi * minutes / DAY
    wave, other = np.sin(turn + 2 * np.pi * series.phase), np.sin(turn + 5 * np.pi * series.phase)
    grown = np.exp(series.growth * (minutes // DAY))
    volume = series.volume * grown * (1 + 0.7 * series.cycle * wave)
    for burst in chance.integers(0, count, chance.poisson(series.bursts * count / DAY)):
        volume[burst : burst + 10] *= 5
    here = minutes >= series.appears_day * DAY
    left = np.where(minutes >= series.drop_minute, 1 - series.drop, 1.0)
    share = here * series.share * grown * (1 + 0.25 * series.share_cycle * wave)
    rate = series.rate * grown * (1 + 0.2 * series.cycle * other)
    if series.drops_share:
        return _Course(volume, share * left, rate, np.ones(count))
    return _Course(volume, share, rate, left)


class _Sessions(NamedTuple):
    """What is drawn of each session, (N,)."""

    start_s: Floats
    length: Ints
    bot: Flags
    bucket: Ints
    mood: Floats
    """Factor of the viewer's click rate, log-normal with sigma 1 and mean 1."""
    love: Floats
    """Factor of the slice's share in what the viewer sees."""


def counted(series: Series) -> float:
    """Mean impressions of a session that count: a cap leaves fewer of them, so there are more sessions.

    >>> round(counted(Series()), 2), round(counted(Series(capped=False)), 2)
    (9.89, 12.0)
    """
    k = np.arange(1, (CAP if series.capped else LONGEST) + 1)
    as_long = np.minimum((HEAVY_LEAST / k) ** 2, 1) if series.heavy else (1 - 1 / SESSION) ** (k - 1.0)
    bots = BOT_PART if series.bots else 0.0
    return float(((1 - bots) * as_long + bots * (k <= BOT_SESSION)).sum())


def _sessions(chance: np.random.Generator, series: Series, course: _Course) -> _Sessions:
    number = chance.poisson(course.volume.sum() / counted(series))
    edges = np.concatenate(([0.0], np.cumsum(course.volume) / course.volume.sum()))
    start_s = 60 * np.interp(chance.random(number), edges, np.arange(len(edges)))
    if series.heavy:
        length = np.minimum(HEAVY_LEAST * (1 + chance.pareto(2.0, number)), LONGEST).astype(np.int64)
    else:
        length = chance.geometric(1 / SESSION, number)
    bot = chance.random(number) < (BOT_PART if series.bots else 0.0)
    length = np.where(bot, BOT_SESSION, length)
    love = np.ones(number)
    if series.viewer_side:
        share = course.share[np.minimum(start_s // 60, len(course.share) - 1).astype(np.int64)]
        love = np.where(chance.random(number) < share, np.inf, 0.0)
    elif series.taste:
        a, b = series.taste * series.share, series.taste * (1 - series.share)
        love = chance.beta(a, b, number) / series.share
    love = np.where(bot, np.where(chance.random(number) < series.share, np.inf, 0.0), love)
    return _Sessions(
        start_s,
        np.minimum(length, CAP) if series.capped else length,
        bot,
        chance.integers(0, BUCKETS, number),
        np.exp(chance.standard_normal(number) - 0.5),
        love,
    )


def simulate(chance: np.random.Generator, series: Series, first: int, count: int = DAY) -> Stretch:
    """Draw the sessions that begin in ``count`` minutes from ``first`` on; what passes them is lost."""
    course = _course(chance, series, first, count)
    drawn = _sessions(chance, series, course)
    who = np.repeat(np.arange(len(drawn.length)), drawn.length)
    order = np.arange(len(who)) - np.repeat(np.cumsum(drawn.length) - drawn.length, drawn.length)
    minute = ((drawn.start_s[who] + np.where(drawn.bot[who], 1.0, GAP_S) * order) / 60).astype(np.int64)
    inside = minute < count
    who, minute = who[inside], minute[inside]

    with np.errstate(invalid="ignore"):
        likely = np.nan_to_num(course.share[minute] * drawn.love[who])
    in_slice = chance.random(len(who), dtype=np.float32) < likely
    rate = course.rate[minute] * drawn.mood[who] * np.where(in_slice, course.left[minute], 1.0)
    rate = np.where(drawn.bot[who], BOT_RATE, rate)
    clicked = chance.random(len(who), dtype=np.float32) < rate

    bucket = chance.integers(0, BUCKETS, len(who)) if series.scattered else drawn.bucket[who]
    place = (minute * 2 + ~in_slice) * BUCKETS + bucket
    kept = _kept(chance, series, count)
    shape = (count, 2, BUCKETS)
    sums = (np.bincount(x, minlength=np.prod(shape)).reshape(shape) for x in (place, place[clicked]))
    return Stretch(*((x * kept).astype(np.uint16) for x in sums))


def _kept(chance: np.random.Generator, series: Series, count: int) -> Ints:
    """Which minutes and buckets are there when they are judged: (minutes, 1, BUCKETS) of 0 and 1."""
    kept = np.ones((count, 1, BUCKETS), dtype=np.int64)
    for gap in chance.integers(0, count, chance.poisson(series.gaps * count / DAY)):
        kept[gap : gap + 30] = 0
    kept[chance.random(count) < series.behind, :, : BUCKETS // 4] = 0
    return kept


def simulate_all(seed: int, population: list[Series], minutes: int, step: int = DAY) -> Iterator[Stretch]:
    """Series side by side, (step, S, 2, BUCKETS) at a time; each has a stream of chance of its own."""
    chances = [np.random.default_rng([seed, number]) for number in range(len(population))]
    for first in range(0, minutes, step):
        count = min(step, minutes - first)
        drawn = [simulate(c, series, first, count) for c, series in zip(chances, population, strict=True)]
        yield Stretch(*(np.stack(part, axis=1) for part in zip(*drawn, strict=True)))
