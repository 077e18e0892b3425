"""The account of what was written."""

from dataclasses import dataclass, field

import numpy as np
from msgspec import Struct

from monitor.config import format_duration
from streams.simulate.population import Ints
from streams.simulate.scenario import Scenario
from streams.simulate.traffic import Block


class Counts(Struct, frozen=True, kw_only=True):
    """What was written."""

    requests: int
    impressions: int
    """Items shown."""
    engagements: int


class SimulateSummary(Struct, frozen=True, kw_only=True):
    """The account of one run; times are event times, ``None`` if nothing was written."""

    total: Counts
    surfaces: dict[str, Counts]
    actions: dict[str, int]
    first_ts_ms: int | None
    last_ts_ms: int | None
    seconds: float
    """How long it took on the wall."""


@dataclass
class Tally:
    """Counts what was written, per surface and action."""

    scenario: Scenario
    requests: Ints = field(init=False)
    impressions: Ints = field(init=False)
    engagements: Ints = field(init=False)
    actions: Ints = field(init=False)
    first_ts_ms: int | None = None
    last_ts_ms: int | None = None

    def __post_init__(self) -> None:
        """Start from nothing."""
        surfaces, actions = len(self.scenario.surfaces), len(self.scenario.actions)
        self.requests, self.impressions, self.engagements = np.zeros((3, surfaces), dtype=np.int64)
        self.actions = np.zeros(actions, dtype=np.int64)

    def add(self, block: Block, written: int) -> None:
        """Count the first ``written`` events of a block."""
        requests, engagements = block.requests, block.engagements
        order = block.order()[:written]
        shown = order[order < len(requests.ts_ms)]
        done = order[order >= len(requests.ts_ms)] - len(requests.ts_ms)
        surface, surfaces = requests.surface[shown], len(self.requests)
        self.requests += np.bincount(surface, minlength=surfaces)
        self.impressions += np.bincount(surface, requests.items[shown], surfaces).astype(np.int64)
        self.engagements += np.bincount(engagements.surface[done], minlength=surfaces)
        self.actions += np.bincount(engagements.action[done], minlength=len(self.actions))
        times = np.concatenate([requests.ts_ms[shown], engagements.ts_ms[done]])
        if len(times):
            self.first_ts_ms = int(times.min()) if self.first_ts_ms is None else self.first_ts_ms
            self.last_ts_ms = int(times.max())

    def summary(self, seconds: float) -> SimulateSummary:
        """The account so far."""
        columns = [self.requests.tolist(), self.impressions.tolist(), self.engagements.tolist()]
        counts = [
            Counts(requests=requests, impressions=impressions, engagements=engagements)
            for requests, impressions, engagements in zip(*columns, strict=True)
        ]
        return SimulateSummary(
            total=Counts(requests=sum(columns[0]), impressions=sum(columns[1]), engagements=sum(columns[2])),
            surfaces=dict(zip(self.scenario.surfaces, counts, strict=True)),
            actions=dict(zip(self.scenario.actions, self.actions.tolist(), strict=True)),
            first_ts_ms=self.first_ts_ms,
            last_ts_ms=self.last_ts_ms,
            seconds=round(seconds, 3),
        )


def describe(summary: SimulateSummary) -> str:
    """The account as lines for people."""
    total = summary.total
    per_second = total.impressions / summary.seconds if summary.seconds else 0
    lines = [
        f"wrote {_counts(total)} in {summary.seconds:.1f} s ({per_second:,.0f} impressions/s)",
    ]
    if summary.first_ts_ms is not None and summary.last_ts_ms is not None:
        first = np.datetime64(summary.first_ts_ms, "ms")
        span = format_duration((summary.last_ts_ms - summary.first_ts_ms) // 1000 * 1000)
        lines.append(f"event time from {first}Z over {span}")
    lines += [f"  {name}: {_counts(count)}" for name, count in summary.surfaces.items()]
    lines += [f"  {name}: {count:,}" for name, count in summary.actions.items()]
    return "".join(f"{line}\n" for line in lines)


def _counts(counts: Counts) -> str:
    shown = f"{counts.impressions:,} impressions in {counts.requests:,} requests"
    return f"{shown}, {counts.engagements:,} engagements"
