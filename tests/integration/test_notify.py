from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from alerts.events import AlertEvent, decode_event, encode_event
from alerts.lifecycle import advance
from monitor.config import Config, parse_config
from monitor.verdicts import Verdict, encode_verdict
from streams.topics import create_topics
from tests.conftest import Spawn
from tests.support.alertmanager import Alertmanager
from tests.support.ports import free_port
from tests.support.processes import Child
from tests.support.prometheus import check_metrics
from tests.support.receiver import Answer, Receiver
from tests.support.timelines import a_verdict, breach, insufficient, ok
from tests.support.wait import wait_for

pytestmark = pytest.mark.integration

WAIT_S = 60.0

_CONFIG = """
surfaces: [home]
windows: [{{length: 5m, slide: 10s}}]
attributes: {{item: {{skin_tone: {{}}}}}}
rules:
  - name: {rule}
    metric: exposure_share
    dimension: item.skin_tone
    window: 5m
    compare: reference
    reference: {{uniform: true}}
    for: 20s
    severity: critical
    runbook_url: https://runbooks.example/skin-tone
alerts:
  resend: 1s
  sinks: {sinks}
kafka:
  bootstrap: "{bootstrap}"
  group_prefix: fs-{unique}
  internal_partitions: 2
  session_timeout: 3s
  topics:
    impressions: impressions-{unique}
    engagements: engagements-{unique}
    panes: panes-{unique}
    verdicts: verdicts-{unique}
    alerts: alerts-{unique}
    dead_letter: dead-letter-{unique}
http: {{notify_port: {port}}}
"""


class Notify:
    """The notify role as a process, its topics and its sinks."""

    def __init__(
        self, bootstrap: str, unique: str, directory: Path, spawn: Spawn, instance: str = "n-1"
    ) -> None:
        self.instance = instance
        self.port = free_port()
        self.bootstrap = bootstrap
        self.unique = unique
        self._file = directory / f"{instance}.yaml"
        self._spawn = spawn
        self.summary_file = directory / f"{instance}.json"
        self.child: Child | None = None
        self._producer = Producer({"bootstrap.servers": bootstrap})

    def configure(self, sinks: Sequence[dict[str, Any]], rule: str = "skin-tone") -> Config:
        """Write the configuration, and create the topics."""
        text = _CONFIG.format(
            rule=rule,
            sinks=json.dumps(list(sinks)),
            bootstrap=self.bootstrap,
            unique=self.unique,
            port=self.port,
        )
        self._file.write_text(text)
        self.config = parse_config(text)
        create_topics(self.config)
        return self.config

    def start(self) -> Child:
        """Start the process and wait until it is ready."""
        options = [
            "--config",
            str(self._file),
            "--instance",
            self.instance,
            "--summary",
            str(self.summary_file),
        ]
        self.child = self._spawn([sys.executable, "-m", "streams", "notify", *options], name="notify")
        wait_for(self._ready, WAIT_S, "notify to be ready", watch=[self.child])
        return self.child

    def _ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    @property
    def status(self) -> dict[str, Any]:
        """Its own account of itself."""
        found: dict[str, Any] = httpx.get(f"http://127.0.0.1:{self.port}/-/status").json()
        return found

    @property
    def metrics(self) -> str:
        """Its metrics page."""
        return httpx.get(f"http://127.0.0.1:{self.port}/metrics").text

    def write(self, topic: str, *values: bytes) -> None:
        """Append records of the surface to a topic."""
        for value in values:
            self._producer.produce(topic, value, b"home")
        assert self._producer.flush(WAIT_S) == 0

    def judge(self, *verdicts: Verdict | bytes) -> None:
        """Publish verdicts, or bytes that are none, and wait until they are handled."""
        assert self.child is not None
        before = self.status["verdicts_handled"]
        values = [each if isinstance(each, bytes) else encode_verdict(each) for each in verdicts]
        self.write(self.config.kafka.topics.verdicts, *values)
        wait_for(
            lambda: self.status["verdicts_handled"] >= before + len(verdicts),
            WAIT_S,
            lambda: f"{len(verdicts)} verdicts to be handled: {self.status}",
            watch=[self.child],
        )

    def history(self) -> list[AlertEvent]:
        """Everything on ``fairness.alerts``."""
        return [decode_event(value) for value in self._read(self.config.kafka.topics.alerts)]

    def dead_letters(self) -> list[bytes]:
        """Everything on ``fairness.dead-letter``."""
        return self._read(self.config.kafka.topics.dead_letter)

    def _read(self, topic: str) -> list[bytes]:
        consumer = Consumer(
            {"bootstrap.servers": self.bootstrap, "group.id": "unused", "enable.partition.eof": True}
        )
        partitions = range(self.config.kafka.internal_partitions)
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        values, open_ = [], set(partitions)
        while open_:
            message = consumer.poll(WAIT_S)
            assert message is not None, f"{topic} has no end"
            if message.error() is not None:
                open_.discard(message.partition())
            else:
                values.append(message.value() or b"")
        consumer.close()
        return values


def told(events: Sequence[AlertEvent]) -> list[tuple[str, str]]:
    """Return state and reason of events."""
    return [(event.state.value, event.reason.value) for event in events]


@pytest.fixture
def notify(bootstrap: str, unique: str, tmp_path: Path, spawn: Spawn) -> Notify:
    """Return the role, not configured and not started."""
    return Notify(bootstrap, unique, tmp_path, spawn)


def pair_of_sinks(manager: Alertmanager, receiver: Receiver) -> list[dict[str, Any]]:
    """Return the configuration of a sink that forgets and one that remembers."""
    return [{"type": "alertmanager", "urls": [manager.url]}, {"type": "webhook", "url": receiver.url}]


def states_told(receiver: Receiver) -> list[str]:
    """Return the states of all alerts that a webhook got."""
    return [alert["state"] for payload in receiver.payloads for alert in payload["alerts"]]


def breaches(*seconds: int) -> list[Verdict]:
    """Return breaches at these seconds."""
    return [a_verdict(breach().verdict, at_s, 0.5, direction=breach().direction) for at_s in seconds]


def oks(*seconds: int) -> list[Verdict]:
    """Return `ok` verdicts at these seconds."""
    return [a_verdict(ok().verdict, at_s, 1.0) for at_s in seconds]


def test_verdicts_become_alerts_and_reach_the_sinks(
    notify: Notify, alertmanager: Callable[[], Alertmanager]
) -> None:
    """Pending, firing, resolved: in the history, in the metrics, in Alertmanager and at a webhook."""
    manager = alertmanager()
    with Receiver() as receiver:
        notify.configure(pair_of_sinks(manager, receiver))
        child = notify.start()
        notify.judge(*oks(0), *breaches(10, 20))
        series = '{dimension="item.skin_tone",rule="skin-tone",slice="4",surface="home"}'
        assert f"fairness_alert_state{series} 1.0" in notify.metrics
        assert states_told(receiver) == []
        notify.judge(*breaches(30))
        assert f"fairness_alert_state{series} 2.0" in notify.metrics
        shown = wait_for(lambda: manager.alerts('alertname="skin-tone"'), WAIT_S, "the alert", watch=[child])
        assert shown[0]["labels"]["severity"] == "critical"
        notify.judge(*oks(40))
        wait_for(lambda: not manager.alerts(), WAIT_S, "its end", watch=[child])
        wait_for(lambda: len(states_told(receiver)) == 2, WAIT_S, "both transitions", watch=[child])
        assert check_metrics(notify.metrics) == []
        child.stop()
    assert child.exit_code == 0
    assert states_told(receiver) == ["firing", "resolved"]
    assert told(notify.history()) == [
        ("pending", "breach_started"),
        ("firing", "breach_held"),
        ("resolved", "cleared"),
    ]
    summary = json.loads(notify.summary_file.read_text())
    (alert,) = summary["alerts"]
    assert (alert["fired_ms"] - alert["since_ms"], alert["resolved_ms"] - alert["since_ms"]) == (
        20_000,
        30_000,
    )
    assert summary["records"] == {"ok": 2, "breach": 3}


def test_a_killed_process_takes_up_its_alerts(
    notify: Notify, alertmanager: Callable[[], Alertmanager]
) -> None:
    """After kill -9 what fires is sent again to Alertmanager, and told to no one a second time."""
    manager = alertmanager()
    with Receiver() as receiver:
        notify.configure(pair_of_sinks(manager, receiver))
        child = notify.start()
        notify.judge(*breaches(10, 20, 30))
        wait_for(lambda: states_told(receiver) == ["firing"], WAIT_S, "the alert", watch=[child])
        wait_for(manager.alerts, WAIT_S, "the alert", watch=[child])
        notify.judge(a_verdict(insufficient().verdict, 40))
        child.kill()
        wait_for(lambda: not manager.alerts(), WAIT_S, "Alertmanager to stop believing")
        again = notify.start()
        wait_for(manager.alerts, WAIT_S, "the alert, without a verdict", watch=[again])
        notify.judge(*breaches(20, 30), *oks(50))
        wait_for(lambda: len(states_told(receiver)) == 2, WAIT_S, "its end", watch=[again])
        again.stop()
    assert states_told(receiver) == ["firing", "resolved"]
    history = notify.history()
    assert [event.state for event in history] == ["pending", "firing", "resolved"]
    assert len({event.id for event in history}) == 1


def test_what_a_crashed_process_wrote_into_the_history_is_not_written_again(notify: Notify) -> None:
    """It died after the event and before its state: the same verdict comes again, the event does not."""
    config = notify.configure([])
    first = breaches(10)[0]
    _, event = advance(None, first, config.rules[0])
    assert event is not None
    notify.write(config.kafka.topics.alerts, encode_event(event))
    child = notify.start()
    notify.judge(*breaches(10, 20, 30))
    child.stop()
    assert [event.state for event in notify.history()] == ["pending", "firing"]


def test_what_a_sink_could_not_take_is_told_after_a_restart(notify: Notify) -> None:
    """An alert that fired while the sink was down is not lost with the process."""
    with Receiver(Answer(503)) as receiver:
        notify.configure([{"type": "webhook", "url": receiver.url}])
        child = notify.start()
        notify.judge(*breaches(10, 20, 30))
        wait_for(lambda: receiver.posts, WAIT_S, "a try", watch=[child])
        child.kill()
        receiver.answers = [Answer(200)]
        before = len(receiver.posts)
        again = notify.start()
        wait_for(lambda: len(receiver.posts) > before, WAIT_S, "the alert", watch=[again])
        assert receiver.payloads[-1]["alerts"][0]["state"] == "firing"


def test_another_worker_takes_over(
    notify: Notify,
    bootstrap: str,
    unique: str,
    tmp_path: Path,
    spawn: Spawn,
    alertmanager: Callable[[], Alertmanager],
) -> None:
    """When one of two processes dies, the other speaks for its alerts, and repeats nothing."""
    manager = alertmanager()
    other = Notify(bootstrap, unique, tmp_path, spawn, instance="n-2")
    with Receiver() as receiver:
        for each in (notify, other):
            each.configure(pair_of_sinks(manager, receiver))
        first = notify.start()
        notify.judge(*breaches(10, 20, 30))
        wait_for(
            lambda: states_told(receiver) == ["firing"] and manager.alerts(), WAIT_S, "it", watch=[first]
        )
        second = other.start()
        first.kill()
        firing = 'rule="skin-tone",slice="4",surface="home"} 2.0'
        wait_for(lambda: firing in other.metrics, WAIT_S, "the alert to move", watch=[second])
        wait_for(manager.alerts, WAIT_S, "the alert", watch=[second])
        other.judge(*oks(40))
        wait_for(lambda: not manager.alerts(), WAIT_S, "its end", watch=[second])
        wait_for(lambda: len(states_told(receiver)) == 2, WAIT_S, "its end", watch=[second])
    assert states_told(receiver) == ["firing", "resolved"]


def test_a_removed_rule_ends_its_alerts(notify: Notify, alertmanager: Callable[[], Alertmanager]) -> None:
    """With a new configuration the alert is resolved everywhere, though no verdict comes."""
    manager = alertmanager()
    with Receiver() as receiver:
        notify.configure(pair_of_sinks(manager, receiver))
        child = notify.start()
        notify.judge(*breaches(10, 20, 30))
        wait_for(
            lambda: states_told(receiver) == ["firing"] and manager.alerts(), WAIT_S, "it", watch=[child]
        )
        child.stop()
        notify.configure(pair_of_sinks(manager, receiver), rule="another")
        again = notify.start()
        wait_for(lambda: states_told(receiver) == ["firing", "resolved"], WAIT_S, "its end", watch=[again])
        wait_for(lambda: not manager.alerts(), WAIT_S, "its end in Alertmanager", watch=[again])
        notify.judge(*breaches(40))
        assert notify.status["records"] == {"unwatched": 1}
    assert told(notify.history())[-1] == ("resolved", "rule_removed")


def test_what_is_no_verdict_is_counted_and_kept(notify: Notify) -> None:
    """Noise goes to the dead-letter topic; a newer version is refused; verdicts that follow are judged."""
    notify.configure([])
    notify.start()
    newer = encode_verdict(breach()).replace(b'"version":1', b'"version":2')
    notify.judge(b"\x00noise", newer, *oks(10))
    assert notify.status["records"] == {"malformed": 1, "newer_version": 1, "ok": 1}
    assert notify.dead_letters() == [b"\x00noise"]
    assert 'fairstream_events_total{outcome="malformed",role="notify"' in notify.metrics


def test_a_missing_secret_is_a_configuration_error(notify: Notify, tmp_path: Path, spawn: Spawn) -> None:
    """The process does not start, and says which file it misses, with exit code 78."""
    notify.configure([{"type": "slack", "url_file": str(tmp_path / "absent")}])
    command = [sys.executable, "-m", "streams", "notify", "--config", str(tmp_path / "n-1.yaml")]
    child = spawn(command, name="notify")
    wait_for(lambda: child.exit_code == 78, WAIT_S, lambda: f"exit code 78\n{child.describe()}")
    assert "absent" in child.describe()
