"""``fairstream demo``: the whole pipeline on an embedded broker, fed with a real impression log."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.live import Live

from monitor.config import Config, parse_config
from streams.demo.feed import DemoFeed
from streams.demo.snapshot import DemoSnapshot
from streams.demo.view import export_svg, render
from streams.demo.words import plain_lines, report
from streams.embedded import EmbeddedBroker, EmbeddedBrokerError, free_port
from streams.replay import SWITCH_MS, ReplayProgress, run_replay
from streams.summary import write_summary
from streams.supervisor import (
    ConfigurationRefusedError,
    Statuses,
    Supervisor,
    finished,
    merge_summary,
    stop_on_signals,
)
from streams.topics import create_topics

_TICK_S = 0.25
_START_TIMEOUT_S = 40.0
_END_TIMEOUT_S = 30.0
_FAILED = 1
_INTERRUPTED = 130


class DemoError(RuntimeError):
    """The demo could not be brought to its end."""


def demo_config(bootstrap: str) -> str:
    """The demo's configuration as text, with the broker's address and free ports filled in."""
    shipped = files("streams") / "demo_data" / "demo.yaml"
    data: dict[str, Any] = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    data["kafka"]["bootstrap"] = bootstrap
    data["http"] = {f"{role}_port": free_port() for role in ("aggregate", "monitor", "notify")}
    return yaml.safe_dump(data, sort_keys=False)


class _Replay(threading.Thread):
    """Writes the log in the background."""

    def __init__(self, config: Config, seconds: float) -> None:
        super().__init__(name="replay", daemon=True)
        self.progress = 0.0
        self.written = 0
        self.error: Exception | None = None
        self._config = config
        self._seconds = seconds
        self._stopping = threading.Event()

    def run(self) -> None:
        try:
            run_replay(self._config, seconds=self._seconds, on_progress=self._note)
        except InterruptedError:
            return
        except Exception as error:  # noqa: BLE001 - the main thread reports it
            self.error = error

    def _note(self, progress: ReplayProgress) -> None:
        self.written = progress.written
        self.progress = progress.written / progress.total
        if self._stopping.is_set():
            raise InterruptedError

    def stop(self) -> None:
        self._stopping.set()
        self.join(5.0)


class _Demo:
    """One run: the roles become ready, the log is replayed, the pipeline comes to its end."""

    def __init__(self, config: Config, supervisor: Supervisor, seconds: float) -> None:
        self._supervisor = supervisor
        self._seconds = seconds
        self._replay = _Replay(config, seconds)
        self._feed = DemoFeed(config)
        self._stopping = stop_on_signals()

    def snapshots(self) -> Iterator[DemoSnapshot]:
        """What there is to see, several times a second.

        Raises:
            DemoError: a step did not come to its end in time.
            KeyboardInterrupt: told to stop.
        """
        yield from self._until(_ready, _START_TIMEOUT_S, "the roles did not become ready")
        self._replay.start()
        replayed = "the log could not be replayed"
        yield from self._until(lambda _: not self._replay.is_alive(), 2 * self._seconds + 30, replayed)
        if self._replay.error is not None:
            raise DemoError(f"{replayed}: {self._replay.error}")
        yield from self._until(self._through, _END_TIMEOUT_S, "the pipeline did not come to its end")

    def _until(
        self, reached: Callable[[Statuses], bool], timeout_s: float, what: str
    ) -> Iterator[DemoSnapshot]:
        deadline_s = time.monotonic() + timeout_s
        while not self._stopping.wait(_TICK_S):
            self._supervisor.tend()
            statuses = self._supervisor.statuses()
            yield self._feed.snapshot(statuses, self._replay.progress)
            if reached(statuses):
                return
            if time.monotonic() > deadline_s:
                raise DemoError(f"{what} within {timeout_s:.0f} s")
        raise KeyboardInterrupt

    def _through(self, statuses: Statuses) -> bool:
        return (
            self._feed.read >= self._replay.written and finished(statuses) and self._feed.complete(statuses)
        )

    def close(self) -> None:
        if self._replay.ident is not None:
            self._replay.stop()
        self._feed.close()


def _ready(statuses: Statuses) -> bool:
    """Whether every role answers and aggregate has its partitions."""
    aggregate = statuses.get("aggregate")
    return all(statuses.values()) and aggregate is not None and aggregate["assigned"] > 0


def _show(snapshots: Iterator[DemoSnapshot], console: Console) -> DemoSnapshot:
    """Draw the view on a terminal, print plain lines elsewhere; the last snapshot."""
    snapshot = next(snapshots)
    if console.is_terminal:
        with Live(
            render(snapshot, console.width, console.height), console=console, auto_refresh=False
        ) as live:
            for snapshot in snapshots:
                live.update(render(snapshot, console.width, console.height), refresh=True)
        return snapshot
    previous = None
    for snapshot in chain([snapshot], snapshots):  # noqa: B020
        for line in plain_lines(previous, snapshot):
            console.print(line, highlight=False, soft_wrap=True)
        previous = snapshot
    return snapshot


def run_demo(*, summary: Path | None, seconds: float, screenshot: Path | None = None) -> int:
    """Run the demo; the exit code."""
    console = Console()
    began_s = time.monotonic()
    console.print("fairstream demo: starting an embedded broker and the three roles", highlight=False)
    try:
        with tempfile.TemporaryDirectory(prefix="fairstream-demo-") as directory, EmbeddedBroker() as broker:
            return _run(broker.bootstrap, Path(directory), console, began_s, seconds, summary, screenshot)
    except (EmbeddedBrokerError, DemoError) as error:
        console.print(f"fairstream demo: {error}", style="red", highlight=False)
        return _FAILED
    except KeyboardInterrupt:
        console.print("fairstream demo: stopped", highlight=False)
        return _INTERRUPTED


def _run(
    bootstrap: str,
    directory: Path,
    console: Console,
    began_s: float,
    seconds: float,
    summary: Path | None,
    screenshot: Path | None,
) -> int:
    config_file = directory / "fairstream.yaml"
    config_file.write_text(demo_config(bootstrap), encoding="utf-8")
    config = parse_config(config_file.read_text(encoding="utf-8"), str(config_file))
    create_topics(config)
    with Supervisor(config, config_file, directory) as supervisor:
        demo = _Demo(config, supervisor, seconds)
        try:
            snapshot = _show(demo.snapshots(), console)
        except (DemoError, ConfigurationRefusedError) as error:
            raise DemoError(f"{error}\n{_log_tails(directory)}") from None
        finally:
            demo.close()
        supervisor.stop()
        took_s = time.monotonic() - began_s
        write_summary(summary, merge_summary(supervisor.summary(), took_s))
    if screenshot is not None:
        screenshot.write_text(export_svg(snapshot), encoding="utf-8")
    console.print()
    console.print(report(snapshot, SWITCH_MS), highlight=False, soft_wrap=True)
    console.print(f"\nThe demo took {took_s:.0f} s and has stopped everything it started.", highlight=False)
    return 0


def _log_tails(directory: Path) -> str:
    """The last lines that each role wrote."""
    tails = [
        f"{log.stem}: " + log.read_text(errors="replace")[-800:] for log in sorted(directory.glob("*.log"))
    ]
    return "\n".join(tails)
