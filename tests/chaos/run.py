"""One run of chaos from its start to its report."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos.agent import Agent
from tests.chaos.fleet import Fleet
from tests.chaos.gauge import ROLES, Gauge
from tests.chaos.oracle import Oracle
from tests.chaos.plan import GAP_S, Kind, make_plan
from tests.chaos.report import Report, spread
from tests.chaos.traffic import OVERSIZED_BYTES, Writer
from tests.conftest import Spawn
from tests.support.kafka import ApacheKafka
from tests.support.pipeline import Pipeline
from tests.support.wait import WaitFailed, wait_for

RATE = 60.0
READY_TIMEOUT_S = 120.0
SETTLE_TIMEOUT_S = 240.0
"""For everything to be read, judged and followed when the traffic has stopped."""

_TOLERANCE = {"low": 0.6, "high": 1.6, "clear_low": 0.7, "clear_high": 1.5}
_RULE: dict[str, Any] = {
    "window": "12s",
    "tolerance": _TOLERANCE,
    "min_support": 30,
    "for": "4s",
    "clear_for": "4s",
}
_TARGETS = {"targets": {"1": 0.4, "2": 0.3, "3": 0.2, "4": 0.1}}
SECTIONS: dict[str, Any] = {
    "surfaces": ["home", "inbox", "explore", "search"],
    "attributes": {"viewer": {"gender": {}}, "item": {"skin_tone": {}}},
    "kafka": {"partitions": 4, "internal_partitions": 4, "session_timeout": "3s"},
    "time": {"pane": "2s", "allowed_lateness": "3s", "idle_timeout": "5s", "correction_horizon": "4s"},
    "windows": [{"length": "12s", "slide": "2s"}],
    "engagement": {"actions": ["save"], "attribution_window": "6s", "pane": "2s"},
    "limits": {"suppress_below": 1, "min_viewers": 0, "max_record_bytes": OVERSIZED_BYTES},
    "flush_interval": "500ms",
    "candidates": True,
    "rules": [
        {
            "name": "tone-supply",
            "metric": "exposure_share",
            "dimension": "item.skin_tone",
            "compare": "reference",
            "reference": {"candidates": True},
            **_RULE,
        },
        {
            "name": "tone-exposure",
            "metric": "exposure_share",
            "dimension": "item.skin_tone",
            "compare": "reference",
            "reference": _TARGETS,
            "severity": "critical",
            **_RULE,
        },
        {
            "name": "tone-drift",
            "metric": "impression_share",
            "dimension": "item.skin_tone",
            "compare": "reference",
            "reference": _TARGETS,
            "detectors": [{"kind": "tolerance"}, {"kind": "page_hinkley"}],
            **_RULE,
        },
        {
            "name": "save-rate",
            "metric": "engagement_rate",
            "action": "save",
            "dimension": "viewer.gender",
            **_RULE,
        },
    ],
}
"""Everything in seconds, so that alerts fire and resolve several times within minutes."""


class Chaos:
    """A broker of its own, a fleet, traffic, and the agent of chaos."""

    def __init__(
        self,
        broker: ApacheKafka,
        spawn: Spawn,
        directory: Path,
        *,
        seed: int,
        kills: int,
        gap_s: float = GAP_S,
        tell: Callable[[str], None],
    ) -> None:
        """`broker` runs, and may be stopped and killed. `tell` takes lines of progress."""
        self._broker = broker
        self._seed = seed
        self._plan = make_plan(seed, kills, gap_s)
        self._tell = tell
        self._directory = spawn.directory
        self._pipeline = Pipeline(broker.bootstrap, f"chaos-{seed}", directory, spawn, **SECTIONS)
        self._fleet = Fleet(self._pipeline, spawn)
        self._gauge = Gauge(self._pipeline.config)
        self._agent = Agent(self._fleet, broker, self._gauge, tell)

    def run(self) -> Report:
        """Start, strike, settle, compare.

        Raises:
            WaitFailed: something did not come about; with the logs of the processes.
        """
        began_s = time.monotonic()
        self._fleet.start()
        self._until(self._all_ready, READY_TIMEOUT_S, "all roles to be ready")
        writer = Writer(self._pipeline.config, self._seed, RATE)
        writer.start()
        self._agent.carry_out(self._plan)
        writer.finish()
        self._tell("the traffic has stopped")
        self._until(self._all_read, SETTLE_TIMEOUT_S, "everything to be read")
        oracle = Oracle(self._pipeline)
        self._settle(oracle)
        findings = oracle.compare(writer.written)
        if findings.differences:
            oracle.keep(self._directory)
        return Report(
            seed=self._seed,
            seconds=round(time.monotonic() - began_s, 1),
            kills=sum(count for name, count in self._agent.blows.items() if name.startswith(Kind.KILL)),
            blows=dict(self._agent.blows),
            exits=dict(self._fleet.exits),
            replaced=dict(self._agent.fenced),
            compared=dict(findings.counts),
            differences=self._agent.undead + findings.differences,
            recovery=spread(self._gauge.recoveries),
        )

    def describe(self) -> str:
        """The seed, and how every process fares."""
        return f"seed {self._seed}\n{self._fleet.describe()}"

    def _settle(self, oracle: Oracle) -> None:
        """Wait for the last verdict and its alert; what does not come is a difference, not an error."""
        try:
            self._until(
                lambda: oracle.missing_verdicts() == 0, SETTLE_TIMEOUT_S, "every verdict", every_s=2.0
            )
            self._until(self._all_read, SETTLE_TIMEOUT_S, "every verdict to be followed")
        except WaitFailed as failed:
            self._tell(str(failed).splitlines()[0])

    def _all_ready(self) -> bool:
        return all(seat.ready() for seat in self._fleet.seats.values())

    def _all_read(self) -> bool:
        """Whether each role has read what is in its topics; heartbeats keep `fairness.panes` growing."""
        return all(self._gauge.caught_up(role, self._fleet) for role in ROLES)

    def _until(
        self, condition: Callable[[], bool], timeout_s: float, what: str, every_s: float = 0.5
    ) -> None:
        def turned() -> bool:
            self._fleet.tend()
            return condition()

        wait_for(turned, timeout_s, what, interval_s=every_s)
