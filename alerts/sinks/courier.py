"""Carries what is due in an outbox to the sinks, by the wall clock."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from alerts.delivery import Mailbox, Outbox
from alerts.events import AlertEvent
from alerts.notices import Delivery, Notice
from alerts.sinks.base import Sink
from alerts.state import AlertState

Observe = Callable[[str, Sequence[Notice], Delivery], None]
"""Told of every delivery: the sink's name, what it was offered, and its answer."""


class Courier:
    """One task for each sink, so that a slow one keeps no other waiting.

    Args:
        outbox: what waits for the sinks.
        sinks: one for each mailbox of the outbox.
        now_ms: the wall clock, milliseconds since the epoch.
        observe: told of every delivery.
    """

    def __init__(
        self, outbox: Outbox, sinks: Sequence[Sink], now_ms: Callable[[], int], observe: Observe
    ) -> None:
        self.outbox = outbox
        self._sinks = sinks
        self._now_ms = now_ms
        self._observe = observe
        self._wakes = {sink.name: asyncio.Event() for sink in sinks}
        self._settled = asyncio.Event()

    def put(self, event: AlertEvent) -> list[str]:
        """Take an event; the names of the sinks that will be told."""
        names = self.outbox.put(event, self._now_ms())
        self._wake()
        return names

    def restore(self, state: AlertState) -> None:
        """Take up a series after a restart or a rebalance."""
        self.outbox.restore(state, self._now_ms())
        self._wake()

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for sink in self._sinks:
                tasks.create_task(self._serve(sink), name=f"sink {sink.name}")

    async def drain(self, timeout_ms: int) -> bool:
        """Wait until no transition is left untold, at most so long; whether none is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_ms / 1000):
                while self.outbox.waiting():
                    self._settled.clear()
                    await self._settled.wait()
        return not self.outbox.waiting()

    def _wake(self) -> None:
        for wake in self._wakes.values():
            wake.set()

    async def _serve(self, sink: Sink) -> None:
        mailbox = self.outbox.mailboxes[sink.name]
        while True:
            notices = mailbox.due(self._now_ms())
            if not notices:
                await self._rest(mailbox, self._wakes[sink.name])
                continue
            delivery = await sink.deliver(notices)
            mailbox.settle(notices, delivery, self._now_ms())
            self._observe(sink.name, notices, delivery)
            self._settled.set()

    async def _rest(self, mailbox: Mailbox, wake: asyncio.Event) -> None:
        """Until something is due, or something new was put."""
        wake.clear()
        next_ms = mailbox.next_ms()
        pause_s = None if next_ms is None else max(0, next_ms - self._now_ms()) / 1000
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await wake.wait()
