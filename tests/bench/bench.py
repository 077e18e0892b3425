"""What every section of `make bench` works with: a broker, measured processes, figures, progress."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from rich.console import Console

from tests.bench.load import Load, Topic
from tests.bench.worker import Cost
from tests.conftest import Spawn
from tests.support.processes import Child

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Figure(msgspec.Struct, frozen=True):
    """One line of the table."""

    section: str
    what: str
    value: float
    unit: str
    lowest: float | None = None
    """Of all rounds, where there were several; ``value`` is their median."""
    highest: float | None = None


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    records: int = 2_000_000
    rounds: int = 5
    seconds: float = 20.0
    """Of each stretch of live traffic."""


@dataclass
class Bench:
    """A broker for all sections, and the figures that they have found."""

    bootstrap: str
    directory: Path
    """For files of the run; the broker's data are in `data`."""
    spawn: Spawn
    size: Size
    console: Console
    measured_core: int
    other_cores: set[int]
    figures: list[Figure] = field(default_factory=list)

    def topic(self, load: Load, records: int = 0) -> Topic:
        """A load's topics, filled with so many requests."""
        self.say(f"writing {records:,} requests of {load.items} items" if records else "making topics")
        topic = Topic(load, self.bootstrap, self.directory)
        topic.fill(records)
        return topic

    def cost(self, work: str, file: Path, records: int) -> Cost:
        """Run a worker on the measured core.

        Raises:
            RuntimeError: it failed.
        """
        command = [sys.executable, "-m", "tests.bench.worker", work, "--config", str(file)]
        return run_worker([*command, "--records", str(records), "--core", str(self.measured_core)])

    def rounds(self, cases: Mapping[str, Callable[[], Cost]]) -> dict[str, list[Cost]]:
        """What each case costs, once in every round, so that a slow minute slows them all."""
        found: dict[str, list[Cost]] = {name: [] for name in cases}
        for number in range(self.size.rounds):
            for name, case in cases.items():
                cost = case()
                found[name].append(cost)
                self.say(f"round {number + 1} of {self.size.rounds}: {name}: {cost.cpu_s:.2f} CPU-seconds")
        return found

    @contextmanager
    def on(self, cores: set[int]) -> Iterator[None]:
        """Processes that are started here run on these cores only."""
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores)
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)

    def say(self, what: str) -> None:
        """Show how far it is."""
        self.console.print(f"[dim]{what}[/dim]", highlight=False)

    def add(self, section: str, what: str, values: Sequence[float], unit: str) -> float:
        """Keep a figure: the median of some values, which is returned."""
        spread = (min(values), max(values)) if len(values) > 1 else (None, None)
        median = statistics.median(values)
        self.figures.append(Figure(section, what, median, unit, *spread))
        return median


def run_worker(command: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Cost:
    """Run a measured process and take its account, one line of its output.

    Raises:
        RuntimeError: it failed, or gave no account.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
    accounts = [line for line in done.stdout.splitlines() if line.startswith('{"cpu_s"')]
    if len(accounts) != 1:
        raise RuntimeError(f"{' '.join(command)} gave {len(accounts)} accounts:\n{done.stdout[-4000:]}")
    return msgspec.json.decode(accounts[0], type=Cost)


def per_cpu_second(costs: Sequence[Cost], amount: int) -> list[float]:
    """How much of something was done in a second of processor time, in each round."""
    return [amount / cost.cpu_s for cost in costs]


def child_cpu_s(child: Child) -> float:
    """Processor time of a running process so far, with its threads, in seconds (Linux)."""
    text = Path(f"/proc/{child.pid}/stat").read_text(encoding="utf-8")
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND
