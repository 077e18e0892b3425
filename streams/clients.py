"""Settings of Kafka clients, made from the configuration in one place."""

import ssl
from pathlib import Path
from typing import Any

import faust
from confluent_kafka import Consumer
from faust.types.auth import SASLMechanism

from monitor.config import Kafka
from monitor.pane_sums import RECORD_BYTES

MAX_RECORD_BYTES = 32 * 1024 * 1024
"""Largest record that the producers send and the dead-letter topic takes."""


class SecretFileError(RuntimeError):
    """A file that the configuration names for a secret cannot be read."""


def _secret(path: str | None) -> str:
    if path is None:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SecretFileError(f"cannot read {path}: {error.strerror}") from None


def common_settings(kafka: Kafka) -> dict[str, Any]:
    """What every librdkafka client needs: the cluster and how to log in."""
    settings: dict[str, Any] = {
        "bootstrap.servers": kafka.bootstrap,
        "security.protocol": kafka.protocol,
        "log_level": 3,
    }
    if kafka.sasl_mechanism:
        settings["sasl.mechanism"] = kafka.sasl_mechanism
        settings["sasl.username"] = _secret(kafka.username_file)
        settings["sasl.password"] = _secret(kafka.password_file)
    if kafka.ca_file:
        settings["ssl.ca.location"] = kafka.ca_file
    return settings


def producer_settings(kafka: Kafka) -> dict[str, Any]:
    """A producer that keeps order and waits for all in-sync replicas."""
    return common_settings(kafka) | {
        "client.id": f"{kafka.group_prefix}-aggregate",
        "acks": "all",
        "enable.idempotence": True,
        "compression.type": "gzip",
        "compression.level": 1,
        "linger.ms": 5,
        "message.max.bytes": MAX_RECORD_BYTES,
        "batch.size": 2 * RECORD_BYTES,
    }


def consumer_settings(kafka: Kafka, group: str, instance: str) -> dict[str, Any]:
    """The consumer of the high-volume path: commits by hand, static membership, told of partition ends."""
    session_ms = int(kafka.session_timeout)
    return common_settings(kafka) | {
        "group.id": f"{kafka.group_prefix}-{group}",
        "group.instance.id": instance,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
        "session.timeout.ms": session_ms,
        "heartbeat.interval.ms": max(session_ms // 6, 100),
        "partition.assignment.strategy": "range",
        "fetch.message.max.bytes": MAX_RECORD_BYTES,
        "fetch.max.bytes": 2 * MAX_RECORD_BYTES,
        "receive.message.max.bytes": 3 * MAX_RECORD_BYTES,
        "queued.max.messages.kbytes": 128 * 1024,
        "queued.min.messages": 1_000_000,  # the kilobytes above bound the queue, not a count of small records
        "fetch.queue.backoff.ms": 10,  # a full queue is refilled at once; the default waits a second
        "fetch.wait.max.ms": 100,
    }


def group_reader(kafka: Kafka, group: str) -> Consumer:
    """A client that asks for a group's committed offsets and for partitions' ends; it never joins."""
    settings = common_settings(kafka) | {
        "group.id": f"{kafka.group_prefix}-{group}",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "log_level": 2,  # that the broker is away is said by those who work with it
    }
    return Consumer(settings)


def faust_credentials(kafka: Kafka) -> Any:
    """The same login for Faust, or None for a plain connection."""
    if kafka.protocol.upper() == "PLAINTEXT":
        return None
    context = None
    if "SSL" in kafka.protocol.upper():
        context = ssl.create_default_context(cafile=kafka.ca_file)
    if not kafka.sasl_mechanism:
        return faust.SSLCredentials(context)
    return faust.SASLCredentials(
        username=_secret(kafka.username_file),
        password=_secret(kafka.password_file),
        mechanism=SASLMechanism(kafka.sasl_mechanism),
        ssl_context=context,
    )
