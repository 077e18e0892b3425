"""How much traffic begins when, and what is due later."""

import math
from dataclasses import dataclass

import numpy as np

from streams.simulate.population import Floats, Ints
from streams.simulate.scenario import Diurnal, Scenario

_BLOCK_IMPRESSIONS = 200_000
_LONGEST_BLOCK_MS = 60_000
_SHORTEST_BLOCK_MS = 100
_DAY_MS = 86_400_000
_HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Plan:
    """How many impressions begin in which block of event time; whole numbers, so the total is exact."""

    start_ms: int
    duration_ms: int
    block_ms: int
    begun: Ints
    """Impressions begun by the end of each block, since the start."""

    @property
    def impressions(self) -> int:
        """All of them."""
        return int(self.begun[-1])

    @property
    def end_ms(self) -> int:
        """The first millisecond after the traffic."""
        return self.start_ms + self.duration_ms

    def span(self, block: int) -> tuple[int, int]:
        """A block's half-open stretch of event time."""
        start_ms = self.start_ms + block * self.block_ms
        return start_ms, min(start_ms + self.block_ms, self.end_ms)


def make_plan(
    scenario: Scenario, *, rng: np.random.Generator, start_ms: int, duration_ms: int, impressions: int
) -> Plan:
    """Spread exactly ``impressions`` over the time, following the day's cycle and chance."""
    peak_per_ms = impressions / duration_ms * (1 + scenario.diurnal.amplitude)
    block_ms = int(min(max(_BLOCK_IMPRESSIONS / peak_per_ms, _SHORTEST_BLOCK_MS), _LONGEST_BLOCK_MS))
    edges = np.append(np.arange(0, duration_ms, block_ms), duration_ms) + start_ms
    weight = np.diff(edges) * _intensity(scenario.diurnal, (edges[1:] + edges[:-1]) / 2)
    requests = max(1, round(impressions / mean_items(scenario)))
    begun = np.cumsum(rng.multinomial(requests, weight / weight.sum()))
    return Plan(start_ms, duration_ms, block_ms, np.rint(begun * (impressions / requests)).astype(np.int64))


def mean_items(scenario: Scenario) -> float:
    """Items of a request, on average."""
    surfaces = scenario.surfaces.values()
    return math.fsum(each.share * each.items for each in surfaces) / math.fsum(
        each.share for each in surfaces
    )


def _intensity(diurnal: Diurnal, ts_ms: Floats) -> Floats:
    phase = (ts_ms - diurnal.peak_hour * _HOUR_MS) / _DAY_MS
    return 1 + diurnal.amplitude * np.cos(2 * math.pi * phase)


class Calendar:
    """Rows of integers (the first is a time) that wait until their block of time comes."""

    def __init__(self, plan: Plan, columns: int) -> None:
        self._plan = plan
        self._none: Ints = np.empty((0, columns), dtype=np.int64)
        self._due: dict[int, list[Ints]] = {}

    def put(self, rows: Ints) -> None:
        """Keep rows for their time; those after the end of the traffic are dropped."""
        rows = rows[rows[:, 0] < self._plan.end_ms]
        block = (rows[:, 0] - self._plan.start_ms) // self._plan.block_ms
        order = np.argsort(block, kind="stable")
        found, first = np.unique(block[order], return_index=True)
        for number, part in zip(found.tolist(), np.split(rows[order], first[1:]), strict=False):
            self._due.setdefault(number, []).append(part)

    def take(self, block: int) -> Ints:
        """The rows of one block in the order of their time; they are due once."""
        rows = np.concatenate([self._none, *self._due.pop(block, [])])
        return rows[np.argsort(rows[:, 0], kind="stable")]
