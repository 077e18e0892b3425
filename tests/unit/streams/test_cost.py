"""A record may take so many steps of Python's interpreter and no more, whatever the speed of the machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from types import FrameType
from typing import Any

import pytest
import yaml
from confluent_kafka import TIMESTAMP_CREATE_TIME, Message

from monitor.config import parse_config
from monitor.decoding import ImpressionDecoder
from monitor.partition import SourcePartition
from monitor.snapshots import Kind
from streams.records import sort_out
from tests.bench.load import START_MS, Load


class Steps:
    """How many instructions of Python's interpreter there were, and calls of functions written in Python."""

    def __init__(self) -> None:
        self.instructions = 0
        self.calls = 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        """Python's trace function."""
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self.calls += event == "call"
        self.instructions += event == "opcode"
        return self


@contextmanager
def counted() -> Iterator[Steps]:
    """Count what is done in the block."""
    before, steps = sys.gettrace(), Steps()
    sys.settrace(steps)
    try:
        yield steps
    finally:
        sys.settrace(before)


def steps(load: Load, records: int) -> Steps:
    """What it takes to bring so many records from messages into sums, as the role aggregate does."""
    config = parse_config(yaml.safe_dump(load.document("nowhere:9092", "x")))
    partition = SourcePartition(config, Kind.IMPRESSIONS, ImpressionDecoder(config), 0)
    stamp = (TIMESTAMP_CREATE_TIME, START_MS)
    messages = [
        Message(topic="t", partition=0, offset=i, value=value, timestamp=stamp)
        for i, value in enumerate(islice(load.requests(START_MS), records))
    ]
    with counted() as found:
        [own] = sort_out(messages).records
        outcome = partition.read(own.batch)
    assert (outcome.accepted, outcome.items) == (records, records * load.items)
    return found


@pytest.mark.parametrize(("items", "instructions", "calls"), [(1, 62, 0.1), (25, 520, 1)])
def test_a_record_takes_no_more_steps_than_it_did(items: int, instructions: int, calls: float) -> None:
    """A third more than were counted: room for a change, not for another loop or call for each record."""
    few, many = (steps(Load(items=items, cells=100), records) for records in (500, 1_500))
    assert (many.instructions - few.instructions) / 1_000 < instructions
    assert (many.calls - few.calls) / 1_000 < calls
