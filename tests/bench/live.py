"""Live traffic through all three roles: how soon it can be seen, and what monitor and notify have to do."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import httpx
import msgspec
import numpy as np
from confluent_kafka import Consumer, TopicPartition

from tests.bench.bench import Bench, child_cpu_s, per_cpu_second
from tests.bench.load import Load, Topic
from tests.support.ports import free_port
from tests.support.processes import Child
from tests.support.wait import wait_for

WAIT_S = 90.0
SETTLE_S = 8.0
LOOK_EVERY_S = 0.05
ROLES = ("aggregate", "monitor", "notify")
USUAL = Load(partitions=4)
USUAL_RATE = 10_000.0
_PROBES = re.compile(
    r'^fairness_impressions\{dimension="item.skin_tone",slice="(\d+)",surface="probe",window="1h"\} (\S+)$',
    re.MULTILINE,
)


class Written(msgspec.Struct, frozen=True):
    """What the writer tells."""

    rate: float
    probes: list[tuple[int, float]]


@dataclass
class Live:
    """The three roles at work on a topic: aggregate on the measured core, all else on the others."""

    bench: Bench
    topic: Topic
    roles: dict[str, Child]
    ports: dict[str, int]

    def write(self, rate: float, seconds: float) -> Child:
        """Start live traffic."""
        command = [sys.executable, "-m", "tests.bench.writer", "--config", str(self.topic.file)]
        options = {"rate": rate, "seconds": seconds, "cells": self.topic.load.cells}
        return self.bench.spawn([*command, *(f"--{k}={v}" for k, v in options.items())], name="writer")

    def metrics(self) -> str:
        """Monitor's page of metrics; empty while it does not answer."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.ports['monitor']}/metrics", timeout=10.0).text
        except httpx.TransportError:
            return ""

    def cpu_s(self) -> dict[str, float]:
        """Processor time of each role so far."""
        return {role: child_cpu_s(child) for role, child in self.roles.items()}

    def panes_end(self) -> int:
        """How many records `fairness.panes` has."""
        kafka = self.topic.config.kafka
        consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "bench-reader"})
        _, end = consumer.get_watermark_offsets(TopicPartition(kafka.topics.panes, 0), timeout=10.0)
        consumer.close()
        return end

    def panes_bytes(self) -> int:
        """Size of `fairness.panes` as the broker keeps it."""
        folder = self.bench.directory / "data" / f"{self.topic.config.kafka.topics.panes}-0"
        return sum(file.stat().st_size for file in folder.glob("*.log"))


@contextmanager
def running(bench: Bench, load: Load) -> Iterator[Live]:
    """The roles, ready, until the end of the block."""
    ports = {role: free_port() for role in ROLES}
    http = {f"{role}_port": port for role, port in ports.items()}
    topic = Topic(load, bench.bootstrap, bench.directory, http=http)
    cores = {"aggregate": {bench.measured_core}}
    roles = {}
    for role in ROLES:
        with bench.on(cores.get(role, bench.other_cores)):
            roles[role] = bench.spawn(topic.command(role, "--instance", role), name=role)
    for role, child in roles.items():
        wait_for(lambda role=role: _ready(ports[role]), WAIT_S, f"{role} to be ready", watch=[child])  # type: ignore[misc]
    try:
        yield Live(bench, topic, roles, ports)
    finally:
        for child in roles.values():
            child.stop()


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/-/ready", timeout=5.0).is_success
    except httpx.TransportError:
        return False


