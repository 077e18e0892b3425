"""Apache Kafka, a single node in KRaft mode, from the jars of `make kafka-jars`."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.support.ports import free_port
from tests.support.processes import Child
from tests.support.wait import wait_for

BUILD = Path(__file__).parents[2] / ".build" / "kafka"
OLDEST_JAVA = 17
READY_TIMEOUT_S = 60.0

_CLUSTER_ID = "ZmFpcnN0cmVhbS10ZXN0cw"
_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={directory}/data
log.retention.ms=-1
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
"""


def missing_kafka() -> str | None:
    """Return why Apache Kafka can't be started here, None if it can."""
    java = shutil.which("java")
    if java is None:
        return "java is not installed"
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    major = re.search(r'version "(\d+)', said)
    if major is None or int(major[1]) < OLDEST_JAVA:
        return f"java is older than {OLDEST_JAVA}"
    if not (BUILD / ".resolved").is_file():
        return "its jars are not there (make kafka-jars)"
    return None


def answers(bootstrap: str) -> bool:
    """Return whether a broker answers at this address."""
    settings: dict[str, Any] = {
        "bootstrap.servers": bootstrap,
        "log_level": 0,
        "error_cb": lambda _error: None,
    }
    admin = AdminClient(settings)
    try:
        admin.list_topics(timeout=1.0)
    except KafkaException:
        return False
    return True


class ApacheKafka:
    """One broker on free loopback ports, its data in `directory`, from `start()` (or `with`) to `stop()`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._controller_port = free_port()
        self._child: Child | None = None

    @property
    def bootstrap(self) -> str:
        """The address to give to clients as bootstrap.servers."""
        return f"127.0.0.1:{self.port}"

    @property
    def child(self) -> Child:
        """The running broker."""
        assert self._child is not None, "Apache Kafka is not running"
        return self._child

    def start(self) -> None:
        """Start the broker, on formatted storage, and wait until it answers."""
        properties = self.directory / "server.properties"
        if not properties.exists():
            text = _PROPERTIES.format(
                port=self.port, controller_port=self._controller_port, directory=self.directory
            )
            properties.write_text(text)
            tool = ["kafka.tools.StorageTool", "format", "--cluster-id", _CLUSTER_ID, "--config"]
            code = self._java(*tool, str(properties), heap="128m").wait(READY_TIMEOUT_S)
            assert code == 0, (self.directory / "kafka.log").read_text()
        self._child = self._java("kafka.Kafka", str(properties), heap="512m")
        wait_for(
            lambda: answers(self.bootstrap), READY_TIMEOUT_S, "Apache Kafka to answer", watch=[self._child]
        )

    def stop(self, *, hard: bool = False) -> None:
        """Stop the broker, in order or (hard) by killing it. Idempotent."""
        child, self._child = self._child, None
        if child is not None:
            if hard:
                child.kill()
            else:
                child.stop()

    def restart(self, *, hard: bool = False) -> None:
        """Stop the broker and start it again on the same address and data."""
        self.stop(hard=hard)
        self.start()

    def throttle(self, client: str, bytes_a_second: int | None) -> None:
        """Let a client write so much a second and no more, or (None) as much as it likes."""
        change = (
            ["--delete-config", "producer_byte_rate"]
            if bytes_a_second is None
            else ["--add-config", f"producer_byte_rate={bytes_a_second}"]
        )
        whose = ["--bootstrap-server", self.bootstrap, "--entity-type", "clients", "--entity-name", client]
        code = self._java("kafka.admin.ConfigCommand", *whose, "--alter", *change, heap="128m").wait(
            READY_TIMEOUT_S
        )
        assert code == 0, (self.directory / "kafka.log").read_text()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _java(self, *command: str, heap: str) -> Child:
        options = [f"-Xmx{heap}", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        classes = ["-cp", f"{BUILD}/libs/*"]
        return Child(["java", *options, *classes, *command], self.directory / "kafka.log", cwd=self.directory)
