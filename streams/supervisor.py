"""The three roles as child processes of one: start, watch, restart, stop, summarise."""

import json
import logging
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

from monitor.config import Config
from streams.embedded import dies_with_parent
from streams.exits import EX_CONFIG

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 20.0
_FIRST_RESTART_S = 1.0
_LAST_RESTART_S = 30.0
POLL_S = 0.25
_ASK_S = 5.0
"""How often a role is asked whether it is healthy."""
_EVERYWHERE = ("0.0.0.0", "::", "")

Statuses = dict[str, dict[str, Any] | None]
"""Each role's account of itself; None while it does not answer."""


class ConfigurationRefusedError(RuntimeError):
    """A role ended because of its configuration; restarting would not help."""


class RoleSpec(NamedTuple):
    """A process to run."""

    role: str
    instance: str
    host: str
    """Where its pages can be reached from here."""
    port: int

    @property
    def url(self) -> str:
        """Address of its pages, from here."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def role_specs(config: Config) -> list[RoleSpec]:
    """One process of each role."""
    http = config.http
    host = "127.0.0.1" if http.bind in _EVERYWHERE else http.bind
    return [
        RoleSpec("aggregate", "aggregate-run", host, http.aggregate_port),
        RoleSpec("monitor", "monitor-run", host, http.monitor_port),
        RoleSpec("notify", "notify-run", host, http.notify_port),
    ]


class Backoff:
    """How long to wait before a process is started again: longer each time, unless it ran well in between."""

    def __init__(self) -> None:
        """Not started yet."""
        self._delay_s = _FIRST_RESTART_S

    def after(self, ran_s: float) -> float:
        """Seconds to wait now that it has ended, after it ran for so many."""
        if ran_s > _LAST_RESTART_S:
            self._delay_s = _FIRST_RESTART_S
        delay_s, self._delay_s = self._delay_s, min(2 * self._delay_s, _LAST_RESTART_S)
        return delay_s


class _Child:
    """One role's process, restarted when it dies or says that it is stuck."""

    def __init__(self, spec: RoleSpec, config_file: Path, directory: Path, log_file: Path | None) -> None:
        self.spec = spec
        self.summary_file = directory / f"{spec.instance}.json"
        self.restarts = 0
        self._log_file = log_file
        self._restart_s: float | None = None
        self._backoff = Backoff()
        self._ask_s = time.monotonic() + _ASK_S
        options = [
            "--config",
            str(config_file),
            "--instance",
            spec.instance,
            "--summary",
            str(self.summary_file),
        ]
        self._command = dies_with_parent([sys.executable, "-m", "streams", spec.role, *options])
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._started_s = time.monotonic()
        if self._log_file is None:
            return subprocess.Popen(self._command, stdin=subprocess.DEVNULL, start_new_session=True)
        with self._log_file.open("ab") as output:
            return subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def tend(self, now_s: float) -> None:
        """Restart a process that died, later each time; kill one that is stuck: nothing is lost by it."""
        code = self.process.poll()
        if code is None:
            if now_s >= self._ask_s:
                self._ask_s = now_s + _ASK_S
                if self._says_it_is_stuck():
                    log.error("%s is not healthy; killing it", self.spec.role)
                    self.process.kill()
            return
        if code == EX_CONFIG:
            raise ConfigurationRefusedError(self.spec.role)
        if self._restart_s is None:
            delay_s = self._backoff.after(now_s - self._started_s)
            log.error("%s ended with code %d; restarting in %.0f s", self.spec.role, code, delay_s)
            self._restart_s = now_s + delay_s
        elif now_s >= self._restart_s:
            self._restart_s = None
            self.restarts += 1
            self.process = self._start()

    def _page(self, name: str) -> str:
        return f"{self.spec.url}/-/{name}"

    def _says_it_is_stuck(self) -> bool:
        """Whether the role answers that it is not healthy; one that does not answer may be starting."""
        if not self.spec.port:
            return False
        try:
            with urllib.request.urlopen(self._page("healthy"), timeout=2.0):
                return False
        except urllib.error.HTTPError as answer:
            return answer.code == HTTPStatus.SERVICE_UNAVAILABLE
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return False

    def status(self) -> dict[str, Any] | None:
        """The role's own account of itself, or None while it does not answer."""
        try:
            with urllib.request.urlopen(self._page("status"), timeout=2.0) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except (urllib.error.URLError, TimeoutError, ConnectionError, json.JSONDecodeError):
            return None

    def stop(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)


