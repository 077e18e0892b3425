"""A process that loses its place in its consumer group ends, and tells why."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from confluent_kafka import Consumer

from streams.exits import EX_SOFTWARE
from tests.conftest import Spawn
from tests.support.pipeline import WAIT_S, Pipeline
from tests.support.ports import free_port
from tests.support.processes import Child
from tests.support.wait import wait_for


@pytest.fixture
def pipeline(bootstrap: str, unique: str, tmp_path: Path, spawn: Spawn, kafka_only: None) -> Pipeline:
    """Return a pipeline without rules."""
    return Pipeline(bootstrap, unique, tmp_path, spawn)


def wait_ready(port: int, child: Child) -> None:
    """Wait until a process says that it has its partitions."""

    def ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/-/ready", timeout=5.0).status_code == 200
        except httpx.TransportError:
            return False

    wait_for(ready, WAIT_S, "the process to be ready", watch=[child])


@pytest.mark.parametrize("role", ["aggregate", "monitor", "notify"])
def test_the_last_to_take_a_name_keeps_it(pipeline: Pipeline, role: str) -> None:
    """Two processes of one instance name do not take turns: the first ends."""
    ports = [free_port(), free_port()]
    first = pipeline.start(role, port=ports[0])
    wait_ready(ports[0], first)
    second = pipeline.start(role, port=ports[1])
    assert first.wait(WAIT_S) == EX_SOFTWARE, first.describe()
    wait_ready(ports[1], second)


def test_a_group_that_cannot_be_joined_ends_the_process(pipeline: Pipeline) -> None:
    """Somebody else's consumers in the group speak another protocol than Faust's."""
    settings = pipeline.config.kafka
    stranger = Consumer(
        {"bootstrap.servers": settings.bootstrap, "group.id": f"{settings.group_prefix}-monitor"}
    )
    stranger.subscribe([pipeline.topics.panes])

    def joined() -> bool:
        stranger.poll(0.1)
        return bool(stranger.assignment())

    wait_for(joined, WAIT_S, "the stranger to join")
    monitor = pipeline.start("monitor")
    assert monitor.wait(WAIT_S) == EX_SOFTWARE, monitor.describe()
    assert "no longer a member of the group: InconsistentGroupProtocolError" in monitor.output()
    stranger.close()