def latency(bench: Bench) -> None:
    """From append to visible in /metrics, while aggregate is little, half and nearly fully used."""
    load = replace(USUAL, partitions=1)
    records = max(bench.size.records // 2, 1)
    topic = bench.topic(load, records)
    costs = [bench.cost("fairstream", topic.variant(), records) for _ in range(bench.size.rounds)]
    capacity = min(per_cpu_second(costs, records))
    bench.add("latency", "capacity", [capacity], "impressions / CPU-second")
    for part in (0.1, 0.5, 0.9):
        with running(bench, load) as live:
            written, seen = _probe(live, capacity * part)
        waits = np.array(_waits(written, seen))
        what = f"at {part:.0%} of capacity"
        bench.say(
            f"{what}: {written.rate:,.0f} impressions a second, {len(waits)} of {len(written.probes)} probes"
        )
        bench.add("latency", f"{what}: reached", [written.rate / capacity], "of capacity")
        bench.add("latency", f"{what}: p50", [float(np.quantile(waits, 0.5))], "s")
        bench.add("latency", f"{what}: p99", [float(np.quantile(waits, 0.99))], "s")


Seen = dict[int, list[tuple[float, int]]]
"""By partition: when so many probes were visible."""


def _probe(live: Live, rate: float) -> tuple[Written, Seen]:
    """Look at the metrics as long as traffic is written, and until the last probe is there."""
    seconds = SETTLE_S + live.bench.size.seconds
    pause, seen = threading.Event(), defaultdict[int, list[tuple[float, int]]](list)
    writer = live.write(rate, seconds)
    until_s = time.time() + 2 * seconds + WAIT_S
    written: Written | None = None
    while time.time() < until_s:
        text = live.metrics()
        now_s = time.time()
        for partition, shown in _PROBES.findall(text):
            seen[int(partition)].append((now_s, int(float(shown))))
        if written is None and writer.exit_code is not None:
            written = msgspec.json.decode(writer.output().splitlines()[-1], type=Written)
            until_s = min(until_s, now_s + 30.0)
        if written is not None and sum(each[-1][1] for each in seen.values()) >= len(written.probes):
            break
        pause.wait(LOOK_EVERY_S)
    if written is None:
        raise RuntimeError(f"the writer did not end\n{writer.describe()}")
    return written, seen


def _waits(written: Written, seen: Seen) -> list[float]:
    """Seconds from append to visible, of probes after the roles have settled; infinite if never seen."""
    waits, counts = [], defaultdict[int, int](int)
    start_s = written.probes[0][1]
    for partition, at_s in written.probes:
        counts[partition] += 1
        shown_s = next((now_s for now_s, shown in seen[partition] if shown >= counts[partition]), None)
        if at_s - start_s >= SETTLE_S:
            waits.append(float("inf") if shown_s is None else shown_s - at_s)
    return waits


def downstream(bench: Bench) -> None:
    """What is published and what monitor and notify use, over traffic, cells, partitions and windows."""
    cases = {
        "1,000 impressions/s": (USUAL, 1_000.0),
        "10,000 impressions/s": (USUAL, USUAL_RATE),
        "50,000 impressions/s": (USUAL, 5 * USUAL_RATE),
        "10 cells": (replace(USUAL, cells=10), USUAL_RATE),
        "5,000 cells": (replace(USUAL, cells=5_000), USUAL_RATE),
        "1 partition": (replace(USUAL, partitions=1), USUAL_RATE),
        "64 partitions": (replace(USUAL, partitions=64), USUAL_RATE),
        "64 partitions, 50,000 impressions/s": (replace(USUAL, partitions=64), 5 * USUAL_RATE),
        "one window 1m/1m": (replace(USUAL, windows=(("1m", "1m"),)), USUAL_RATE),
    }
    for name, (load, rate) in cases.items():
        with running(bench, load) as live:
            _measure(bench, name, live, rate)


def _measure(bench: Bench, name: str, live: Live, rate: float) -> None:
    seconds = bench.size.seconds
    pause = threading.Event()
    writer = live.write(rate, SETTLE_S + seconds + 2.0)
    pause.wait(SETTLE_S)
    before, start_s = (live.cpu_s(), live.panes_end(), live.panes_bytes()), time.monotonic()
    pause.wait(seconds)
    after, passed_s = (live.cpu_s(), live.panes_end(), live.panes_bytes()), time.monotonic() - start_s
    writer.wait(WAIT_S)
    for role in ROLES:
        bench.add(
            "downstream", f"{name}: {role}", [(after[0][role] - before[0][role]) / passed_s], "of a core"
        )
    bench.add("downstream", f"{name}: fairness.panes", [(after[1] - before[1]) / passed_s], "records / s")
    bench.add(
        "downstream", f"{name}: fairness.panes, compressed", [(after[2] - before[2]) / passed_s], "bytes / s"
    )
    used = ", ".join(f"{role} {(after[0][role] - before[0][role]) / passed_s:.1%}" for role in ROLES)
    bench.say(f"{name}: {used}")