class Supervisor:
    """Runs the roles from ``with`` to its end. Use it from the main thread."""

    def __init__(self, config: Config, config_file: Path, log_directory: Path | None = None) -> None:
        """``log_directory``: where each role's log goes; None: to this process's standard error."""
        self._config = config
        self._config_file = config_file
        self._log_directory = log_directory
        self._directory = tempfile.TemporaryDirectory(prefix="fairstream-")
        self._children: list[_Child] = []

    def __enter__(self) -> "Supervisor":
        """Start all."""
        for spec in role_specs(self._config):
            log_file = self._log_directory / f"{spec.role}.log" if self._log_directory else None
            self._children.append(_Child(spec, self._config_file, Path(self._directory.name), log_file))
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all, and wait."""
        self.stop()
        self._directory.cleanup()

    def tend(self) -> None:
        """Restart what died.

        Raises:
            ConfigurationRefusedError: a role will not run with this configuration.
        """
        for child in self._children:
            child.tend(time.monotonic())

    def statuses(self) -> Statuses:
        """Each role's account of itself."""
        return {child.spec.role: child.status() for child in self._children}

    def stop(self) -> None:
        """Upstream first, so that nobody waits for a reader that is gone: drain, flush, commit, close."""
        for child in self._children:
            child.stop(signal.SIGTERM)
        deadline_s = time.monotonic() + STOP_TIMEOUT_S
        for child in self._children:
            try:
                child.process.wait(max(0.1, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("%s does not stop: killing it", child.spec.role)
                child.process.kill()
                child.process.wait()

    def summary(self) -> dict[str, Any]:
        """What each role wrote when it stopped. Call after :meth:`stop`."""
        found: dict[str, Any] = {}
        for child in self._children:
            role = child.spec.role
            found[role] = None
            if child.summary_file.exists():
                found[role] = json.loads(child.summary_file.read_text(encoding="utf-8"))
            if child.restarts:
                found.setdefault("restarts", {})[role] = child.restarts
        return found


def finished(statuses: Statuses) -> bool:
    """Whether all that was in the source topics has come through to the alerts.

    aggregate is at the end with everything published; monitor was told so on every partition;
    notify has handled every verdict that monitor has published.
    """
    aggregate, monitor, notify = (statuses.get(role) for role in ("aggregate", "monitor", "notify"))
    if aggregate is None or monitor is None or notify is None or not aggregate["at_end"]:
        return False
    told = [monitor["progress"].get(str(p)) for p in range(monitor["partitions"])]
    if any(progress != aggregate["positions"] for progress in told):
        return False
    return bool(notify["verdicts_handled"] >= sum(monitor["verdicts"].values()))


def merge_summary(found: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The roles' summaries as one: events, panes, verdicts, alerts."""
    aggregate, monitor, notify = (found.get(role) or {} for role in ("aggregate", "monitor", "notify"))
    topics = aggregate.get("topics", {})
    rejected: dict[str, int] = {}
    for topic in topics.values():
        for reason, count in topic["rejected"].items():
            rejected[reason] = rejected.get(reason, 0) + count
    events = {name: sum(t[name] for t in topics.values()) for name in ("read", "accepted", "replayed")}
    return {
        "seconds": round(seconds, 3),
        "events": events | {"rejected": rejected},
        "topics": topics,
        "panes": {
            "closed": aggregate.get("panes_closed", 0),
            "open": aggregate.get("panes_open", 0),
            "sealed": monitor.get("panes_sealed", 0),
        },
        "snapshots": monitor.get("records", {}),
        "verdicts": monitor.get("verdicts", {}),
        "alerts": notify.get("alerts", []),
        "deliveries": notify.get("deliveries", {}),
        "restarts": found.get("restarts", {}),
    }


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    return stopping
