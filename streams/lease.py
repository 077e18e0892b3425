"""Whether a process may still write for its partitions: a paused one may have lost them.

A process that did not run for its whole session (stopped, swapped out, a frozen machine) has
been replaced in its consumer group. What it goes on to write would stand beside the writes of
its successor. So it ends itself as soon as it runs again, before it writes.
"""

import threading
import time
from collections.abc import Callable

TICK_S = 0.05


class Lease:
    """Watches that the process runs: a thread that ticks, and a check before each write.

    Both look at the time since the last tick. Whichever comes first after a pause calls ``lost``,
    which must not return.
    """

    def __init__(
        self, session_s: float, lost: Callable[[float], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``session_s``: the pause, in seconds, after which the partitions may belong to another."""
        self._session_s = session_s
        self._lost = lost
        self._clock = clock
        self._tick_s = clock()

    def start(self) -> None:
        """Begin to tick, as long as the process lives."""
        self._tick_s = self._clock()
        threading.Thread(target=self._run, name="lease", daemon=True).start()

    def _run(self) -> None:
        while True:
            self.tick()
            time.sleep(TICK_S)

    def tick(self) -> None:
        """The process runs."""
        self.check()
        self._tick_s = self._clock()

    def check(self) -> None:
        """Before a write: lost if the process has not run for a session."""
        pause_s = self._clock() - self._tick_s
        if pause_s >= self._session_s:
            self._lost(pause_s)
