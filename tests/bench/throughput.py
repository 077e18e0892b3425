"""Throughput of aggregate: beside a bare consumer, over windows, cells and partitions, with several."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import yaml

from tests.bench.bench import Bench, child_cpu_s, per_cpu_second
from tests.bench.load import Load, Topic
from tests.bench.worker import Cost
from tests.support.ports import free_port
from tests.support.processes import Child
from tests.support.wait import wait_for

ITEMS = 25
REQUESTS = Load(items=ITEMS, per_ms=120)
PER_STREAM = 200
WAIT_S = 300.0


def reading(bench: Bench, work: str, topic: Topic, records: int, **sections: Any) -> Callable[[], Cost]:
    """A pass with a group and topics of its own, so that each begins at the beginning."""
    return lambda: bench.cost(work, topic.variant(**sections), records)


def speed(bench: Bench) -> None:
    """Bare consuming, decoding, and the whole role; one item, 25, and many requests of 25 in a record."""
    records, requests = bench.size.records, max(bench.size.records // 10, 1)
    one, many = bench.topic(Load(), records), bench.topic(REQUESTS, requests)
    streams = bench.topic(replace(REQUESTS, per_stream=PER_STREAM), requests)
    works = ("limit", "limit_without_gc", "decode", "fairstream")
    cases = {work: reading(bench, work, one, records) for work in works}
    cases |= {
        f"{work} of 25": reading(bench, work, many, requests) for work in ("limit_without_gc", "fairstream")
    }
    cases["fairstream of 25, in Arrow streams"] = reading(bench, "fairstream", streams, requests)
    costs = bench.rounds(cases)
    rates = {
        name: per_cpu_second(costs[name], requests * ITEMS if " of " in name else records) for name in cases
    }
    for name, values in rates.items():
        bench.add("speed", name, values, "impressions / CPU-second")
    for limit in ("limit", "limit_without_gc"):
        ratios = [mine / its for mine, its in zip(rates["fairstream"], rates[limit], strict=True)]
        bench.add("speed", f"fairstream / {limit}", ratios, "")


def flat(bench: Bench) -> None:
    """More windows, more cells, more partitions."""
    records = max(bench.size.records // 2, 1)
    minute, day = ("1m", "1m"), ("24h", "10s")
    loads = {
        "one window 1m/1m": Load(windows=(minute,)),
        "with 24h/10s": Load(windows=(minute, day)),
        "10 cells": Load(cells=10),
        "1,000 cells": Load(cells=1_000),
        "10,000 cells": Load(cells=10_000),
        "1 partition": Load(),
        "64 partitions": Load(partitions=64),
    }
    cases = {
        name: reading(bench, "fairstream", bench.topic(load, records), records)
        for name, load in loads.items()
    }
    for name, costs in bench.rounds(cases).items():
        bench.add("flat", name, per_cpu_second(costs, records), "impressions / CPU-second")


def scale(bench: Bench) -> None:
    """1, 2 and 4 processes that share a topic, on all cores together with the broker."""
    for processes in (1, 2, 4):
        walls, costs = zip(
            *[_drain(bench, processes) for _ in range(max(bench.size.rounds // 2, 1))], strict=True
        )
        name = f"{processes} processes"
        bench.add("scale", f"{name}, together", walls, "impressions / second")
        bench.add("scale", f"{name}, each", costs, "impressions / CPU-second")


def _drain(bench: Bench, processes: int) -> tuple[float, float]:
    """Impressions a second, and a CPU-second, of processes that wake up before a backlog."""
    records = bench.size.records
    topic = Topic(
        Load(partitions=8),
        bench.bootstrap,
        bench.directory,
        http={"monitor_port": 0, "notify_port": 0},
    )
    ports = [free_port() for _ in range(processes)]
    children = [_aggregate(bench, topic, number, port) for number, port in enumerate(ports)]
    wait_for(lambda: _assigned(ports) == 2 * topic.load.partitions, WAIT_S, "the group", watch=children)
    for child in children:
        child.send(signal.SIGSTOP)
    topic.fill(records)
    before_s, start_s = sum(map(child_cpu_s, children)), time.monotonic()
    for child in children:
        child.send(signal.SIGCONT)
    wait_for(lambda: _read(ports) == records, WAIT_S, "the backlog to be read", watch=children)
    wall_s, cpu_s = time.monotonic() - start_s, sum(map(child_cpu_s, children)) - before_s
    for child in children:
        child.stop()
    bench.say(f"{processes} processes: {wall_s:.1f} seconds, {cpu_s:.1f} CPU-seconds")
    return records / wall_s, records / cpu_s


def _aggregate(bench: Bench, topic: Topic, number: int, port: int) -> Child:
    document = yaml.safe_load(topic.file.read_text(encoding="utf-8"))
    document["kafka"]["session_timeout"] = "2m"  # longer than it is stopped
    document["http"] = {"aggregate_port": port}
    file = topic.file.with_name(f"{topic.unique}-{number}.yaml")
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    command = topic.command("aggregate", "--instance", f"aggregate-{number}", file=file)
    with bench.on(set(range(os.cpu_count() or 1))):
        return bench.spawn(command, name=f"aggregate-{topic.unique}")


def _statuses(ports: list[int]) -> list[dict[str, Any]]:
    try:
        return [httpx.get(f"http://127.0.0.1:{port}/-/status", timeout=5.0).json() for port in ports]
    except httpx.TransportError:
        return []


def _assigned(ports: list[int]) -> int:
    return sum(status["assigned"] for status in _statuses(ports))


def _read(ports: list[int]) -> int:
    return sum(topic["read"] for status in _statuses(ports) for topic in status["topics"].values())
