"""Waiting for a condition, instead of sleeping for a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")

INTERVAL_S = 0.05


class WaitFailed(AssertionError):
    """What was waited for did not come."""


class Watched(Protocol):
    """Something whose end means that waiting is in vain: a child process."""

    @property
    def exit_code(self) -> int | None:
        """Its exit code, None while it runs."""

    def describe(self) -> str:
        """Return what it is and the end of its log."""


def wait_for(
    condition: Callable[[], T | None],
    timeout_s: float,
    what: str | Callable[[], str],
    *,
    watch: Sequence[Watched] = (),
    interval_s: float = INTERVAL_S,
) -> T:
    """Call `condition` until it gives something true, and return that.

    Args:
        condition: asked every `interval_s` seconds, and once more at the end.
        timeout_s: how long to wait, in seconds.
        what: what is waited for, for the failure's message; a function is called when it fails, to
            say how far things have come.
        watch: child processes that have to stay alive meanwhile; their logs are shown on failure.
        interval_s: the time between two calls, in seconds.

    Raises:
        WaitFailed: the time is over, or a watched process has ended.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        late = time.monotonic() >= deadline_s
        ended = any(child.exit_code is not None for child in watch)
        if result := condition():
            return result
        if late or ended:
            break
        time.sleep(interval_s)
    sought = what() if callable(what) else what
    reason = "a process ended" if ended else f"not within {timeout_s:g} s"
    raise WaitFailed("\n".join([f"waited for {sought}: {reason}", *(child.describe() for child in watch)]))
