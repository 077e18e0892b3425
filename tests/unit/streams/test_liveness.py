"""When a role says that it is stuck: a partition stands still, records wait, and the broker answers."""

from __future__ import annotations

import pytest

from streams.liveness import Reach, Stall

AFTER_S = 60.0
HOME, SEARCH = ("panes", 0), ("panes", 1)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """Return a clock."""
    return Clock()


@pytest.fixture
def stall(clock: Clock) -> Stall:
    """Return a watch that has seen nothing."""
    return Stall(AFTER_S, clock)


def test_a_partition_that_stands_still_with_records_waiting_is_a_stall(stall: Stall, clock: Clock) -> None:
    """Once it has stood for long enough, even though another one moves and more records come."""
    for minute in range(2):
        assert not stall.stalled, "not yet"
        stall.look({HOME: Reach(5, 9 + minute), SEARCH: Reach(minute, 99)})
        clock.now_s += AFTER_S / 2
    assert stall.stalled


def test_progress_ends_a_stall(stall: Stall, clock: Clock) -> None:
    """One record further is progress."""
    stall.look({HOME: Reach(5, 9)})
    clock.now_s += AFTER_S
    told = [stall.stalled]
    stall.look({HOME: Reach(6, 9)})
    told.append(stall.stalled)
    assert told == [True, False]


def test_a_partition_read_to_its_end_may_stand_for_ever(stall: Stall, clock: Clock) -> None:
    """Nothing waits; the time begins when something does."""
    for _ in range(5):
        stall.look({HOME: Reach(9, 9)})
        clock.now_s += AFTER_S
    stall.look({HOME: Reach(9, 10)})
    clock.now_s += AFTER_S - 1
    assert not stall.stalled


@pytest.mark.parametrize("said", [None, {}], ids=["the broker is away", "the partition is another's"])
def test_no_stall_without_a_broker_or_the_partition(
    stall: Stall, clock: Clock, said: dict[tuple[str, int], Reach] | None
) -> None:
    """And the time begins anew afterwards."""
    stall.look({HOME: Reach(5, 9)})
    clock.now_s += AFTER_S
    stall.look(said)
    assert not stall.stalled
    stall.look({HOME: Reach(5, 9)})
    clock.now_s += AFTER_S - 1
    assert not stall.stalled


def test_it_asks_six_times_before_it_complains(stall: Stall, clock: Clock) -> None:
    """Often enough to be on time, seldom enough to cost nothing."""
    told = [stall.due]
    clock.now_s += AFTER_S / 6
    told.append(stall.due)
    stall.look({})
    told.append(stall.due)
    assert told == [False, True, False]
