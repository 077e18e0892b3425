"""What the demo shows, gathered from where anyone could: the verdict and alert topics, and the roles."""

from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from alerts.events import AlertEvent, EventState, Series, decode_event
from alerts.state import Phase
from monitor.conclusions import band
from monitor.config import Config
from monitor.verdicts import Direction, Verdict, decode_verdict
from streams.clients import common_settings
from streams.demo.snapshot import DemoSnapshot, RoleHealth, SliceRow
from streams.supervisor import Statuses

_PHASES = {
    EventState.PENDING: Phase.PENDING,
    EventState.FIRING: Phase.FIRING,
    EventState.RESOLVED: Phase.INACTIVE,
}


class DemoFeed:
    """Follows verdicts and alerts from their beginning, and makes snapshots."""

    def __init__(self, config: Config) -> None:
        """The first rule is the one whose slices are shown."""
        self._config = config
        self._rule = config.rules[0]
        self._topics = config.kafka.topics
        self.read = 0
        """Events that aggregate has read."""
        self._verdicts = 0
        self._latest: dict[str, Verdict] = {}
        self._trends: dict[str, list[float]] = {}
        self._alerts: list[AlertEvent] = []
        self._phases: dict[Series, Phase] = {}
        self._sides: dict[Series, Direction] = {}
        self._consumer = Consumer(
            common_settings(config.kafka)
            | {"group.id": "fairstream-demo", "enable.auto.commit": False, "fetch.wait.max.ms": 50}
        )
        self._consumer.assign(
            [
                TopicPartition(topic, partition, 0)
                for topic in (self._topics.verdicts, self._topics.alerts)
                for partition in range(config.kafka.internal_partitions)
            ]
        )

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def _read(self) -> None:
        for message in self._consumer.consume(10_000, 0.02):
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF and error.fatal():
                    raise KafkaException(error)
                continue
            value = message.value() or b""
            if message.topic() == self._topics.alerts:
                event = decode_event(value)
                self._alerts.append(event)
                self._phases[event.series] = _PHASES[event.state]
                self._sides[event.series] = event.verdict.direction
            else:
                self._note(decode_verdict(value))

    def _note(self, verdict: Verdict) -> None:
        self._verdicts += 1
        if verdict.rule == self._rule.name:
            self._latest[verdict.slice_] = verdict
            if verdict.share is not None:
                self._trends.setdefault(verdict.slice_, []).append(verdict.share)

    def complete(self, statuses: Statuses) -> bool:
        """Whether everything that monitor and notify have written is here."""
        monitor, notify = statuses["monitor"], statuses["notify"]
        if monitor is None or notify is None:
            return False
        verdicts, alerts = sum(monitor["verdicts"].values()), sum(notify["transitions"].values())
        return bool(self._verdicts >= verdicts and len(self._alerts) >= alerts)

    def snapshot(self, statuses: Statuses, progress: float) -> DemoSnapshot:
        """The picture of now; ``progress`` is of the replay, 0 to 1."""
        self._read()
        aggregate = statuses.get("aggregate") or {}
        topics: list[dict[str, Any]] = list(aggregate.get("topics", {}).values())
        self.read = sum(topic["read"] for topic in topics)
        watermarks = [ms for ms in aggregate.get("watermarks", {}).values() if ms]
        return DemoSnapshot(
            title="fairstream demo: the Open Bandit log, as it happened",
            dimension=self._rule.dimension,
            progress=progress,
            watermark_ms=min(watermarks, default=None),
            read=self.read,
            accepted=sum(topic["accepted"] for topic in topics),
            rejected=sum(sum(topic["rejected"].values()) for topic in topics),
            rows=[self._row(verdict) for verdict in self._latest.values()],
            alerts=tuple(self._alerts),
            roles={
                role: RoleHealth.STARTING if status is None else RoleHealth.READY
                for role, status in statuses.items()
            },
            tolerance=band(self._rule.tolerance),
        )

    def _row(self, verdict: Verdict) -> SliceRow:
        phase = self._phases.get(verdict.series, Phase.INACTIVE)
        return SliceRow(
            slice_=verdict.slice_,
            share=verdict.share,
            reference=verdict.reference,
            estimate=verdict.estimate,
            trend=self._trends.get(verdict.slice_, []),
            phase=phase,
            direction=Direction.NONE if phase is Phase.INACTIVE else self._sides[verdict.series],
        )
