from __future__ import annotations

import itertools
import signal
import sys
from pathlib import Path

import pytest

from tests.conftest import Spawn
from tests.support.ports import free_port
from tests.support.processes import Child
from tests.support.wait import WaitFailed, wait_for


def test_free_ports_are_given_once() -> None:
    """No port is handed out twice in one run."""
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50


def test_wait_for_gives_the_first_true_answer() -> None:
    """It asks again while the answer is false, and returns the answer itself."""
    answers = iter(["", "", "done", "later"])
    assert wait_for(lambda: next(answers), 5, "an answer", interval_s=0) == "done"


def test_wait_for_names_what_did_not_come() -> None:
    """The failure says what was waited for, how long, and how far things have come."""
    calls = itertools.count()
    with pytest.raises(WaitFailed, match=r"waited for call \d+: not within 0 s"):
        wait_for(lambda: next(calls) < 0, 0, lambda: f"call {next(calls)}")


def test_wait_for_asks_once_more_when_its_time_is_over() -> None:
    """A condition that is true already needs no time."""
    assert wait_for(lambda: True, 0, "nothing")


def test_wait_for_gives_up_on_a_process_that_ended(spawn: Spawn) -> None:
    """It fails at once, with the end of the log, instead of waiting for a dead process."""
    child = spawn([sys.executable, "-c", "raise SystemExit('no such luck')"])
    with pytest.raises(WaitFailed, match=r"(?s)a process ended.*code 1.*no such luck"):
        wait_for(lambda: False, 60, "anything", watch=[child])


def test_a_child_is_asked_to_end_before_it_is_killed(tmp_path: Path) -> None:
    """SIGTERM ends a child that listens to it; one that ignores it is killed after its time."""
    deaf = "import signal as s; s.signal(s.SIGTERM, s.SIG_IGN); print('up', flush=True); s.pause()"
    with Child([sys.executable, "-c", deaf], tmp_path / "deaf.log", env={"WHO": "deaf"}) as child:
        wait_for(lambda: "up" in child.output(), 20, "the child", watch=[child])
        assert child.exit_code is None
        assert child.stop(timeout_s=0.1) == -signal.SIGKILL
    with Child([sys.executable, "-c", "import signal; signal.pause()"], tmp_path / "polite.log") as child:
        assert child.stop() == -signal.SIGTERM


def test_a_child_gets_its_environment_and_ends_by_itself(tmp_path: Path) -> None:
    """What is set for it comes on top of this process's environment."""
    command = [sys.executable, "-c", "import os; print(os.environ['WHO'], 'PATH' in os.environ)"]
    child = Child(command, tmp_path / "log", env={"WHO": "me"})
    assert child.wait(20) == 0
    assert child.output() == "me True\n"


def test_a_child_that_does_not_end_is_a_failure(tmp_path: Path) -> None:
    """Waiting for its end fails with its log, and leaves it running."""
    with Child(["tail", "-f", "/dev/null"], tmp_path / "log") as child:
        with pytest.raises(AssertionError, match=r"did not end within 0\.1 s"):
            child.wait(0.1)
        child.send(signal.SIGTERM)
        assert child.wait(20) == -signal.SIGTERM


def test_the_test_run_has_a_suffix_for_each_test(unique: str) -> None:
    """It is short and fit for a topic's name."""
    assert unique.isalnum()
    assert len(unique) == 8
