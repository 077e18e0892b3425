"""Who looks and what there is to show: drawn once, before the traffic starts."""

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.simulate.scenario import UNKNOWN, Scenario, Shares, Viewers

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Drawer:
    """Draws indices in proportion to weights.

    >>> Drawer([0, 1, 0]).draw(np.random.default_rng(1), 3)
    array([1, 1, 1])
    """

    def __init__(self, weights: Iterable[float]) -> None:
        cumulative = np.cumsum(np.fromiter(weights, dtype=np.float64))
        self._cumulative: Floats = cumulative / cumulative[-1]

    def draw(self, rng: np.random.Generator, count: int) -> Ints:
        """``count`` independent indices."""
        return np.searchsorted(self._cumulative, rng.random(count), side="right").astype(np.int64)


@dataclass(frozen=True)
class Combinations:
    """All combinations of independent attributes; an index stands for one of them."""

    values: list[dict[str, str]]
    shares: Floats

    @classmethod
    def of(cls, attributes: Mapping[str, Shares]) -> "Combinations":
        """Every combination of the attributes' values with the product of their shares."""
        names = list(attributes)
        values, shares = [], []
        for choice in itertools.product(*(attributes[name].items() for name in names)):
            values.append({name: value for name, (value, _) in zip(names, choice, strict=True)})
            shares.append(math.prod(share for _, share in choice))
        return cls(values, np.array(shares) / math.fsum(shares))

    def matching(self, conditions: Mapping[str, list[str]]) -> Bools:
        """Which combinations have, for each attribute named, one of the values given."""
        hits = [all(each[name] in allowed for name, allowed in conditions.items()) for each in self.values]
        return np.array(hits, dtype=np.bool_)

    def records(self) -> list[dict[str, str]]:
        """The combinations as records show them: an unknown attribute is absent."""
        return [{name: value for name, value in each.items() if value != UNKNOWN} for each in self.values]


@dataclass(frozen=True)
class Population:
    """The viewers. Every array has one entry per viewer, the most active first."""

    activity: Drawer
    profile: Ints
    """Index of the combination of viewer attributes."""
    variant: Ints
    favourite: Ints
    """Index of the combination of item attributes that the viewer likes best."""
    engagement: Floats
    """The viewer's own factor on all engagement rates; 1 on average."""


def draw_population(
    scenario: Scenario, profiles: Combinations, items: Combinations, rng: np.random.Generator
) -> Population:
    """The viewers of a scenario."""
    viewers = scenario.viewers
    size = viewers.population
    ranks = np.arange(1, size + 1, dtype=np.float64)
    return Population(
        activity=Drawer(ranks**-viewers.activity_skew),
        profile=Drawer(profiles.shares).draw(rng, size),
        variant=Drawer(scenario.variants.values() or [1.0]).draw(rng, size),
        favourite=Drawer(items.shares).draw(rng, size),
        engagement=_engagement(viewers, rng),
    )


def _engagement(viewers: Viewers, rng: np.random.Generator) -> Floats:
    sigma = viewers.rate_sigma
    return np.exp(sigma * rng.standard_normal(viewers.population) - sigma**2 / 2)
