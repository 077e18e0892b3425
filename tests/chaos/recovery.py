"""`make bench-recovery`: how long a role takes from kill -9 to caught up, and whether memory stays flat."""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from tests.chaos.fleet import Fleet
from tests.chaos.gauge import ROLES, Gauge
from tests.conftest import Spawn
from tests.support.kafka import ApacheKafka, missing_kafka
from tests.support.pipeline import Pipeline
from tests.support.processes import Child
from tests.support.wait import wait_for

REPORT = Path(__file__).parents[2] / ".build" / "chaos" / "recovery.json"
SOLO = tuple((role, 1) for role in ROLES)
POINTS = ((500.0, "10s"), (5_000.0, "10s"), (20_000.0, "10s"), (5_000.0, "2s"), (5_000.0, "60s"))
"""Impressions (items shown) a second, and the length of a pane."""
FULL_LOAD = 20_000.0
HISTORY_MS = 7 * 60_000
"""Traffic of the same rate before the long run, so that every window is full when it begins."""
MINUTE_S = 60.0
WAIT_S = 300.0
PAGE_KB = 1024

_TONES = {"1": 0.38, "2": 0.30, "3": 0.20, "4": 0.12}


class Point(Struct, frozen=True):
    """From kill -9 to caught up, in seconds, at a rate of impressions a second and a length of panes."""

    rate: float
    pane: str
    aggregate: float
    monitor: float
    notify: float


class Memory(Struct, frozen=True):
    """Resident sizes of a role in MB, one after each minute."""

    role: str
    sizes: list[float]

    @property
    def growth(self) -> float:
        """From the first to the last, as a fraction of the first."""
        return self.sizes[-1] / self.sizes[0] - 1


class Account(Struct, frozen=True):
    """What the bench found."""

    points: list[Point]
    rate: float
    seconds: float
    memory: list[Memory]


def sections(pane: str) -> dict[str, Any]:
    """The configuration of one point: the shipped scenario, two windows, rules on each surface."""
    rule = {"dimension": "item.skin_tone", "window": "5m", "for": "1m", "clear_for": "1m"}
    shares = {"metric": "exposure_share", "compare": "reference", "reference": {"targets": _TONES}}
    rates = {"metric": "engagement_rate", "action": "save"}
    return {
        "surfaces": ["home", "search", "related", "ads"],
        "attributes": {"viewer": {"gender": {}, "age": {}}, "item": {"skin_tone": {}, "hair_pattern": {}}},
        "kafka": {"partitions": 4, "internal_partitions": 4, "session_timeout": "6s"},
        "time": {"pane": pane, "allowed_lateness": "10s", "idle_timeout": "30s"},
        "windows": [{"length": "5m", "slide": "1m"}],
        "engagement": {"actions": ["click", "save"], "attribution_window": "2m", "pane": "1m"},
        "flush_interval": "1s",
        "rules": [{"name": "exposure", **rule, **shares}, {"name": "saves", **rule, **rates}],
    }


