"""The plan of a chaos run. The run itself is random by nature: `make chaos`, not a test."""

from __future__ import annotations

from tests.chaos.plan import Kind, make_plan


def test_a_plan_is_a_function_of_its_seed() -> None:
    """The same seed strikes the same processes, another one others, and every kind is there."""
    assert make_plan(1, 8) == make_plan(1, 8)
    assert make_plan(1, 8) != make_plan(2, 8)
    assert {blow.kind for blow in make_plan(1, 8)} == set(Kind)
    assert sum(blow.kind is Kind.KILL for blow in make_plan(1, 8)) == 8
