"""The processes under chaos, two aggregates, two monitors and one notify, restarted as a supervisor would."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import httpx
import yaml

from tests.conftest import Spawn
from tests.support.pipeline import Pipeline
from tests.support.ports import free_port
from tests.support.processes import Child

CREW = (("aggregate", 2), ("monitor", 2), ("notify", 1))
TOPICS_READ = {"aggregate": ("impressions", "engagements"), "monitor": ("panes",), "notify": ("verdicts",)}
STALLED_AFTER = "8s"
HEALTH_EVERY_S = 2.0
RESTART_S = 0.5
"""How long a supervisor takes to start again what has died."""
STOP_TIMEOUT_S = 30.0
_FULL_DISK = ["sh", "-c", 'ulimit -f 0 && exec "$@"', "sh"]


class Seat:
    """A process by its role and instance name, whoever sits in it at the moment."""

    def __init__(self, pipeline: Pipeline, spawn: Spawn, role: str, number: int) -> None:
        self.role = role
        self.name = f"{role}-{number}"
        self.child: Child | None = None
        self.restart_s: float | None = None
        """When it is to be started again, on the monotonic clock; None: when it shall stay as it is."""
        self.paused = False
        self._pipeline = pipeline
        self._spawn = spawn
        self._move()

    def _move(self) -> None:
        """To a port of its own, in a configuration of its own."""
        self.port = free_port()
        data = yaml.safe_load(self._pipeline.file.read_text(encoding="utf-8"))
        data["http"] = {f"{self.role}_port": self.port, "stalled_after": STALLED_AFTER}
        self._file = self._pipeline.file.with_name(f"{self.name}-{self.port}.yaml")
        self._file.write_text(yaml.safe_dump(data), encoding="utf-8")

    @property
    def running(self) -> bool:
        """Whether somebody sits in it and is awake."""
        return self.child is not None and self.child.exit_code is None and not self.paused

    def start(self, *, full_disk: bool = False) -> None:
        """Start it; on a full disk it can write no byte into any file, its log included."""
        command = [*self._pipeline.command(self.role), "--instance", self.name]
        command[command.index("--config") + 1] = str(self._file)
        self.child = self._spawn([*(_FULL_DISK if full_disk else []), *command], name=self.name)
        self.restart_s = None
        self.paused = False

    def leave(self) -> Child:
        """Give up the process in it without ending it; the next one gets a port of its own."""
        child = self.child
        assert child is not None, f"nobody sits in {self.name}"
        self.child, self.paused = None, False
        self._move()
        return child

    def pause(self) -> None:
        """SIGSTOP."""
        assert self.child is not None, f"nobody sits in {self.name}"
        self.child.send(signal.SIGSTOP)
        self.paused = True

    def wake(self) -> None:
        """SIGCONT."""
        if self.child is not None and self.paused:
            self.child.send(signal.SIGCONT)
        self.paused = False

    def status(self) -> dict[str, Any] | None:
        """Its account of itself; None while it does not answer."""
        if not self.running:
            return None
        try:
            answer = httpx.get(self._url("/-/status"), timeout=2.0)
        except httpx.TransportError:
            return None
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def ready(self) -> bool:
        """Whether it says so."""
        return self._answer("/-/ready") == 200

    def unhealthy(self) -> bool:
        """Whether it says so; one that does not answer is starting or ending."""
        return self._answer("/-/healthy") == 503

    def _answer(self, path: str) -> int | None:
        if not self.running:
            return None
        try:
            return httpx.get(self._url(path), timeout=2.0).status_code
        except httpx.TransportError:
            return None

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


class Fleet:
    """All seats, tended: a process that ended by itself is counted and started again."""

    def __init__(self, pipeline: Pipeline, spawn: Spawn, crew: Iterable[tuple[str, int]] = CREW) -> None:
        """`crew` says how many processes of which role."""
        self.seats = {
            seat.name: seat
            for role, count in crew
            for seat in (Seat(pipeline, spawn, role, number) for number in range(1, count + 1))
        }
        self.exits: Counter[str] = Counter()
        """Ends that nobody asked for, by role and exit code; `unhealthy`: ended by the supervisor."""
        self._looked_s = time.monotonic()
        self._pipeline = pipeline
        self._spawn = spawn

    def start(self) -> None:
        """Start all."""
        for seat in self.seats.values():
            seat.start()

    def add(self, role: str, number: int) -> Seat:
        """One process more."""
        seat = Seat(self._pipeline, self._spawn, role, number)
        self.seats[seat.name] = seat
        seat.start()
        return seat

    def drop(self, seat: Seat) -> None:
        """One process less, for good."""
        if seat.child is not None:
            seat.wake()
            seat.child.stop(STOP_TIMEOUT_S)
        del self.seats[seat.name]

    def tend(self) -> None:
        """Start again what has ended by itself, what is unhealthy, and what is due."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= HEALTH_EVERY_S:
            self._looked_s = now_s
            self._end_unhealthy(now_s)
        for seat in self.seats.values():
            if seat.restart_s is not None:
                if now_s >= seat.restart_s:
                    seat.start()
            elif seat.child is not None and (code := seat.child.exit_code) is not None:
                self.exits[f"{seat.role}:{code}"] += 1
                seat.restart_s = now_s + RESTART_S

    def _end_unhealthy(self, now_s: float) -> None:
        for seat in self.seats.values():
            if seat.child is not None and seat.unhealthy():
                self.exits[f"{seat.role}:unhealthy"] += 1
                seat.child.kill()
                seat.restart_s = now_s + RESTART_S

    def of(self, role: str) -> list[Seat]:
        """The seats of a role."""
        return [seat for seat in self.seats.values() if seat.role == role]

    def describe(self) -> str:
        """How every process fares, with the ends of their logs."""
        return "\n".join(seat.child.describe() for seat in self.seats.values() if seat.child is not None)
