"""Clustered traffic for simulations: viewers with sessions, tastes and moods, summed into viewer buckets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BUCKETS = 32
SHARES = np.array([0.5, 0.3, 0.14, 0.05, 0.01])
"""Of the slices; the last ones are thin."""
MULTIPLIERS = np.array([1.0, 0.8, 1.25, 0.6, 1.5])
"""Of the slices' engagement rates."""
SESSION = 12
"""Mean impressions of a viewer, geometric."""
CANDIDATES = 5
"""For each impression; by the viewer's own taste, as what is shown."""
RATE = 0.05
TOP, TOP_WEIGHT, LOW_WEIGHT = 0.3, 1.0, 0.4
"""Part of the impressions in the top k; exposure of one there, and of one below."""
_TASTE = 3.0
"""Concentration of the viewers' tastes (Dirichlet): small means that a viewer sees much of the same."""


class Sums(NamedTuple):
    """Sums (B, R, S) of R runs."""

    impressions: Floats
    exposure: Floats
    top_k: Floats
    events: Floats
    candidates: Floats | None = None
    """Of the item side."""


def true_rates() -> Floats:
    """(S,) engagements per impression: the mean over viewers, whose effects are log-normal."""
    moods = _mood(ndtri((np.arange(100_000) + 0.5) / 100_000))
    return np.asarray(np.minimum(RATE * MULTIPLIERS * moods[:, None], 1).mean(axis=0))


def item_side(chance: np.random.Generator, runs: int, viewers: int) -> Sums:
    """Slices of items: each viewer sees all of them, by a taste of its own."""
    tastes = np.maximum(chance.gamma(_TASTE * SHARES, size=(runs, viewers, len(SHARES))), 1e-12)
    tastes /= tastes.sum(axis=-1, keepdims=True)
    sessions = _sessions(chance, runs, viewers)
    shown = chance.multinomial(sessions, tastes)
    [apart] = chance.spawn(1)  # which draws nothing from the other
    return _summed(chance, shown, apart.multinomial(CANDIDATES * sessions, tastes))


def viewer_side(chance: np.random.Generator, runs: int, viewers: int) -> Sums:
    """Slices of viewers: each belongs to one."""
    group = chance.choice(len(SHARES), (runs, viewers), p=SHARES)
    shown = _sessions(chance, runs, viewers)[..., None] * (group[..., None] == np.arange(len(SHARES)))
    return _summed(chance, shown)


def _sessions(chance: np.random.Generator, runs: int, viewers: int) -> Ints:
    return chance.geometric(1 / SESSION, (runs, viewers))


def _mood(normal: Floats) -> Floats:
    """A viewer's effect on its rates: log-normal with sigma 1 and mean 1."""
    return np.asarray(np.exp(normal - 0.5))


def _summed(chance: np.random.Generator, shown: Ints, candidates: Ints | None = None) -> Sums:
    """Draw what happens to impressions (R, V, S) and sum viewers into buckets."""
    runs, viewers, slices = shown.shape
    mood = _mood(chance.standard_normal((runs, viewers)))
    events = chance.binomial(shown, np.minimum(RATE * mood[..., None] * MULTIPLIERS, 1))
    top = chance.binomial(shown, TOP)
    bucket = chance.integers(0, BUCKETS, (runs, viewers))
    cell = (bucket * runs + np.arange(runs)[:, None]).ravel()

    def total(amounts: Ints) -> Floats:
        columns = [
            np.bincount(cell, weights=amounts[..., s].ravel(), minlength=BUCKETS * runs)
            for s in range(slices)
        ]
        sums = np.stack(columns, axis=-1).reshape(BUCKETS, runs, slices)
        return sums.astype(np.float64)

    impressions, top_k = total(shown), total(top)
    exposure = TOP_WEIGHT * top_k + LOW_WEIGHT * (impressions - top_k)
    chosen_from = None if candidates is None else total(candidates)
    return Sums(impressions, exposure, top_k, total(events), chosen_from)
