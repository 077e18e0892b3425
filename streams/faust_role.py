"""What monitor and notify are: a Faust app that follows one topic, keeps one table, and tells of itself."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from confluent_kafka import Consumer
from faust.types import TP, EventT, StreamT
from prometheus_client import CollectorRegistry
from prometheus_client import Counter as MetricCounter

from monitor.config import Config
from streams.build import register_info
from streams.clients import group_reader
from streams.durable import durable_table
from streams.exits import stop_before_acknowledging, stop_before_writing
from streams.faust_app import Beat, add_pages, build_app, bury, recovered, run_app
from streams.lease import Lease
from streams.liveness import Stall, committed_reach
from streams.memory import return_freed_memory

log = logging.getLogger(__name__)

JOINING = 10
"""Joining the group and recovering the state may take so many times longer than a record."""


class FaustRole(ABC):
    """The app of a role, and what is the same for every role."""

    def __init__(self, config: Config, role: str, instance: str, port: int, topic: str, table: str) -> None:
        """Build the app that follows ``topic``; nothing runs yet."""
        self.config = config
        self.counts: Counter[str] = Counter()
        self.app = build_app(config, role, instance, port)
        self.registry = CollectorRegistry()
        self._role = role
        self._topic = topic
        self._next_offset: dict[int, int] = {}
        self._input = self.app.topic(topic, key_type=bytes, value_type=bytes)
        self._dead_letter = self.app.topic(config.kafka.topics.dead_letter, key_type=bytes, value_type=bytes)
        self.lease = Lease(config.kafka.session_timeout / 1000, stop_before_writing)
        self._table = durable_table(self.app, table, config.kafka.internal_partitions, self.lease)
        self._events = MetricCounter(
            "fairstream_events",
            "Events by what became of them.",
            ["role", "topic", "outcome"],
            registry=self.registry,
        )
        register_info(self.registry, config)
        stalled_after_s = config.http.stalled_after / 1000
        self._beat = Beat(self.app, stalled_after_s)
        self._stall = Stall(stalled_after_s)
        self._joining = Stall(JOINING * stalled_after_s)
        self.app.timer(min(stalled_after_s / 6, 5.0))(self._look)
        self.app.agent(self._input, name=table, concurrency=1)(self._follow)
        self.app.on_partitions_revoked.connect(cast(Any, self._on_revoked))
        add_pages(self.app, self.registry, lambda: self.healthy, lambda: recovered(self.app), self.status)

    @abstractmethod
    async def handle(self, event: EventT[bytes]) -> None:
        """Deal with one record of the topic, durably; what it raises ends the process."""

    @abstractmethod
    def release(self, partition: int) -> None:
        """Forget a partition that another process may own now."""

    @abstractmethod
    def status(self) -> dict[str, Any]:
        """Progress for ``run``."""

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """Totals since the start."""

    def run(self, summary: Path | None) -> int:
        """Run until SIGTERM or SIGINT, write the summary; the exit code."""
        return_freed_memory()
        self.lease.start()
        return run_app(self.app, summary, self.summary)

    async def _follow(self, stream: StreamT[bytes]) -> None:
        async for event in stream.events():
            try:
                await self.handle(event)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - it ends the process, before the event is acknowledged
                stop_before_acknowledging(error)
            self._next_offset[event.message.partition] = event.message.offset + 1

    @cached_property
    def _group(self) -> Consumer:
        return group_reader(self.config.kafka, self._role)

    @property
    def healthy(self) -> bool:
        """Whether the event loop turns, and every partition with records makes progress."""
        return self._beat.alive and not self._stall.stalled and not self._joining.stalled

    async def _look(self) -> None:
        """Ask the broker how far the group has come; a state that is being recovered has more time."""
        ready = recovered(self.app)
        assigned = self.app.consumer.assignment() if ready else ()
        mine = [(tp.topic, tp.partition) for tp in assigned if tp.topic == self._topic]
        everyones = [(self._topic, number) for number in range(self.config.kafka.internal_partitions)]
        reached = await asyncio.to_thread(committed_reach, self._group, mine or everyones)
        self._stall.look(reached if mine else {})
        self._joining.look(reached if reached is None or not ready else {})

    async def _on_revoked(self, _: Any, /, *revoked: Any, **__: Any) -> None:
        for tp in set().union(*revoked):
            if tp.topic == self._topic:
                self._next_offset.pop(tp.partition, None)
                self._table.terms.release(tp.partition)
                self.release(tp.partition)

    def count(self, outcome: str, count: int = 1) -> None:
        """Note what became of records."""
        self.counts[outcome] += count
        self._events.labels(self._role, self._topic, outcome).inc(count)

    def refuse_newer(self, error: Exception) -> None:
        """A record of a newer fairstream: counted and logged, left alone."""
        log.warning("refused a record of %s: %s", self._topic, error)
        self.count("newer_version")

    async def bury(self, event: EventT[bytes], detail: str) -> None:
        """A record that is none of ours: counted, and in the dead-letter topic."""
        self.count("malformed")
        await bury(self._dead_letter, event, detail)

    def input_lag(self) -> dict[tuple[str, int], int]:
        """Records of the topic that are not handled yet, per partition, as last known."""
        lags = {}
        for partition, position in self._next_offset.items():
            end = self.app.consumer.highwater(TP(self._topic, partition)) or position
            lags[self._topic, partition] = max(0, end - position)
        return lags
