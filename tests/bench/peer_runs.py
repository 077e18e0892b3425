"""Other stream processors beside aggregate: the one-window part of the same job, on the same kind of topic.

Each has an environment of its own (`make bench-peers` makes them in .build/peers) and reads as many records
as keep it busy for some seconds; what is compared is impressions per second of processor time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from tests.bench.bench import Bench, per_cpu_second, run_worker
from tests.bench.load import Load, Topic
from tests.bench.worker import Cost

SCRIPTS = Path(__file__).parent / "peers"
BUILT = Path(__file__).parents[2] / ".build" / "peers"
ONE_WINDOW = Load(windows=(("5m", "10s"),))
SHARES = {"faust": 400, "quix": 100, "bytewax": 20, "flink": 1}
"""Of the records that `fairstream` reads, one in so many: their speeds differ that much."""


def peers(bench: Bench) -> None:
    """All of them, and `fairstream` in the same rounds."""
    records = bench.size.records
    counts = {"fairstream": records} | {name: max(records // part, 100) for name, part in SHARES.items()}
    topics = {name: bench.topic(ONE_WINDOW, count) for name, count in counts.items()}
    whole = topics["fairstream"]
    cases: dict[str, Callable[[], Cost]] = {
        "fairstream": lambda: bench.cost("fairstream", whole.variant(), records)
    }
    cases |= {name: _case(bench, name, topics[name], counts[name]) for name in SHARES}
    costs = bench.rounds(cases)
    rates = {name: per_cpu_second(costs[name], counts[name]) for name in cases}
    for name, values in rates.items():
        bench.add("peers", name, values, "impressions / CPU-second")
    for name in SHARES:
        ratios = [mine / its for mine, its in zip(rates["fairstream"], rates[name], strict=True)]
        bench.add("peers", f"fairstream / {name}", ratios, "times")


def _case(bench: Bench, name: str, topic: Topic, records: int) -> Callable[[], Cost]:
    def run() -> Cost:
        directory = bench.directory / f"{name}-{uuid4().hex[:8]}"
        directory.mkdir()
        options = {
            "bootstrap": bench.bootstrap,
            "topic": topic.config.kafka.topics.impressions,
            "records": records,
            "core": bench.measured_core,
            "directory": directory,
        }
        command = [str(BUILT / name / "bin" / "python"), str(SCRIPTS / name / "peer.py")]
        environment = {"PYTHONPATH": str(SCRIPTS / "shared"), "FLINK_JARS": str(BUILT / "flink-jars")}
        return run_worker(
            [*command, *(f"--{option}={value}" for option, value in options.items())],
            cwd=directory,
            env=os.environ | environment,
        )

    return run
