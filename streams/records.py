"""What a consumer hands over at once, sorted out: records by partition, ends of partitions, errors."""

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, KafkaError, Message
from numpy.typing import NDArray

from monitor.partition import Batch

Ints = NDArray[np.int64]
Partition = tuple[str, int]


class Records(NamedTuple):
    """Records of one partition, in the order of its log."""

    partition: Partition
    messages: list[Message]
    batch: Batch


class Sorted(NamedTuple):
    """A batch of messages by what they are."""

    records: list[Records]
    ended: set[Partition]
    """Partitions that were read to their end, after the last of their records here."""
    errors: list[KafkaError]


def sort_out(messages: list[Message]) -> Sorted:
    """Sort messages of any partitions. Few calls for each, since all the traffic comes through here."""
    record_ms = _record_ms(messages)
    ended: set[Partition] = set()
    errors: list[KafkaError] = []
    untimed = np.flatnonzero(record_ms < 0).tolist()
    told = [i for i in untimed if messages[i].error() is not None]  # what is no record has no time
    if told:
        last = {_partition(message): i for i, message in enumerate(messages) if message.error() is None}
        for i in told:
            error = messages[i].error()
            if error is None or error.code() != KafkaError._PARTITION_EOF:
                errors += [] if error is None else [error]
            elif last.get(_partition(messages[i]), -1) < i:
                ended.add(_partition(messages[i]))
        kept = np.delete(np.arange(len(messages)), told)
        messages, record_ms = [messages[i] for i in kept.tolist()], record_ms[kept]
    return Sorted(list(_by_partition(messages, record_ms)), ended, errors)


def _record_ms(messages: list[Message]) -> Ints:
    """(N,) the records' own times; -1 where there is none."""
    pairs = chain.from_iterable(map(Message.timestamp, messages))
    kinds_and_times = np.fromiter(pairs, np.int64, 2 * len(messages)).reshape(-1, 2)
    return np.where(kinds_and_times[:, 0] == TIMESTAMP_NOT_AVAILABLE, -1, kinds_and_times[:, 1])


def _partition(message: Message) -> Partition:
    return message.topic() or "", message.partition() or 0


def _by_partition(messages: list[Message], record_ms: Ints) -> Iterator[Records]:
    if not messages:
        return
    topics = list(map(Message.topic, messages))
    names = [topics[0]] if topics.count(topics[0]) == len(topics) else list(dict.fromkeys(topics))
    for topic in names:
        rows = np.arange(len(topics)) if len(names) == 1 else np.flatnonzero([t == topic for t in topics])
        own = messages if len(names) == 1 else [messages[i] for i in rows.tolist()]
        numbers = np.array(list(map(Message.partition, own)), dtype=np.int64)
        if (numbers == numbers[0]).all():
            yield _records(topic or "", own, record_ms[rows])
            continue
        order = np.argsort(numbers, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
            yield _records(topic or "", [own[i] for i in group.tolist()], record_ms[rows][group])


def _records(topic: str, messages: list[Message], record_ms: Ints) -> Records:
    batch = Batch(list(map(Message.value, messages)), _offsets(messages), record_ms)
    return Records((topic, messages[0].partition() or 0), messages, batch)


def _offsets(messages: list[Message]) -> Ints:
    """(N,) offsets; they ascend, so where as many lie between first and last, none is missing."""
    first, last = messages[0].offset() or 0, messages[-1].offset() or 0
    if last - first == len(messages) - 1:
        return np.arange(first, last + 1)
    return np.array(list(map(Message.offset, messages)), dtype=np.int64)
