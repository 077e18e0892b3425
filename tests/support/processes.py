"""Child processes of the tests, with their output in a file."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from streams.embedded import dies_with_parent

STOP_TIMEOUT_S = 20.0
TAIL_LINES = 60


class Child:
    """A running child process; leaving its `with` block stops it.

    Args:
        command: what to run.
        log: the file that takes its standard output and error, appended to.
        env: set on top of this process's environment.
        cwd: its working directory.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.command = list(command)
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                dies_with_parent(self.command),
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code (negative: the signal that ended it), None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float) -> int:
        """Wait until it ends by itself, and return its exit code."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end within {timeout_s:g} s\n{self.describe()}") from None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Ask it to end (SIGTERM), kill it if it does not within `timeout_s`, and return its exit code."""
        self._process.terminate()
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """Kill it (SIGKILL) and return its exit code."""
        self._process.kill()
        return self._process.wait()

    def output(self) -> str:
        """Return all that it has written so far."""
        return self.log.read_text(errors="replace")

    def describe(self) -> str:
        """Return its command, how it fares, and the end of its log."""
        tail = self.output().splitlines()[-TAIL_LINES:]
        state = "running" if self.exit_code is None else f"ended with code {self.exit_code}"
        return "\n".join([f"--- {' '.join(self.command)[:200]} ({state})", *tail])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
