"""What a chaos run tells: plain lines for a person, JSON for a program."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from tests.chaos.gauge import Recovery


class Spread(Struct, frozen=True):
    """Some durations, in seconds."""

    count: int
    median: float
    longest: float


class Report(Struct, frozen=True, kw_only=True):
    """One run. Counts are of records, panes, verdicts and transitions; times are seconds."""

    seed: int
    seconds: float
    kills: int
    blows: dict[str, int]
    """By kind and role."""
    exits: dict[str, int]
    """Ends that nobody asked for, by role and exit code; each was followed by a restart."""
    replaced: dict[str, int]
    """How processes ended that were paused and replaced under their name, by role and exit code."""
    compared: dict[str, int]
    differences: list[str]
    recovery: dict[str, Spread]
    """From kill -9 to caught up, by role; of the broker: until all roles are."""

    @property
    def good(self) -> bool:
        """Whether the log and a calm run of it agree with everything that was found."""
        return not self.differences

    def lines(self) -> list[str]:
        """The report for a person."""
        return [
            f"seed {self.seed}: {self.kills} kills in {self.seconds:.0f} s",
            f"  blows: {_counts(self.blows)}",
            f"  ended by themselves and restarted: {_counts(self.exits)}",
            f"  replaced while paused: {_counts(self.replaced)}",
            f"  compared: {_counts(self.compared)}",
            *(
                f"  {whom} caught up: median {each.median} s, longest {each.longest} s, of {each.count}"
                for whom, each in sorted(self.recovery.items())
            ),
            f"  differences: {len(self.differences)}",
        ]


def spread(recoveries: Sequence[Recovery]) -> dict[str, Spread]:
    """Recovery times by whom was struck."""
    times: dict[str, list[float]] = {}
    for recovery in recoveries:
        times.setdefault(recovery.struck, []).append(recovery.seconds)
    return {
        whom: Spread(len(each), round(statistics.median(each), 2), round(max(each), 2))
        for whom, each in times.items()
    }


def _counts(counts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
