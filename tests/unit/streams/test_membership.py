"""A Faust process that has lost its group says so, once, and only then."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from streams.membership import Membership

SESSION_S = 6.0


class Coordinator:
    """The part of aiokafka's coordinator that decides on membership."""

    def __init__(self, routine: Coroutine[Any, Any, None]) -> None:
        self.member_id = "one"
        self.answers: list[bool] = []
        self._coordination_task = asyncio.ensure_future(routine)

    async def _do_heartbeat(self) -> bool:
        good = self.answers.pop(0)
        if not good:
            self.member_id = ""
        return good

    async def _push_error_to_user(self, error: Exception) -> None:
        pass


async def forever() -> None:
    """A coordination routine that goes on."""
    await asyncio.Event().wait()


async def beats(answers: list[bool], silence_s: float) -> list[str]:
    """Why the group is lost after these answers to heartbeats, with a silence before the last."""
    now_s, lost = [100.0], list[str]()
    coordinator = Coordinator(forever())
    Membership(coordinator, SESSION_S, lost.append, lambda: now_s[0])
    coordinator.answers = list(answers)
    for _ in answers[:-1]:
        await coordinator._do_heartbeat()
    now_s[0] += silence_s
    await coordinator._do_heartbeat()
    coordinator._coordination_task.cancel()
    return lost


@pytest.mark.parametrize(
    ("answers", "silence_s", "replaced"),
    [
        ([True, True], 1.0, False),
        ([True, False], 1.0, True),
        ([True, False], SESSION_S, False),
        ([False], 0.0, False),
    ],
    ids=["known", "known a moment ago", "expired", "never known"],
)
def test_a_member_that_was_known_a_moment_ago_was_replaced(
    answers: list[bool], silence_s: float, replaced: bool
) -> None:
    """Unknown within the session means replaced; after it, expired."""
    lost = asyncio.run(beats(answers, silence_s))
    assert lost == (["another process has joined under the same instance name"] if replaced else [])


def test_an_error_that_waits_for_a_poll_is_told() -> None:
    """What aiokafka keeps for the next poll loses the group."""

    async def run() -> list[str]:
        lost = list[str]()
        coordinator = Coordinator(forever())
        Membership(coordinator, SESSION_S, lost.append)
        await coordinator._push_error_to_user(ValueError("no"))
        coordinator._coordination_task.cancel()
        return lost

    assert asyncio.run(run()) == ["ValueError: no"]


@pytest.mark.parametrize(("error", "lost"), [(ValueError("no"), ["ValueError: no"]), (None, [])])
def test_a_coordinator_that_crashed_is_told(error: Exception | None, lost: list[str]) -> None:
    """One that was closed is not."""

    async def routine() -> None:
        if error is not None:
            raise error

    async def run() -> list[str]:
        found = list[str]()
        coordinator = Coordinator(routine())
        Membership(coordinator, SESSION_S, found.append)
        await asyncio.wait([coordinator._coordination_task])
        await asyncio.sleep(0)
        return found

    assert asyncio.run(run()) == lost
