"""A Faust table that survives crashes and stale owners: writes are waited for, and carry their term."""

import asyncio
import time
from collections.abc import Iterable
from typing import Any, cast

import faust
from faust.types import TP, EventT, FutureMessage

from streams.lease import Lease
from streams.terms import HEADER, Term, Terms


class DurableTable(faust.Table[bytes, bytes]):
    """A plain table whose changelog records can be waited for, and count only if their writer was the owner.

    Faust enqueues a changelog record and goes on; if sending fails it logs a warning. Here an
    event is acknowledged only after :meth:`settled`. Keys begin with the number of their partition
    and ``|``, so that an owner can tell its own.
    """

    def __init__(self, *args: Any, lease: Lease, **kwargs: Any) -> None:
        """As :class:`faust.Table`; ``lease`` is checked before each write."""
        super().__init__(*args, **kwargs)
        self.terms = Terms(time.time_ns() // 1_000_000)
        self._lease = lease
        self._pending: list[FutureMessage] = []

    def info(self) -> Any:
        """Arguments that Faust copies a table by."""
        return {**super().info(), "lease": self._lease}

    def send_changelog(
        self,
        partition: int | None,
        key: Any,
        value: Any,
        key_serializer: Any = None,
        value_serializer: Any = None,
    ) -> FutureMessage:
        """Send under this owner's term, and remember to wait."""
        self._lease.check()
        assert partition is not None, "a record of a table belongs to a partition"
        term = self.terms.own(partition, self.app.consumer_generation_id)
        future = self.changelog_topic.send_soon(
            key=key,
            value=value,
            partition=partition,
            key_serializer=key_serializer or self.key_serializer,
            value_serializer=value_serializer or self.value_serializer,
            headers={HEADER: term.encode()},
            callback=self._on_changelog_sent,
            eager_partitioning=True,
        )
        self._pending.append(future)
        return future

    async def settled(self) -> None:
        """Wait until the broker has all changes; raises what the sending raised."""
        pending, self._pending = self._pending, []
        if pending:
            await asyncio.gather(*pending)

    def apply_changelog_batch(self, batch: Iterable[EventT[Any]]) -> None:
        """Recovery: take the records that their partition's owner of that time has written."""
        super().apply_changelog_batch([event for event in batch if self._admits(event)])

    def _admits(self, event: EventT[Any]) -> bool:
        headers = dict(event.message.headers or {})
        return self.terms.admits(event.message.partition, Term.decode(headers.get(HEADER)))

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Forget partitions that are lost: should they come back, they are recovered from the beginning."""
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)
        kept = {tp.partition for tp in assigned if tp.topic == self.changelog_topic_name}
        for key in [key for key in self.data if partition_of(key) not in kept]:
            del self.data[key]
        for partition in {tp.partition for tp in revoked} - kept:
            self.terms.forget(partition)


def partition_of(key: bytes) -> int:
    """The partition that a key of a table belongs to.

    >>> partition_of(b"3|raw|home")
    3
    """
    return int(key.partition(b"|")[0])


def durable_table(app: faust.App, name: str, partitions: int, lease: Lease) -> DurableTable:
    """A table of bytes, with as many partitions as the topic that feeds it."""
    table = DurableTable(
        app,
        name=name,
        key_type=bytes,
        value_type=bytes,
        partitions=partitions,
        help="",
        default=None,
        lease=lease,
    )
    return cast(DurableTable, app.tables.add(table))
