"""The garbage collector leaves the records of a batch alone."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Message

from streams.aggregate import BATCH_RECORDS, spare_collector


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The collector is the whole process's."""
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def _collections() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())


def test_reading_a_batch_does_not_start_the_collector() -> None:
    """Of its records each is an object that the collector would look at; they end by themselves."""
    spare_collector()
    gc.collect()
    before = _collections()
    for _ in range(3):
        messages = [Message(topic="t", offset=i) for i in range(BATCH_RECORDS)]
        assert all(map(gc.is_tracked, messages))
    assert _collections() == before


def test_cycles_are_still_found() -> None:
    """Where objects stay in great numbers, the collector looks at them."""
    spare_collector()
    gc.collect()
    before = _collections()
    for _ in range(250_000):
        cycle: list[Any] = []
        cycle.append(cycle)
    assert _collections() > before
