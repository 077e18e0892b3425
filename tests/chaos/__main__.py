"""`make chaos`: kill, stop, pause and replace processes of a running pipeline, and compare with a recount."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from tests.chaos.run import Chaos
from tests.conftest import Spawn
from tests.support.kafka import ApacheKafka, missing_kafka

REPORTS = Path(__file__).parents[2] / ".build" / "chaos"


def main() -> int:
    """One run with a seed; the exit code is 0 if nothing differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=50, help="how many kill -9")
    options = parser.parse_args()
    if missing := missing_kafka():
        print(f"chaos needs Apache Kafka, but {missing}", file=sys.stderr)
        return 69
    REPORTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fairstream-chaos-") as name:
        return _run(options.seed, options.kills, Path(name))


def _run(seed: int, kills: int, directory: Path) -> int:
    kafka = directory / "kafka"
    kafka.mkdir()
    logs = REPORTS / f"logs-{seed}"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir()
    spawn = Spawn(logs)
    with ApacheKafka(kafka) as broker:
        chaos = Chaos(broker, spawn, directory, seed=seed, kills=kills, tell=_tell)
        try:
            report = chaos.run()
        except AssertionError:
            print(chaos.describe(), file=sys.stderr)
            raise
        finally:
            for child in reversed(spawn.children):
                child.stop()
    file = REPORTS / f"report-{seed}.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    print("\n".join(report.lines()))
    print(f"  logs of the processes: {logs}; report: {file}")
    for difference in report.differences[:20]:
        print(f"  {difference[:400]}")
    return 0 if report.good else 1


def _tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
