"""The roles as processes on a broker, with topics and ports of a test's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import httpx
import yaml
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from monitor.config import Config, parse_config
from monitor.snapshots import Kind, PaneSnapshot, PanesRecord, decode_record, is_partial, supersede
from streams.clients import producer_settings
from streams.topics import create_topics, topic_specs
from tests.conftest import Spawn
from tests.support.ports import free_port
from tests.support.processes import Child
from tests.support.wait import wait_for

WAIT_S = 90.0

BASE: dict[str, Any] = {
    "surfaces": ["home"],
    "attributes": {"viewer": {"gender": {}}, "item": {"skin_tone": {}}},
    "time": {"pane": "10s", "allowed_lateness": "20s", "idle_timeout": "1s", "correction_horizon": "20s"},
    "windows": [{"length": "1m", "slide": "10s"}],
    "engagement": {"actions": ["save"], "attribution_window": "1m", "pane": "10s"},
    "limits": {"suppress_below": 1, "min_viewers": 0},
    "flush_interval": "200ms",
}


class Received(NamedTuple):
    """A record as it stands in a topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, str]
    record_ms: int
    """The record's own time."""


class Pipeline:
    """A configuration with its own topics, and processes that run it."""

    def __init__(self, bootstrap: str, unique: str, directory: Path, spawn: Spawn, **changes: Any) -> None:
        """``changes`` replace whole sections of :data:`BASE`."""
        self.file = directory / f"fairstream-{unique}.yaml"
        self._directory = directory
        self._spawn = spawn
        names = ("impressions", "engagements", "panes", "verdicts", "alerts", "dead_letter")
        data = BASE | changes
        data["kafka"] = {
            "bootstrap": bootstrap,
            "group_prefix": f"fs-{unique}",
            "partitions": 2,
            "internal_partitions": 2,
            "session_timeout": "3s",
            "topics": {name: f"{name}-{unique}" for name in names},
        } | changes.get("kafka", {})
        ports = {f"{role}_port": free_port() for role in ("aggregate", "monitor", "notify")}
        data["http"] = ports | changes.get("http", {})
        self.file.write_text(yaml.safe_dump(data), encoding="utf-8")
        self.config = self.reload()
        create_topics(self.config)
        own = {"log_level": 0, "client.id": f"traffic-{unique}"}  # a throttled role does not throttle it
        self.producer = Producer(producer_settings(self.config.kafka) | own)

    def reload(self) -> Config:
        """Read the configuration from its file, which a test may have changed."""
        return parse_config(self.file.read_text(encoding="utf-8"), str(self.file))

    @property
    def topics(self) -> Any:
        """Topic names."""
        return self.config.kafka.topics

    def command(self, role: str, *options: str, file: Path | None = None) -> list[str]:
        """Command line of a role or command with this configuration."""
        return [sys.executable, "-m", "streams", role, "--config", str(file or self.file), *options]

    def start(self, role: str, instance: str = "one", port: int | None = None) -> Child:
        """Start one role; a second process of it needs a port of its own."""
        file = self.file
        if port is not None:
            data = yaml.safe_load(self.file.read_text(encoding="utf-8"))
            data["http"][f"{role}_port"] = port
            file = self._directory / f"{role}-{instance}.yaml"
            file.write_text(yaml.safe_dump(data), encoding="utf-8")
        return self._spawn(self.command(role, "--instance", f"{role}-{instance}", file=file), name=role)

    def run_to_the_end(self) -> dict[str, Any]:
        """`fairstream run --until-end`, and the summary it writes."""
        summary = self._directory / "summary.json"
        child = self._spawn(self.command("run", "--until-end", "--summary", str(summary)), name="run")
        code = child.wait(WAIT_S)
        assert code == 0, child.describe()
        found: dict[str, Any] = json.loads(summary.read_text(encoding="utf-8"))
        return found

    def url(self, role: str, path: str) -> str:
        """Address of a page of a role."""
        port = getattr(self.config.http, f"{role}_port")
        return f"http://127.0.0.1:{port}{path}"

    def status(self, role: str) -> dict[str, Any] | None:
        """A role's own account of itself; None while it does not answer."""
        try:
            found: dict[str, Any] = httpx.get(self.url(role, "/-/status"), timeout=5.0).json()
        except httpx.TransportError:
            return None
        return found

    def wait_at_end(self, child: Child, read: int) -> dict[str, Any]:
        """Wait until aggregate has read so many events, and published everything."""

        def at_end() -> dict[str, Any] | None:
            status = self.status("aggregate")
            if status is None or not status["at_end"]:
                return None
            return status if sum(topic["read"] for topic in status["topics"].values()) >= read else None

        return wait_for(at_end, WAIT_S, "aggregate to be at the end", watch=[child])

    def write(
        self, topic: str, values: Sequence[bytes | None], key: bytes = b"u", partition: int = 0
    ) -> None:
        """Append records to a partition."""
        for value in values:
            self.producer.produce(topic, value, key, partition=partition)
        assert self.producer.flush(30.0) == 0

    def read(self, *topics: str) -> Iterator[Received]:
        """Everything in the topics now, from their beginning."""
        partitions = {spec.name: spec.partitions for spec in topic_specs(self.config)}
        waiting = {(topic, p) for topic in topics for p in range(partitions[topic])}
        consumer = Consumer(
            {
                "bootstrap.servers": self.config.kafka.bootstrap,
                "group.id": "reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 20,  # the end is told by an empty fetch, also while heartbeats come
                "fetch.message.max.bytes": 40_000_000,
                "fetch.max.bytes": 80_000_000,
                "receive.message.max.bytes": 100_000_000,
            }
        )
        consumer.assign([TopicPartition(topic, p, 0) for topic, p in sorted(waiting)])
        try:
            while waiting:
                message = consumer.poll(30.0)
                assert message is not None, f"no answer for {waiting}"
                error = message.error()
                if error is None:
                    yield _received(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    waiting.discard((message.topic() or "", message.partition() or 0))
        finally:
            consumer.close()

    def panes(self) -> dict[tuple[str, Kind, int, int, int], PaneSnapshot]:
        """The superseding snapshot of every (surface, kind, source partition, pane, part)."""
        held: dict[tuple[str, Kind, int, int, int], PaneSnapshot] = {}
        for received in self.read(self.topics.panes):
            record = decode_record(received.value or b"")
            if isinstance(record, PanesRecord):
                for partition, snapshot in record.each():
                    key = (record.surface, record.kind, partition, snapshot.pane_start_ms, snapshot.part)
                    before = held.get(key, snapshot)
                    if not is_partial(before, snapshot):
                        held[key] = supersede(before, snapshot)
        return held


def _received(message: Message) -> Received:
    pairs = cast(list[tuple[str, bytes | None]], message.headers() or [])
    headers = {name: (value or b"").decode() for name, value in pairs}
    return Received(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        message.key(),
        message.value(),
        headers,
        message.timestamp()[1],
    )
