"""The partitions that aggregate has been given: what is known of their ends, what is committed of them."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from monitor.partition import Resume, SourcePartition
from streams.liveness import ANSWER_S, Partition, end_offsets

log = logging.getLogger(__name__)


class Source:
    """One assigned partition, and what is known of its end."""

    def __init__(self, state: SourcePartition, now_s: float) -> None:
        self.state = state
        self.at_end = False
        self.heard_s = now_s
        self.committed: tuple[int, Resume] | None = None


class Silence:
    """Says which partitions are idle: silent for the timeout, with nothing more in them; the broker is asked.

    A process that was paused has heard nothing either, though more is there; and while the broker was
    away, more waits in the producers.
    """

    def __init__(self, consumer: Consumer, timeout_s: float) -> None:
        """``timeout_s``: how long a partition must be silent to be idle."""
        self._consumer = consumer
        self._timeout_s = timeout_s
        self._away_s = float("-inf")

    def broker_away(self) -> None:
        """The broker does not answer just now."""
        self._away_s = time.monotonic()

    def idle(self, sources: Mapping[Partition, Source]) -> set[Partition]:
        """The idle ones, by one question to each broker."""
        since_s = time.monotonic() - self._timeout_s
        if self._away_s > since_s:
            return set()
        silent = [key for key, source in sources.items() if source.at_end and source.heard_s <= since_s]
        ends = end_offsets(self._consumer, silent)
        if ends is None:
            self.broker_away()
            return set()
        return {key for key in silent if ends[key] <= sources[key].state.position}


ASK_AGAIN_S = 0.2
PATIENCE_S = 30.0

Answer = TypeVar("Answer")


class BrokerError(RuntimeError):
    """The client can do nothing any more, or the broker does not answer.

    In place of confluent-kafka's exception: raised by a callback it becomes one that nobody can catch.
    """


def ask_again(ask: Callable[[], Answer]) -> Answer:
    """The broker's answer to a question that it may not be able to answer just now, as leaders change.

    Raises:
        BrokerError: it still could not after half a minute, or the client can do nothing any more.
    """
    until_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except KafkaException as problem:
            if is_fatal(problem.args[0]) or time.monotonic() >= until_s:
                raise BrokerError(str(problem.args[0])) from problem
            log.warning("asking the broker again: %s", problem.args[0].name())
            time.sleep(ASK_AGAIN_S)


def committed(consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
    """What the group has committed of partitions; a partition without an answer is not one without a commit.

    Raises:
        BrokerError: there was none for half a minute.
    """

    def ask() -> list[TopicPartition]:
        found = consumer.committed(partitions, timeout=ANSWER_S)
        for tp in found:
            if tp.error is not None:
                raise KafkaException(tp.error)
        return found

    return ask_again(ask)


def commit(consumer: Consumer, sources: Mapping[Partition, Source]) -> None:
    """Commit what no open pane needs any more, where that has changed.

    Raises:
        BrokerError: the client can do nothing any more.
    """
    offsets = []
    for (topic, partition), source in sources.items():
        point = source.state.commit_point()
        if point != source.committed:
            offset, resume = point
            metadata = msgspec.json.encode(resume).decode()
            offsets.append(TopicPartition(topic, partition, offset, metadata=metadata))
            source.committed = point
    refused = _commit_now(consumer, offsets) if offsets else None
    if refused is not None:
        if is_fatal(refused):
            raise BrokerError(str(refused))
        # a rebalance is under way: the next owner reads a little more again
        log.warning("commit: %s", refused.name())
        for source in sources.values():
            source.committed = None


def _commit_now(consumer: Consumer, offsets: list[TopicPartition]) -> KafkaError | None:
    try:
        done = consumer.commit(offsets=offsets, asynchronous=False)
    except KafkaException as error:
        refused: KafkaError = error.args[0]
        return refused
    return next((tp.error for tp in done or [] if tp.error is not None), None)


def is_fatal(error: KafkaError) -> bool:
    """Whether the client can do nothing any more: most often another process has taken its instance name."""
    return error.fatal() or error.code() in {KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID}


def decode_resume(metadata: str | None) -> Resume | None:
    """What a commit's metadata remembers; None if it was lost."""
    try:
        return msgspec.json.decode(metadata or "", type=Resume)
    except msgspec.DecodeError:
        return None  # the monitor refuses what would be partial
