"""`make bench`: how fast fairstream is on this machine, with Apache Kafka; a table and bench.json."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench import live, peer_runs, throughput
from tests.bench.bench import Bench, Figure, Size
from tests.conftest import Spawn
from tests.support.kafka import ApacheKafka, missing_kafka

SECTIONS: dict[str, Callable[[Bench], None]] = {
    "speed": throughput.speed,
    "flat": throughput.flat,
    "scale": throughput.scale,
    "latency": live.latency,
    "downstream": live.downstream,
    "peers": peer_runs.peers,
}
USUAL = ("speed", "flat", "scale", "latency", "downstream")
REPORT = Path(__file__).parents[2] / ".build" / "bench.json"
SMALL = Size(records=20_000, rounds=1, seconds=4.0)


class Account(msgspec.Struct, frozen=True):
    """What bench.json holds."""

    machine: str
    processors: int
    python: str
    records: int
    rounds: int
    seconds: float
    figures: list[Figure]


def machine() -> str:
    """The processor's name (Linux)."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def measure(bench: Bench, sections: Sequence[str]) -> None:
    """Measure some sections, and stop what they have started."""
    try:
        for section in sections:
            bench.console.rule(section) if bench.console.is_terminal else bench.say(f"--- {section}")
            SECTIONS[section](bench)
    finally:
        for child in reversed(bench.spawn.children):
            child.stop()


def account_of(bench: Bench) -> Account:
    """What has been found, and where."""
    size = bench.size
    processors, python = os.cpu_count() or 1, platform.python_version()
    return Account(machine(), processors, python, size.records, size.rounds, size.seconds, bench.figures)


def table(account: Account) -> Table:
    """The figures for people."""
    title = f"{account.machine}, {account.processors} processors, Python {account.python}"
    found = Table("section", "what", "median", "unit", "all rounds", title=title)
    for column in found.columns[2::2]:
        column.justify = "right"
    for figure in account.figures:
        spread = ""
        if figure.lowest is not None and figure.highest is not None:
            spread = f"{_number(figure.lowest)} \u2013 {_number(figure.highest)}"
        found.add_row(figure.section, figure.what, _number(figure.value), figure.unit, spread)
    return found


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    usual = Size()
    parser.add_argument("--only", default=",".join(USUAL), help=f"sections: {', '.join(SECTIONS)}")
    parser.add_argument("--records", type=int, default=usual.records)
    parser.add_argument("--rounds", type=int, default=usual.rounds)
    parser.add_argument(
        "--seconds", type=float, default=usual.seconds, help="of each stretch of live traffic"
    )
    parser.add_argument("--quick", action="store_true", help="the smallest form, to see that all works")
    parser.add_argument("--json", type=Path, default=REPORT)
    options = parser.parse_args()
    sections = options.only.split(",")
    if unknown := set(sections) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    if missing := missing_kafka():
        print(f"the benchmark needs Apache Kafka, but {missing}", file=sys.stderr)
        return 69
    size = SMALL if options.quick else Size(options.records, options.rounds, options.seconds)
    console = Console()
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="fairstream-bench-") as name:
        directory = Path(name)
        others = set(cores[1:]) or set(cores)
        os.sched_setaffinity(0, others)  # children inherit it: the broker stays off the measured core
        with ApacheKafka(directory) as broker:
            os.sched_setaffinity(0, set(cores))
            bench = Bench(broker.bootstrap, directory, Spawn(directory), size, console, cores[0], others)
            try:
                measure(bench, sections)
            finally:
                report(bench, options.json, console)
    return 0


def report(bench: Bench, file: Path, console: Console) -> None:
    """Write and show what has been found, be it all or until something failed."""
    account = account_of(bench)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(account)) + b"\n")
    console.print(table(account))
    console.print(f"{file}: {len(account.figures)} figures")


if __name__ == "__main__":
    sys.exit(main())
