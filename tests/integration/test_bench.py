from __future__ import annotations

import io
import os
from pathlib import Path

from rich.console import Console

from tests.bench.__main__ import account_of, table
from tests.bench.bench import Bench, Size, per_cpu_second
from tests.bench.load import Load
from tests.bench.throughput import reading
from tests.conftest import Broker, Spawn

RECORDS = 2_000


def test_the_benchmark_reads_all_and_tells_what_it_cost(broker: Broker, spawn: Spawn, tmp_path: Path) -> None:
    """In its smallest form: the bare consumer, and the whole role until the last snapshot is acknowledged."""
    core, console = min(os.sched_getaffinity(0)), Console(file=io.StringIO(), width=200)
    bench = Bench(broker.bootstrap, tmp_path, spawn, Size(RECORDS, 1, 0.0), console, core, {core})
    topic = bench.topic(Load(items=2, partitions=2), RECORDS)
    costs = bench.rounds({work: reading(bench, work, topic, RECORDS) for work in ("limit", "fairstream")})
    for work, found in costs.items():
        assert [cost.cpu_s > 0 for cost in found] == [True]
        bench.add("smoke", work, per_cpu_second(found, 2 * RECORDS), "impressions / CPU-second")
    account = account_of(bench)
    assert [(figure.what, figure.value > 0) for figure in account.figures] == [
        ("limit", True),
        ("fairstream", True),
    ]
    console.print(table(account))
    assert isinstance(console.file, io.StringIO)
    assert "impressions / CPU-second" in console.file.getvalue()
