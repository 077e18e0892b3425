"""Liveness that tells the truth: a partition with data must make progress, unless the broker is away."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

ANSWER_S = 2.0
"""How long the broker may take to answer a question before it counts as away."""

Partition = tuple[str, int]


class Reach(NamedTuple):
    """How far a partition has been dealt with, and where it ends."""

    position: int
    end: int


class _Standing(NamedTuple):
    position: int
    since_s: float


class Stall:
    """Notices when one of a process's partitions stands still with records waiting.

    While the broker is away nothing can make progress, and a restart would not help: no stall then.
    """

    def __init__(self, stalled_after_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``stalled_after_s``: how long a partition may stand still, in seconds."""
        self._stalled_after_s = stalled_after_s
        self._clock = clock
        self._standing: dict[Partition, _Standing] = {}
        self._looked_s = clock()

    @property
    def due(self) -> bool:
        """Whether it is time to look again."""
        return self._clock() - self._looked_s >= self._stalled_after_s / 6

    def look(self, reached: Mapping[Partition, Reach] | None) -> None:
        """Take what the broker says of the process's partitions; None when it does not answer."""
        self._looked_s = now_s = self._clock()
        before, self._standing = self._standing, {}
        for partition, (position, end) in (reached or {}).items():
            if position < end:
                held = before.get(partition)
                stands = held is not None and held.position == position
                self._standing[partition] = held if held and stands else _Standing(position, now_s)

    @property
    def stalled(self) -> bool:
        """Whether a partition has stood still for too long."""
        now_s = self._clock()
        return any(now_s - since_s >= self._stalled_after_s for _, since_s in list(self._standing.values()))


def end_offsets(consumer: Consumer, partitions: Collection[Partition]) -> dict[Partition, int] | None:
    """Where partitions end, from the brokers; None if one of them does not answer."""
    if not partitions:
        return {}
    asked = [TopicPartition(topic, partition, OFFSET_END) for topic, partition in partitions]
    try:
        found = consumer.offsets_for_times(asked, timeout=ANSWER_S)
    except KafkaException:
        return None
    if any(tp.error is not None for tp in found):
        return None
    return {(tp.topic, tp.partition): tp.offset for tp in found}


def reach_of(consumer: Consumer, positions: Mapping[Partition, int]) -> dict[Partition, Reach] | None:
    """The positions beside the ends of their partitions; None if the broker does not answer."""
    ends = end_offsets(consumer, positions.keys())
    return None if ends is None else {key: Reach(position, ends[key]) for key, position in positions.items()}


def committed_reach(consumer: Consumer, partitions: Iterable[Partition]) -> dict[Partition, Reach] | None:
    """How far the consumer's group has committed the partitions; None if the broker does not answer."""
    try:
        committed = consumer.committed([TopicPartition(*each) for each in partitions], timeout=ANSWER_S)
    except KafkaException:
        return None
    return reach_of(consumer, {(tp.topic, tp.partition): max(tp.offset, 0) for tp in committed})
