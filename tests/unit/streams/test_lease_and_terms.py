"""A process that was paused ends before it writes; a record of a replaced owner does not count."""

from __future__ import annotations

import pytest

from streams.lease import Lease
from streams.terms import Term, Terms

SESSION_S = 6.0


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


@pytest.fixture
def lost() -> list[float]:
    """Return the pauses that cost the lease."""
    return []


@pytest.fixture
def clock() -> Clock:
    """Return a clock."""
    return Clock()


@pytest.fixture
def lease(clock: Clock, lost: list[float]) -> Lease:
    """Return a lease of a process that runs."""
    return Lease(SESSION_S, lost.append, clock)


def test_a_process_that_runs_keeps_its_lease(lease: Lease, clock: Clock, lost: list[float]) -> None:
    """However long it lives, as long as it ticks within its session."""
    for _ in range(100):
        clock.now_s += SESSION_S - 0.1
        lease.check()
        lease.tick()
    assert not lost


@pytest.mark.parametrize("first", ["check", "tick"])
def test_a_pause_of_a_session_costs_the_lease(
    lease: Lease, clock: Clock, lost: list[float], first: str
) -> None:
    """Whether the thread or the write comes first after the pause."""
    clock.now_s += SESSION_S
    getattr(lease, first)()
    assert lost == [SESSION_S]


def test_a_record_of_a_replaced_owner_does_not_count() -> None:
    """Records of an older term, after one of a newer, are left out and counted; other partitions are not."""
    old, new = Term(4, 10), Term(5, 20)
    terms = Terms(30)
    assert [terms.admits(0, term) for term in (old, new, old, new)] == [True, True, False, True]
    assert terms.admits(1, old)
    assert terms.outdated == 1


def test_records_of_before_there_were_terms_count() -> None:
    """Until an owner with a term has written."""
    terms = Terms(30)
    assert terms.admits(0, Term.decode(None))
    terms.own(0, 1)
    assert not terms.admits(0, Term.decode(None))


def test_an_owner_writes_under_one_term_until_it_may_have_been_replaced() -> None:
    """Its term is larger than all that it has read, and after a rebalance larger than its own before."""
    terms = Terms(30)
    terms.admits(0, Term(7, 10))
    first = terms.own(0, 3)  # the group was deleted, and its generation began anew
    assert first == terms.own(0, 3) == Term(8, 30)
    terms.release(0)
    assert terms.own(0, 12) == Term(12, 30)
    assert terms.admits(0, Term(12, 30)), "its own records, when it reads them again"


def test_a_partition_that_comes_back_is_read_from_its_beginning() -> None:
    """Then the records of earlier owners count again, in their order."""
    terms = Terms(30)
    terms.own(0, 9)
    terms.forget(0)
    assert terms.admits(0, Term(1, 1))


def test_a_restarted_process_replaces_its_former_self() -> None:
    """Static membership keeps the generation, so the later start decides."""
    former, restarted = Terms(10), Terms(20)
    assert former.own(0, 5) < restarted.own(0, 5)
