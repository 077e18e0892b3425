"""The agent of chaos: carries out a plan on a fleet and its broker, and measures how they recover."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

from tests.chaos.fleet import RESTART_S, Fleet, Seat
from tests.chaos.gauge import BROKER, Gauge
from tests.chaos.plan import Blow, Kind
from tests.support.kafka import ApacheKafka
from tests.support.processes import Child

TURN_S = 0.1
FENCED_TIMEOUT_S = 30.0


class Later(NamedTuple):
    """Something to be done at a time of the monotonic clock."""

    due_s: float
    action: Callable[[], None]


class Agent:
    """Strikes, undoes what it did when its time is over, and tends the fleet in between."""

    def __init__(
        self,
        fleet: Fleet,
        broker: ApacheKafka,
        gauge: Gauge,
        tell: Callable[[str], None],
    ) -> None:
        """`tell` takes a line for each blow."""
        self.blows: Counter[str] = Counter()
        """By kind and role."""
        self.fenced: Counter[str] = Counter()
        """How replaced processes ended, by role and exit code."""
        self.undead: list[str] = []
        """Processes that were replaced and did not notice, each in words."""
        self._fleet = fleet
        self._broker = broker
        self._gauge = gauge
        self._tell = tell
        self._session_s = gauge.config.kafka.session_timeout / 1000
        self._later: list[Later] = []
        self._replaced: list[tuple[Seat, Child]] = []
        self._numbers = count(3)
        self._clock = threading.Event()  # never set: its wait passes the time between turns

    def carry_out(self, plan: list[Blow]) -> None:
        """Everything in the plan, then undo what still lasts."""
        for number, blow in enumerate(plan, start=1):
            until_s = time.monotonic() + blow.after_s
            self.turn_until(lambda until_s=until_s: time.monotonic() >= until_s)  # type: ignore[misc]
            self._strike(blow, f"{number:3d}/{len(plan)}")
        self.turn_until(lambda: not self._later)
        self.turn_until(lambda: all(seat.running for seat in self._fleet.seats.values()))
        for seat, child in self._replaced:
            self._see_off(seat, child)

    def turn_until(self, done: Callable[[], bool]) -> None:
        """Do what is due, and tend the fleet, until something is so."""
        while not done():
            now_s = time.monotonic()
            for each in [each for each in self._later if each.due_s <= now_s]:
                self._later.remove(each)
                each.action()
            self._fleet.tend()
            self._gauge.look(self._fleet)
            self._clock.wait(TURN_S)

    def _strike(self, blow: Blow, place: str) -> None:
        match blow.kind:
            case Kind.BROKER_RESTART | Kind.BROKER_KILL:
                self._note(blow.kind, BROKER, place)
                self._broker.restart(hard=blow.kind is Kind.BROKER_KILL)
                self._gauge.struck(BROKER)
            case Kind.ADD:
                self._add(blow, place)
            case _:
                self._strike_seat(blow, place)

    def _strike_seat(self, blow: Blow, place: str) -> None:
        seat = self._fleet.seats[blow.seat]
        if blow.kind is not Kind.KILL:  # a paused or starting process can be killed, but not much else
            self.turn_until(lambda: seat.running)
        else:
            self.turn_until(lambda: seat.child is not None and seat.child.exit_code is None)
        child = seat.child
        assert child is not None, f"nobody sits in {seat.name}"
        self._note(blow.kind, seat.role, place)
        lasting_s = blow.lasting * self._session_s
        match blow.kind:
            case Kind.KILL:
                self._kill(seat, child)
                seat.restart_s = time.monotonic() + RESTART_S
            case Kind.FULL_DISK:
                self._kill(seat, child)
                seat.start(full_disk=True)
            case Kind.TERM:
                child.stop()
                seat.start()
            case Kind.REMOVE:
                child.stop()
                seat.restart_s = time.monotonic() + lasting_s
            case Kind.PAUSE:
                seat.pause()
                self._do_later(lasting_s, lambda: _wake(seat, child))
            case Kind.USURP:
                seat.pause()
                self._replaced.append((seat, seat.leave()))
                seat.start()
                self._do_later(lasting_s, lambda: child.send(signal.SIGCONT))

    def _see_off(self, seat: Seat, child: Child) -> None:
        """A process that was replaced while paused has to find out and to end by itself."""
        deadline_s = time.monotonic() + FENCED_TIMEOUT_S
        self.turn_until(lambda: child.exit_code is not None or time.monotonic() > deadline_s)
        if child.exit_code is None:
            self.undead.append(f"{seat.name} was replaced and goes on for ever:\n{child.describe()}")
            child.kill()
        self.fenced[f"{seat.role}:{child.exit_code}"] += 1

    def _kill(self, seat: Seat, child: Child) -> None:
        child.kill()
        seat.paused = False
        self._gauge.struck(seat.role)

    def _add(self, blow: Blow, place: str) -> None:
        role = blow.seat.split("-")[0]
        self._note(blow.kind, role, place)
        seat = self._fleet.add(role, next(self._numbers))
        self._do_later(3 * blow.lasting * self._session_s, lambda: self._fleet.drop(seat))

    def _do_later(self, after_s: float, action: Callable[[], None]) -> None:
        self._later.append(Later(time.monotonic() + after_s, action))

    def _note(self, kind: Kind, role: str, place: str) -> None:
        self.blows[f"{kind.value}:{role}"] += 1
        self._tell(f"{place} {kind.value} {role}")


def _wake(seat: Seat, child: Child) -> None:
    if seat.child is child:
        seat.wake()
