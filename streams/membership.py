"""Whether a Faust process still has its place in its consumer group."""

import asyncio
import time
from collections.abc import Callable
from typing import Any


class Membership:
    """Notices when aiokafka has lost the group for good, where it would go on in silence.

    Two cases, both seen under chaos:

    - Another process joined under the same instance name. Kafka gives the name to whoever joined last;
      aiokafka's heartbeats do not carry it, so the loser is told only that it is unknown, joins again, and
      takes the name back: the two go round for ever. A member that was known a moment ago has been replaced.
    - The group could not be joined. aiokafka keeps the error until somebody polls, and does nothing else;
      Faust does not poll while it waits for the join.
    """

    def __init__(
        self,
        coordinator: Any,
        session_s: float,
        lost: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Hook into an aiokafka ``GroupCoordinator`` that has not joined yet.

        ``session_s``: the session timeout in seconds. A member that was silent for longer has expired and was
        not replaced, and may join again. ``lost`` takes the reason, and should not return.
        """
        self._session_s = session_s
        self._lost = lost
        self._clock = clock
        self._coordinator = coordinator
        self._heartbeat: Callable[[], Any] = coordinator._do_heartbeat
        self._push: Callable[[Exception], Any] = coordinator._push_error_to_user
        self._known_s = clock() - session_s
        coordinator._do_heartbeat = self._do_heartbeat
        coordinator._push_error_to_user = self._push_error
        coordinator._coordination_task.add_done_callback(self._ended)

    async def _do_heartbeat(self) -> bool:
        before = self._coordinator.member_id
        good: bool = await self._heartbeat()
        if good:
            self._known_s = self._clock()
        elif self._coordinator.member_id != before and self._clock() - self._known_s < self._session_s:
            self._lost("another process has joined under the same instance name")
        return good

    def _push_error(self, error: Exception) -> Any:
        self._lost(f"{type(error).__name__}: {error}")
        return self._push(error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._lost(f"{type(error).__name__}: {error}")
