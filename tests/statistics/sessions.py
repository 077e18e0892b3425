"""Series of one-minute panes from simulated viewers: sessions that cross panes, cycles, bursts, gaps, bots.

Two groups, the slice and the rest. Every impression is drawn, so whatever correlation viewers cause is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.uint16]

BUCKETS = 32
MINUTES = 1_440
SESSION = 12
"""Mean impressions of a session, geometric …"""
GAP_S = 25.0
"""… so many seconds apart."""
BOT_PART, BOT_IMPRESSIONS, BOT_RATE, CAP = 0.003, 200, 0.5, 20
"""Bots: part of the sessions, their length, their click rate; impressions counted of a session when capped."""


class Series(NamedTuple):
    """How one series of panes comes about; without any disparity unless ``drop`` is given."""

    volume: float = 100.0
    """Impressions a minute, slice and rest together."""
    share: float = 0.1
    rate: float = 0.05
    viewer_side: bool = False
    """Whether viewers belong to the slice, rather than see it."""
    taste: float = 0.0
    """Concentration of viewers' tastes for the slice (beta); 0: all the same."""
    cycle: float = 1.0
    """1: over a day the volume varies by 70 %, the share by 25 %, the rate by 20 %; 0: not at all."""
    share_cycle: bool = True
    phase: float = 0.0
    """Of the day's cycle."""
    bursts: float = 0.0
    """A day: ten minutes of five times the volume."""
    gaps: float = 0.0
    """A day: stretches of half an hour without any data."""
    behind: float = 0.0
    """Part of the panes that are judged without a quarter of the viewers, who are corrected too late."""
    appears_day: int = 0
    heavy: bool = False
    """Session lengths have a tail of power 2, up to 500 impressions."""
    bots: bool = False
    capped: bool = True
    drift: float = 0.0
    """Growth of volume, share and rate in a day, in logarithms."""
    drop: float = 0.0
    """Part of the slice's rate (or, with ``drops_share``, of its share) that is lost …"""
    drop_minute: int = 1 << 60
    """… from this minute on."""
    drops_share: bool = False


class Stretch(NamedTuple):
    """Some minutes of one series, (minutes, 2, BUCKETS) each: slice first, then rest."""

    impressions: Counts
    clicks: Counts


def simulate(chance: np.random.Generator, series: Series, first: int, count: int = MINUTES) -> Stretch:
    """Draw the sessions that begin in ``count`` minutes from ``first`` on, impression by impression."""
    minutes = np.arange(first, first + count)
    day = first // MINUTES
    wave = series.cycle * np.sin(2 * np.pi * (minutes / MINUTES + series.phase))
    other_wave = series.cycle * np.sin(2 * np.pi * (minutes / MINUTES + 2.3 * series.phase))
    growth = np.exp(series.drift * day)
    volume = series.volume * growth * (1 + 0.7 * wave)
    for first in chance.integers(0, count, chance.poisson(series.bursts * count / MINUTES)):
        volume[first : first + 10] *= 5
    share = np.full(count, series.share * growth if day >= series.appears_day else 0.0)
    rate = series.rate * growth * (1 + 0.2 * other_wave)
    if series.share_cycle:
        share = share * (1 + 0.25 * wave)
    lost = np.where(minutes >= series.drop_minute, 1 - series.drop, 1.0)
    if series.drops_share:
        share = share * lost

    bots = series.bots and BOT_PART
    lengths_mean = SESSION if not series.heavy else _HEAVY_MEAN
    sessions = chance.poisson(volume.sum() / lengths_mean)
    start_s = _times(chance, volume, sessions)
    length = _lengths(chance, sessions, heavy=series.heavy)
    is_bot = chance.random(sessions) < bots
    length = np.where(is_bot, BOT_IMPRESSIONS, length)
    counted = np.minimum(length, CAP) if series.capped else length
    bucket = chance.integers(0, BUCKETS, sessions)
    mood = np.exp(chance.standard_normal(sessions) - 0.5)
    loves = _tastes(chance, series, share, start_s, sessions) if series.taste or series.viewer_side else None
    bot_side = chance.random(sessions) < series.share

    who = np.repeat(np.arange(sessions), counted)
    order = np.arange(len(who)) - np.repeat(np.cumsum(counted) - counted, counted)
    gap = np.where(is_bot, 1.0, GAP_S)
    minute = ((start_s[who] + gap[who] * order) / 60).astype(np.int64)
    inside = minute < count
    who, minute = who[inside], minute[inside]
    draw = chance.random((2, len(who)), dtype=np.float32)
    if loves is None:
        in_slice = draw[0] < share[minute]
    elif series.viewer_side:
        in_slice = loves[who] > 0.5
    else:
        in_slice = draw[0] < loves[who] * (share[minute] / np.maximum(series.share * growth, 1e-12))
    if bots:
        in_slice = np.where(is_bot[who], bot_side[who], in_slice)
    chance_of_click = rate[minute] * mood[who]
    if not series.drops_share:
        chance_of_click = np.where(in_slice, lost[minute], 1.0) * chance_of_click
    if bots:
        chance_of_click = np.where(is_bot[who], BOT_RATE, chance_of_click)
    clicked = draw[1] < chance_of_click

    place = (minute * 2 + ~in_slice) * BUCKETS + bucket[who]
    shape, size = (count, 2, BUCKETS), count * 2 * BUCKETS
    impressions = np.bincount(place, minlength=size).reshape(shape)
    clicks = np.bincount(place[clicked], minlength=size).reshape(shape)
    kept = _kept(chance, series, count)
    return Stretch(*((x * kept).astype(np.uint16) for x in (impressions, clicks)))


