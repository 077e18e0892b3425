"""`/-/healthy` and `/-/ready` tell the truth: each answer is caused, and seen."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Producer

from streams.topics import changelog_topic
from tests.conftest import Spawn
from tests.support.events import impression
from tests.support.kafka import ApacheKafka
from tests.support.pipeline import WAIT_S, Pipeline
from tests.support.ports import free_port
from tests.support.processes import Child
from tests.support.wait import wait_for

STALLED_AFTER_S = 3.0
ROLES = ("aggregate", "monitor", "notify")
RULE = {
    "name": "tone",
    "metric": "impression_share",
    "dimension": "item.skin_tone",
    "window": "1m",
    "compare": "reference",
    "reference": {"targets": {"1": 0.5, "4": 0.5}},
    "min_support": 1,
}
"""All impressions are of tone 4, so that notify has an alert to follow."""


def answer(port: int, page: str) -> int:
    """Return the status of a page, 0 while nobody answers."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/-/{page}", timeout=5.0).status_code
    except httpx.TransportError:
        return 0


class Traffic:
    """Impressions in event time, one pane further with each step, so that every role has something to do."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._producer: Producer = pipeline.producer
        self._ts = time.time_ns() // 1_000_000 - 3_600_000

    def step(self) -> None:
        """Append impressions of several viewers to each partition."""
        self._ts += 10_000
        topic = self._pipeline.topics.impressions
        for viewer in range(20):
            record = impression(self._ts, f"u-{viewer}")
            self._producer.produce(topic, record, b"u", partition=viewer % 2)
        self._producer.poll(0)


@pytest.fixture
def pipeline(private_kafka: ApacheKafka, unique: str, tmp_path: Path, spawn: Spawn) -> Pipeline:
    """Return a pipeline on a broker of its own, whose roles complain after a few seconds."""
    http = {"stalled_after": f"{STALLED_AFTER_S:g}s"}
    return Pipeline(private_kafka.bootstrap, unique, tmp_path, spawn, rules=[RULE], http=http)


def port_of(pipeline: Pipeline, role: str) -> int:
    """Return the port of a role."""
    port: int = getattr(pipeline.config.http, f"{role}_port")
    return port


def wait_answer(port: int, page: str, status: int, traffic: Traffic, watch: list[Child]) -> None:
    """Wait for an answer while traffic goes on."""

    def answers() -> bool:
        traffic.step()
        return answer(port, page) == status

    wait_for(answers, WAIT_S, f"{page} of port {port} to be {status}", watch=watch, interval_s=0.2)


def test_healthy_is_false_when_writes_do_not_get_through_and_true_when_it_is_away(
    pipeline: Pipeline, private_kafka: ApacheKafka
) -> None:
    """A partition with records that makes no progress is a stall of that role; an outage is nobody's."""
    traffic = Traffic(pipeline)
    children = [pipeline.start(role) for role in ROLES]
    for role in ROLES:
        wait_answer(port_of(pipeline, role), "ready", 200, traffic, children)
    clients = {role: f"{pipeline.config.kafka.group_prefix}-{role}" for role in ROLES}
    for role in reversed(ROLES):  # downstream first, so that records wait for each of them
        private_kafka.throttle(clients[role], 200)
        wait_answer(port_of(pipeline, role), "healthy", 503, traffic, children)
    for client in clients.values():
        private_kafka.throttle(client, None)

    private_kafka.stop(hard=True)
    for role in ROLES:
        wait_answer(port_of(pipeline, role), "healthy", 200, traffic, children)
    away_until_s = time.monotonic() + 3 * STALLED_AFTER_S
    while time.monotonic() < away_until_s:
        assert {role: answer(port_of(pipeline, role), "healthy") for role in ROLES} == dict.fromkeys(
            ROLES, 200
        )
    private_kafka.start()
    before = pipeline.status("notify")
    assert before is not None

    def goes_on() -> bool:
        traffic.step()
        now = pipeline.status("notify")
        return now is not None and now["verdicts_handled"] > before["verdicts_handled"]

    wait_for(goes_on, WAIT_S, "verdicts after the outage", watch=children, interval_s=0.2)


def test_ready_is_false_until_the_state_is_recovered(pipeline: Pipeline) -> None:
    """A monitor that reads a long changelog is up and healthy, and not ready; then it is."""
    topic = changelog_topic(pipeline.config, "monitor", "state")
    for number in range(50_000):
        pipeline.producer.produce(topic, b"-" * 100, b"0|noise|nobody|%d" % number, partition=0)
        if number % 10_000 == 0:
            pipeline.producer.flush(WAIT_S)
    assert pipeline.producer.flush(WAIT_S) == 0
    monitor = pipeline.start("monitor")
    port = port_of(pipeline, "monitor")
    told: list[tuple[int, int]] = []

    def ready() -> bool:
        told.append((answer(port, "healthy"), answer(port, "ready")))
        return told[-1] == (200, 200)

    wait_for(ready, WAIT_S, "monitor to be ready", watch=[monitor])
    assert (200, 503) in told


def test_ready_is_false_while_a_rebalance_runs(
    private_kafka: ApacheKafka, unique: str, tmp_path: Path, spawn: Spawn
) -> None:
    """A third process joins while the second is paused: the first waits for it, and says so."""
    kafka = {"session_timeout": "60s"}  # the second stays a member of its group for as long as it is paused
    pipeline = Pipeline(private_kafka.bootstrap, unique, tmp_path, spawn, rules=[RULE], kafka=kafka)
    traffic = Traffic(pipeline)
    ports = {role: port_of(pipeline, role) for role in ("aggregate", "monitor")}
    firsts = [pipeline.start(role) for role in ports]
    others = {role: free_port() for role in ports}
    seconds = [pipeline.start(role, "two", port) for role, port in others.items()]
    for port in (*ports.values(), *others.values()):
        wait_answer(port, "ready", 200, traffic, firsts + seconds)
    for second in seconds:
        second.send(signal.SIGSTOP)
    last = {role: free_port() for role in ports}
    thirds = [pipeline.start(role, "three", port) for role, port in last.items()]
    for port in ports.values():
        wait_answer(port, "ready", 503, traffic, firsts + thirds)
    for port in last.values():
        assert answer(port, "ready") != 200
    for second in seconds:
        second.send(signal.SIGCONT)
    for port in (*ports.values(), *others.values()):
        wait_answer(port, "ready", 200, traffic, firsts + seconds + thirds)


def test_run_restarts_a_role_that_is_stuck(
    pipeline: Pipeline, private_kafka: ApacheKafka, tmp_path: Path, spawn: Spawn
) -> None:
    """`fairstream run` believes what notify says of itself, and the summary tells."""
    summary = tmp_path / "summary.json"
    run = spawn(pipeline.command("run", "--summary", str(summary)), name="run")
    traffic = Traffic(pipeline)
    wait_answer(port_of(pipeline, "notify"), "ready", 200, traffic, [run])
    client = f"{pipeline.config.kafka.group_prefix}-notify"
    private_kafka.throttle(client, 200)

    def restarted() -> bool:
        traffic.step()
        return "notify is not healthy; killing it" in run.output()

    wait_for(restarted, WAIT_S, "notify to be killed", watch=[run], interval_s=0.2)
    private_kafka.throttle(client, None)
    wait_answer(port_of(pipeline, "notify"), "ready", 200, traffic, [run])
    assert run.stop() == 0
    assert json.loads(summary.read_text())["restarts"]["notify"] >= 1
