"""Planted disparities, as operations on whole blocks of traffic."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streams.simulate.population import Bools, Combinations, Drawer, Floats, Ints, Population
from streams.simulate.scenario import Disparity, Scenario, What, item_share, wanted


@dataclass(frozen=True)
class Requests:
    """Requests in the order of their time; every array has one entry per request."""

    number: Ints
    """Counts from 0 over the whole traffic."""
    ts_ms: Ints
    viewer: Ints
    surface: Ints
    items: Ints
    """How many items are shown."""


@dataclass(frozen=True)
class Planted:
    """A disparity of one scenario, resolved to indices. Time is half-open: ``[start_ms, end_ms)``."""

    what: What
    factor: float
    action: str | None
    start_ms: int
    end_ms: int | None
    viewers: Bools
    surfaces: Bools
    items: Bools
    """Which combinations of item attributes it is about."""
    share: float
    """Share of the slots that these items have by nature."""
    others: Drawer | None
    """``shown``: what replaces a slot, drawn as it stands in the natural mix."""

    def requests(self, requests: Requests) -> Bools:
        """Which requests it touches."""
        hit = (
            self.surfaces[requests.surface]
            & self.viewers[requests.viewer]
            & (requests.ts_ms >= self.start_ms)
        )
        return hit if self.end_ms is None else hit & (requests.ts_ms < self.end_ms)


def resolve(
    scenario: Scenario, profiles: Combinations, items: Combinations, population: Population, start_ms: int
) -> list[Planted]:
    """The scenario's disparities for one population and a start of the traffic."""
    return [_resolve(scenario, each, profiles, items, population, start_ms) for each in scenario.disparities]


def _resolve(
    scenario: Scenario,
    disparity: Disparity,
    profiles: Combinations,
    items: Combinations,
    population: Population,
    start_ms: int,
) -> Planted:
    who = {key: wanted(condition) for key, condition in disparity.who.items()}
    viewers = profiles.matching(_part(who, "viewer."))[population.profile]
    if "variant" in who:
        variants = np.array([name in who["variant"] for name in scenario.variants], dtype=np.bool_)
        viewers &= variants[population.variant]
    hit = items.matching(_part(who, "item."))
    others = None
    if disparity.what is What.SHOWN:
        others = Drawer(np.where(hit == (disparity.factor > 1), items.shares, 0.0))
    surfaces = [name in who.get("surface", [name]) for name in scenario.surfaces]
    return Planted(
        what=disparity.what,
        factor=disparity.factor,
        action=disparity.action,
        start_ms=start_ms + disparity.start,
        end_ms=None if disparity.end is None else start_ms + disparity.end,
        viewers=viewers,
        surfaces=np.array(surfaces, dtype=np.bool_),
        items=hit,
        share=item_share(scenario, disparity.who),
        others=others,
    )


def _part(who: dict[str, list[str]], prefix: str) -> dict[str, list[str]]:
    return {key.removeprefix(prefix): values for key, values in who.items() if key.startswith(prefix)}


def show(
    planted: Sequence[Planted], requests: Requests, row: Ints, combination: Ints, rng: np.random.Generator
) -> Ints:
    """Replace slots so that the share of the items hit becomes ``factor`` times what it is by nature.

    A factor below 1 gives away that part of their slots; one above 1 takes the slots from the others.
    """
    for each in planted:
        if each.what is not What.SHOWN or each.others is None:
            continue
        slots = each.requests(requests)[row]
        if each.factor > 1:
            chance = (each.factor - 1) * each.share / (1 - each.share)
            slots &= ~each.items[combination]
        else:
            chance = 1 - each.factor
            slots &= each.items[combination]
        slots &= rng.random(len(row)) < chance
        combination = combination.copy()
        combination[slots] = each.others.draw(rng, int(np.count_nonzero(slots)))
    return combination


def rank(
    planted: Sequence[Planted], requests: Requests, row: Ints, combination: Ints, rng: np.random.Generator
) -> Ints:
    """Reorder the items within each request hit (a Plackett-Luce draw with the factors as weights)."""
    weight = np.zeros(len(row))
    touched = np.zeros(len(requests.number), dtype=np.bool_)
    for each in planted:
        if each.what is What.RANKED:
            hit = each.requests(requests)
            touched |= hit
            weight += np.log(each.factor) * (hit[row] & each.items[combination])
    slots = np.flatnonzero(touched[row])
    score = weight[slots] + rng.gumbel(size=len(slots))
    combination = combination.copy()
    combination[slots] = combination[slots][np.lexsort((-score, row[slots]))]
    return combination


def engage(
    planted: Sequence[Planted], requests: Requests, row: Ints, combination: Ints, action: str
) -> Floats:
    """Factor on the rate of an action, per slot."""
    factor = np.ones(len(row))
    for each in planted:
        if each.what is What.ENGAGED and each.action in {None, action}:
            factor[each.requests(requests)[row] & each.items[combination]] *= each.factor
    return factor
