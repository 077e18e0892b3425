"""What the agent of chaos is going to do: a function of the seed and of nothing else."""

from __future__ import annotations

import random
from enum import StrEnum
from typing import NamedTuple

SEATS = ("aggregate-1", "aggregate-2", "monitor-1", "monitor-2", "notify-1")


class Kind(StrEnum):
    """Kinds of blows."""

    KILL = "kill"
    """kill -9, and a restart soon after."""
    TERM = "term"
    """SIGTERM, and a restart when it has ended."""
    PAUSE = "pause"
    """SIGSTOP beyond the session timeout, and SIGCONT: a zombie that comes back and writes."""
    USURP = "usurp"
    """SIGSTOP, a second process under the same instance name, and SIGCONT for the first one."""
    REMOVE = "remove"
    """SIGTERM and no restart for longer than the session timeout, so that partitions change owners."""
    ADD = "add"
    """A third process of the role for a while."""
    FULL_DISK = "full_disk"
    """kill -9, and a restart where no byte can be written into any file."""
    BROKER_RESTART = "broker_restart"
    """The broker ends in order and comes back."""
    BROKER_KILL = "broker_kill"
    """kill -9 for the broker."""


_PER_KILL = {
    Kind.TERM: 1 / 8,
    Kind.PAUSE: 1 / 6,
    Kind.USURP: 1 / 12,
    Kind.REMOVE: 1 / 12,
    Kind.ADD: 1 / 16,
    Kind.FULL_DISK: 1 / 16,
    Kind.BROKER_RESTART: 1 / 25,
    Kind.BROKER_KILL: 1 / 25,
}
"""How many of each for one kill; at least one of each."""
GAP_S = 2.0
"""Between two blows, on average."""
_SHORTEST_S, _LONGEST_S = 1.3, 2.5  # session timeouts


class Blow(NamedTuple):
    """One thing that is done to somebody."""

    after_s: float
    """Since the blow before."""
    kind: Kind
    seat: str
    """Of the process; its role for `add`, without meaning for the broker."""
    lasting: float
    """How long it stays so, in session timeouts."""


def make_plan(seed: int, kills: int, gap_s: float = GAP_S) -> list[Blow]:
    """The blows of a run: so many kills, and the other kinds in proportion."""
    draw = random.Random(seed)
    kinds = [Kind.KILL] * kills
    for kind, rate in _PER_KILL.items():
        kinds += [kind] * max(1, round(kills * rate))
    draw.shuffle(kinds)
    return [
        Blow(draw.expovariate(1 / gap_s), kind, draw.choice(SEATS), draw.uniform(_SHORTEST_S, _LONGEST_S))
        for kind in kinds
    ]
