"""How processes end, and how long after that they are started again."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from monitor.config import parse_config
from streams import aggregate
from streams.exits import EX_SOFTWARE
from streams.publisher import DeliveryError
from streams.supervisor import Backoff

CONFIG = """
surfaces: [home]
windows: [{length: 1h, slide: 1m}]
http: {aggregate_port: 0}
"""


def test_a_process_that_ends_again_and_again_is_started_later_each_time() -> None:
    """Up to half a minute later."""
    backoff = Backoff()
    assert [backoff.after(0.5) for _ in range(7)] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_a_process_that_ran_well_is_started_at_once() -> None:
    """What went wrong last week does not count."""
    backoff = Backoff()
    for _ in range(7):
        backoff.after(0.5)
    assert [backoff.after(3_600.0), backoff.after(1.0)] == [1.0, 2.0]


def test_aggregate_tells_that_the_broker_refused_a_record(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With the exit code that asks for a restart, and a line instead of a traceback."""

    def refuse(_: aggregate.Aggregate) -> None:
        raise DeliveryError("no room")

    monkeypatch.setattr(aggregate.Aggregate, "run", refuse)
    monkeypatch.setattr(aggregate, "Consumer", Mock())
    monkeypatch.setattr(aggregate, "Producer", Mock())
    config = parse_config(CONFIG)
    assert aggregate.run_aggregate(config, instance="aggregate-1") == EX_SOFTWARE
    assert "stopping: no room" in caplog.text
