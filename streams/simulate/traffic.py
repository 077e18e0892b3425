"""Simulated traffic: a seeded stream of blocks of event time, each a few arrays.

The traffic is a function of (scenario, seed, start, duration, impressions) and of nothing else. Every block
of event time has its own random generator, keyed by seed and block, and nothing depends on how much of the
stream is read at once, or on what was read before from another one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from streams.simulate.plan import Calendar, make_plan
from streams.simulate.planted import Requests, engage, rank, resolve, show
from streams.simulate.population import Combinations, Drawer, Ints, draw_population
from streams.simulate.scenario import Scenario


@dataclass(frozen=True)
class Slots:
    """The items shown; one entry per item, in the order of requests and positions."""

    row: Ints
    """Index of the request within its block."""
    position: Ints
    """Counts from 1."""
    combination: Ints
    """Index of the combination of item attributes."""
    item: Ints


@dataclass(frozen=True)
class Engagements:
    """Engagements in the order of their time; one entry per engagement."""

    ts_ms: Ints
    impression_ts_ms: Ints
    request: Ints
    """Number of the request, counted over the whole traffic."""
    viewer: Ints
    surface: Ints
    item: Ints
    action: Ints


@dataclass(frozen=True)
class Block:
    """What happens in one half-open stretch of event time."""

    start_ms: int
    end_ms: int
    requests: Requests
    slots: Slots
    candidates: Ints
    """(R, C) how many of each combination of item attributes a request could have shown; C is 0 if untold."""
    engagements: Engagements
    """Those that fall due in this block; their impressions may be of earlier ones."""

    def order(self) -> Ints:
        """Its events by time; indices count the requests first, then the engagements."""
        return np.argsort(np.concatenate([self.requests.ts_ms, self.engagements.ts_ms]), kind="stable")


class Traffic:
    """The traffic of a scenario over ``[start_ms, start_ms + duration_ms)``.

    ``rate`` is impressions (items shown) per second, on average; ``impressions``, if given, is their exact
    number instead. Engagements that would come after the end do not happen.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        seed: int,
        start_ms: int,
        duration_ms: int,
        rate: float = 0.0,
        impressions: int | None = None,
    ) -> None:
        total = round(rate * duration_ms / 1000) if impressions is None else impressions
        if total < 1 or duration_ms < 1:
            raise ValueError("simulated traffic needs at least one impression and one millisecond")
        self.scenario = scenario
        self.profiles = Combinations.of(scenario.viewers.attributes)
        self.items = Combinations.of(scenario.items.attributes)
        self.population = draw_population(scenario, self.profiles, self.items, _rng(seed, 0))
        self.planted = resolve(scenario, self.profiles, self.items, self.population, start_ms)
        self.plan = make_plan(
            scenario, rng=_rng(seed, 1), start_ms=start_ms, duration_ms=duration_ms, impressions=total
        )
        self._seed = seed
        surfaces = scenario.surfaces.values()
        self._surface = Drawer(each.share for each in surfaces)
        self._surface_items = np.array([each.items for each in surfaces], dtype=np.int64)
        self._mix = Drawer(self.items.shares)

    def blocks(self) -> Iterator[Block]:
        """All blocks in the order of their time; each call starts over."""
        requests = Calendar(self.plan, 4)
        engagements = Calendar(self.plan, 7)
        made = number = 0
        for block in range(len(self.plan.begun)):
            rng = _rng(self._seed, 2, block)
            begun = self._begin(block, made, rng)
            made += int(begun[:, 3].sum())
            requests.put(begun)
            due = requests.take(block)
            shown = Requests(np.arange(number, number + len(due)), *np.ascontiguousarray(due.T))
            number += len(due)
            slots = self._fill(shown, rng)
            candidates = self._candidates(shown, slots, _rng(self._seed, 3, block))
            engagements.put(self._react(shown, slots, rng))
            yield Block(
                *self.plan.span(block),
                shown,
                slots,
                candidates,
                Engagements(*np.ascontiguousarray(engagements.take(block).T)),
            )

    def _begin(self, block: int, made: int, rng: np.random.Generator) -> Ints:
        """Requests of the sessions that begin in a block: rows of time, viewer, surface, number of items."""
        surface, items = self._requests(int(self.plan.begun[block]) - made, self.plan.impressions - made, rng)
        count = len(surface)
        viewers = self.scenario.viewers
        sizes = rng.geometric(1 / viewers.session_requests, count)
        session = np.repeat(np.arange(count), sizes)[:count]
        first = (np.cumsum(sizes) - sizes)[session]
        viewer = self.population.activity.draw(rng, count)[session]
        begin_ms = rng.integers(*self.plan.span(block), count)[session]
        elapsed_ms = np.cumsum(rng.exponential(viewers.session_gap, count).astype(np.int64))
        elapsed_ms -= elapsed_ms[first]
        # A session that would outlast the traffic goes on where it began, so that none of it is lost.
        ts_ms = begin_ms + elapsed_ms % (self.plan.end_ms - begin_ms)
        return np.column_stack([ts_ms, viewer, surface, items])

    def _requests(self, wanted: int, allowed: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Surfaces and sizes of just enough requests for ``wanted`` items; never more than ``allowed``."""
        most = max(0, -(-wanted // int(self._surface_items.min())))
        surface = self._surface.draw(rng, most)
        items = self._surface_items[surface]
        total = np.cumsum(items)
        count = int(np.searchsorted(total, wanted)) + 1 if wanted > 0 else 0
        surface, items = surface[:count], items[:count]
        if count and total[count - 1] > allowed:
            items[-1] -= total[count - 1] - allowed
        return surface, items

    def _fill(self, requests: Requests, rng: np.random.Generator) -> Slots:
        """Choose the items of every request."""
        row = np.repeat(np.arange(len(requests.items)), requests.items)
        index = np.arange(len(row)) - np.repeat(np.cumsum(requests.items) - requests.items, requests.items)
        tasteful = rng.random(len(row)) < self.scenario.viewers.taste
        favourite = self.population.favourite[requests.viewer[row]]
        combination = np.where(tasteful, favourite, self._mix.draw(rng, len(row)))
        combination = show(self.planted, requests, row, combination, rng)
        combination = rank(self.planted, requests, row, combination, rng)
        # Consecutive numbers within a request, so that no item stands in it twice.
        per_combination = self.scenario.items.per_combination
        number = (rng.integers(per_combination, size=len(requests.items))[row] + index) % per_combination
        return Slots(row, index + 1, combination, combination * per_combination + number)

    def _candidates(self, requests: Requests, slots: Slots, rng: np.random.Generator) -> Ints:
        """(R, C) candidates of each combination: as the natural mix has them, and at least those shown."""
        count, shares = self.scenario.items.candidates, self.items.shares
        if not count:
            return np.zeros((len(requests.items), 0), dtype=np.int64)
        shown = np.zeros((len(requests.items), len(shares)), dtype=np.int64)
        np.add.at(shown, (slots.row, slots.combination), 1)
        return np.maximum(rng.multinomial(count, shares, len(requests.items)), shown)

    def _react(self, requests: Requests, slots: Slots, rng: np.random.Generator) -> Ints:
        """Engagements with the items shown: rows in the order of :class:`Engagements`."""
        attention = self.scenario.position_effect ** (slots.position - 1)
        attention *= self.population.engagement[requests.viewer][slots.row]
        rows = []
        for number, (name, action) in enumerate(self.scenario.actions.items()):
            chance = (
                action.rate * attention * engage(self.planted, requests, slots.row, slots.combination, name)
            )
            hit = np.flatnonzero(rng.random(len(chance)) < chance)
            request = slots.row[hit]
            ts_ms = requests.ts_ms[request]
            delay_ms = 1 + rng.exponential(action.delay, len(hit)).astype(np.int64)
            columns = [ts_ms + delay_ms, ts_ms, requests.number[request], requests.viewer[request]]
            columns += [requests.surface[request], slots.item[hit], np.full(len(hit), number)]
            rows.append(np.column_stack(columns))
        return np.concatenate([np.empty((0, 7), dtype=np.int64), *rows])


def _rng(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