class Bench:
    """A broker for all points; each has topics, processes and simulated live traffic of its own."""

    def __init__(self, broker: ApacheKafka, spawn: Spawn, directory: Path) -> None:
        self._broker = broker
        self._spawn = spawn
        self._directory = directory
        self._clock = threading.Event()  # never set: its wait passes the time

    def recovery(self, rate: float, pane: str, warm_up_s: float) -> Point:
        """Kill each role once while the traffic goes on."""
        pipeline = self._pipeline(f"{rate:g}-{pane}", pane)
        fleet, traffic = self._begin(pipeline, rate)
        gauge = Gauge(pipeline.config)
        self._pass(warm_up_s, traffic)
        for role in ROLES:
            self._wait_caught_up(gauge, fleet, traffic)
            seat = fleet.of(role)[0]
            assert seat.child is not None, f"{role} is not running"
            gauge.struck(role)
            seat.child.kill()
            seat.start()
            wait_for(
                lambda role=role: any(r.struck == role for r in _looked(gauge, fleet)),  # type: ignore[misc]
                WAIT_S,
                f"{role} to catch up",
                watch=[traffic],
            )
        gauge.close()
        self._end(fleet, traffic)
        seconds = {found.struck: round(found.seconds, 1) for found in gauge.recoveries}
        return Point(rate, pane, seconds["aggregate"], seconds["monitor"], seconds["notify"])

    def memory(self, rate: float, seconds: float) -> list[Memory]:
        """Resident sizes minute by minute, with full windows from the first."""
        pipeline = self._pipeline("memory", "10s")
        began = datetime.fromtimestamp(time.time() - HISTORY_MS / 1000, UTC).isoformat()
        history = ["--rate", str(rate), "--duration", f"{HISTORY_MS}ms", "--start", began]
        past = self._spawn(pipeline.command("simulate", *history), name="history")
        assert past.wait(WAIT_S) == 0, past.describe()
        fleet, traffic = self._begin(pipeline, rate)
        sizes: dict[str, list[float]] = {role: [] for role in ROLES}
        for minute in range(max(2, round(seconds / MINUTE_S))):
            self._pass(MINUTE_S, traffic)
            for role in ROLES:
                sizes[role].append(_resident_mb(fleet.of(role)[0].child))
            print(
                f"minute {minute + 1}: {', '.join(f'{r} {mb[-1]} MB' for r, mb in sizes.items())}", flush=True
            )
        assert not fleet.exits, f"processes ended: {fleet.exits}\n{fleet.describe()}"
        self._end(fleet, traffic)
        return [Memory(role, sizes[role]) for role in ROLES]

    def _pipeline(self, name: str, pane: str) -> Pipeline:
        return Pipeline(self._broker.bootstrap, name, self._directory, self._spawn, **sections(pane))

    def _begin(self, pipeline: Pipeline, rate: float) -> tuple[Fleet, Child]:
        fleet = Fleet(pipeline, self._spawn, SOLO)
        fleet.start()
        wait_for(
            lambda: all(seat.ready() for seat in fleet.seats.values()), WAIT_S, "the roles", interval_s=0.2
        )
        command = pipeline.command("simulate", "--live", "--rate", str(rate), "--duration", "6h")
        return fleet, self._spawn(command, name=f"simulate-{rate:g}")

    def _end(self, fleet: Fleet, traffic: Child) -> None:
        traffic.kill()
        for seat in list(fleet.seats.values()):
            fleet.drop(seat)

    def _pass(self, seconds: float, traffic: Child) -> None:
        """Let time pass, as long as there is traffic."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            assert traffic.exit_code is None, traffic.describe()
            self._clock.wait(min(1.0, max(0.0, until_s - time.monotonic())))

    def _wait_caught_up(self, gauge: Gauge, fleet: Fleet, traffic: Child) -> None:
        wait_for(
            lambda: all(gauge.caught_up(role, fleet) for role in ROLES),
            WAIT_S,
            "the roles to keep up with the traffic",
            watch=[traffic],
            interval_s=0.25,
        )


def _looked(gauge: Gauge, fleet: Fleet) -> Sequence[Any]:
    gauge.look(fleet)
    return gauge.recoveries


def _resident_mb(child: Child | None) -> float:
    """Resident size of a process, from Linux."""
    assert child is not None, "nobody sits there"
    status = Path(f"/proc/{child.pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return round(int(line.split()[1]) / PAGE_KB, 1)


def main() -> int:
    """All points, then the long run; the exit code is 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.recovery", description=__doc__)
    parser.add_argument("part", nargs="?", choices=["all", "points", "memory"], default="all")
    parser.add_argument("--seconds", type=float, default=600.0, help="length of the run that looks at memory")
    parser.add_argument("--warm-up", type=float, default=30.0, help="seconds of traffic before the kills")
    parser.add_argument("--rate", type=float, default=FULL_LOAD, help="impressions a second of the long run")
    options = parser.parse_args()
    if missing := missing_kafka():
        print(f"bench-recovery needs Apache Kafka, but {missing}", file=sys.stderr)
        return 69
    with tempfile.TemporaryDirectory(prefix="fairstream-recovery-") as name:
        directory = Path(name)
        (directory / "kafka").mkdir()
        spawn = Spawn(directory)
        with ApacheKafka(directory / "kafka") as broker:
            bench = Bench(broker, spawn, directory)
            try:
                points = _points(bench, options.warm_up) if options.part != "memory" else []
                memory = _memory(bench, options.rate, options.seconds) if options.part != "points" else []
            finally:
                for child in reversed(spawn.children):
                    child.stop()
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    account = Account(points, options.rate, options.seconds, memory)
    REPORT.write_bytes(msgspec.json.format(msgspec.json.encode(account)) + b"\n")
    print(f"report: {REPORT}")
    return 0


def _points(bench: Bench, warm_up_s: float) -> list[Point]:
    print("impressions/s  pane   kill -9 to caught up, seconds: aggregate  monitor  notify", flush=True)
    points = []
    for rate, pane in POINTS:
        point = bench.recovery(rate, pane, warm_up_s)
        points.append(point)
        times = f"{point.aggregate:41.1f}  {point.monitor:7.1f}  {point.notify:6.1f}"
        print(f"{rate:13,.0f}  {pane:>4}  {times}", flush=True)
    return points


def _memory(bench: Bench, rate: float, seconds: float) -> list[Memory]:
    memory = bench.memory(rate, seconds)
    print(f"resident MB at {rate:,.0f} impressions/s: after the first minute, after {seconds:.0f} s")
    for found in memory:
        print(f"{found.role:>9}  {found.sizes[0]:7.1f}  {found.sizes[-1]:7.1f}  {found.growth:+.1%}")
    return memory


if __name__ == "__main__":
    sys.exit(main())