def _times(chance: np.random.Generator, volume: Floats, sessions: int) -> Floats:
    """Seconds at which sessions begin, as dense as the volume (minutes,); (sessions,)."""
    edges = np.concatenate(([0.0], np.cumsum(volume) / volume.sum()))
    return np.asarray(60 * np.interp(chance.random(sessions), edges, np.arange(len(edges))))


def _lengths(chance: np.random.Generator, count: int, *, heavy: bool) -> NDArray[np.int64]:
    if not heavy:
        return chance.geometric(1 / SESSION, count)
    return np.minimum(4 * (1 + chance.pareto(2.0, count)), 500).astype(np.int64)


_HEAVY_MEAN = 8.0


def _tastes(
    chance: np.random.Generator, series: Series, share: Floats, start_s: Floats, count: int
) -> Floats:
    """Each viewer's own share of the slice; of viewers' attributes 0 or 1."""
    mine = share[(start_s / 60).astype(np.int64)]
    if series.viewer_side:
        return (chance.random(count) < mine).astype(float)
    level = np.clip(series.share, 1e-9, 1)
    return chance.beta(series.taste * level, series.taste * (1 - level), count)


def _kept(chance: np.random.Generator, series: Series, count: int) -> NDArray[np.int64]:
    """Which minutes and buckets are there when they are judged: (minutes, 1, BUCKETS) of 0 and 1."""
    kept = np.ones((count, 1, BUCKETS), dtype=np.int64)
    for first in chance.integers(0, count, chance.poisson(series.gaps * count / MINUTES)):
        kept[first : first + 30] = 0
    behind = chance.random(count) < series.behind
    kept[behind, :, : BUCKETS // 4] = 0
    return kept


def simulate_all(seed: int, population: list[Series], minutes: int, step: int = MINUTES) -> Iterator[Stretch]:
    """All series side by side, (step, S, 2, BUCKETS) at a time; each has a stream of chance of its own."""
    chances = [np.random.default_rng([seed, number]) for number in range(len(population))]
    for first in range(0, minutes, step):
        count = min(step, minutes - first)
        drawn = [
            simulate(chance, each, first, count) for chance, each in zip(chances, population, strict=True)
        ]
        yield Stretch(*(np.stack(part, axis=1) for part in zip(*drawn, strict=True)))
