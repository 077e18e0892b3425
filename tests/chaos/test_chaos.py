"""The small form of `make chaos`: few kills, a fixed seed, the same comparisons."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.plan import Kind, make_plan
from tests.chaos.run import Chaos
from tests.conftest import Spawn
from tests.support.kafka import ApacheKafka

SEED = 1
KILLS = 8
GAP_S = 0.5


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_nothing_is_lost_or_said_twice_whatever_is_killed(
    private_kafka: ApacheKafka, spawn: Spawn, tmp_path: Path
) -> None:
    """Panes, dead letters, verdicts and alert transitions equal a recount and a calm run of the log."""
    chaos = Chaos(private_kafka, spawn, tmp_path, seed=SEED, kills=KILLS, gap_s=GAP_S, tell=print)
    report = chaos.run()
    print("\n".join(report.lines()))
    assert report.kills == KILLS
    assert report.compared["transitions"] > 0
    assert report.differences == []


def test_a_plan_is_a_function_of_its_seed() -> None:
    """The same seed strikes the same processes, another one others, and every kind is there."""
    assert make_plan(1, 8) == make_plan(1, 8)
    assert make_plan(1, 8) != make_plan(2, 8)
    assert {blow.kind for blow in make_plan(1, 8)} == set(Kind)
    assert sum(blow.kind is Kind.KILL for blow in make_plan(1, 8)) == 8
