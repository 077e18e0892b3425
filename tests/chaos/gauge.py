"""How far every role is, and how long it took to get there after a blow."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from monitor.config import Config
from tests.chaos.fleet import TOPICS_READ, Fleet

LOOK_EVERY_S = 0.25
ROLES = ("aggregate", "monitor", "notify")
BROKER = "broker"

Places = dict[str, int]
"""Position by source, e.g. `impressions/3` or `panes/0`."""


class Recovery(NamedTuple):
    """From a blow to caught up: ready, and everything read that had been written a moment before."""

    struck: str
    seconds: float


class Gauge:
    """Looks at the fleet from outside: what is in the topics, and what the roles say they have handled."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.recoveries: list[Recovery] = []
        self._struck: dict[str, float] = {}
        self._ends: dict[str, Places] = {}
        self._looked_s = 0.0
        self._consumer = Consumer(
            {
                "bootstrap.servers": config.kafka.bootstrap,
                "group.id": f"{config.kafka.group_prefix}-notify",  # only asked, never joined
                "log_level": 0,
                "error_cb": lambda _error: None,
            }
        )

    def struck(self, whom: str) -> None:
        """A role (or the broker: all roles) was struck; its recovery is timed from now."""
        self._struck[whom] = time.monotonic()
        for role in _roles(whom):
            self._ends.pop(role, None)

    def look(self, fleet: Fleet) -> None:
        """See who has recovered; cheap when nobody has to."""
        now_s = time.monotonic()
        if not self._struck or now_s - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = now_s
        for whom, since_s in list(self._struck.items()):
            if all(self.caught_up(role, fleet) for role in _roles(whom)):
                self.recoveries.append(Recovery(whom, time.monotonic() - since_s))
                del self._struck[whom]

    def caught_up(self, role: str, fleet: Fleet) -> bool:
        """Whether a role has read all that was there when this was last asked, and is ready."""
        wanted = self._ends.get(role)
        ends = self.ends(role)
        if ends is None:
            return False
        self._ends[role] = ends
        if wanted is None or not all(seat.ready() for seat in fleet.of(role) if not seat.paused):
            return False
        return self.reached(role, fleet, wanted)

    def reached(self, role: str, fleet: Fleet, wanted: Places) -> bool:
        """Whether a role's processes together have read up to these positions."""
        found = positions(role, (seat.status() for seat in fleet.of(role)))
        missing = {source: end for source, end in wanted.items() if found.get(source, 0) < end}
        if missing and role == "notify":
            return self._committed(missing)
        return not missing

    def ends(self, role: str) -> Places | None:
        """Ends of the topics that a role reads; None while the broker is away."""
        topics = self.config.kafka.topics
        found: Places = {}
        try:
            for kind in TOPICS_READ[role]:
                for partition in range(self.config.kafka.partitions):
                    tp = TopicPartition(getattr(topics, kind), partition)
                    found[f"{kind}/{partition}"] = self._consumer.get_watermark_offsets(tp, timeout=2.0)[1]
        except KafkaException:
            return None
        return found

    def _committed(self, wanted: Places) -> bool:
        """Where nothing came since the restart, notify cannot say its position; its commits do."""
        topic = self.config.kafka.topics.verdicts
        asked = [TopicPartition(topic, int(source.split("/")[1])) for source in wanted]
        try:
            found = self._consumer.committed(asked, timeout=5.0)
        except KafkaException:
            return False
        return all(tp.offset >= wanted[f"verdicts/{tp.partition}"] for tp in found)

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()


def _roles(whom: str) -> tuple[str, ...]:
    return ROLES if whom == BROKER else (whom,)


def positions(role: str, statuses: Iterable[dict[str, Any] | None]) -> Places:
    """The furthest positions that a role's processes tell of."""
    found: Places = {}
    for status in statuses:
        for source, position in (status or {}).get("positions", {}).items():
            name = source if role == "aggregate" else f"{TOPICS_READ[role][0]}/{source}"
            found[name] = max(found.get(name, 0), position)
    return found
