"""Bytewax: a sliding window folded into two sums, on one worker, without recovery."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import bytewax.operators as op
import bytewax.operators.windowing as win
import orjson
from account import Account, options, shown
from bytewax.connectors.kafka import KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, run_main

Shown = tuple[datetime, float]
Sums = tuple[int, float]

given = options()


def cells(message: KafkaSourceMessage[bytes | None, bytes | None]) -> list[tuple[str, Shown]]:
    """A keyed row for each item."""
    request = orjson.loads(message.value or b"")
    at = datetime.fromtimestamp(request["ts"] / 1000, UTC)
    return [(cell, (at, weight)) for cell, weight in shown(request)]


def add(sums: Sums, row: Shown) -> Sums:
    """Count an item."""
    return sums[0] + 1, sums[1] + row[1]


def merge(one: Sums, other: Sums) -> Sums:
    """Add two windows' sums."""
    return one[0] + other[0], one[1] + other[1]


flow = Dataflow("peer")
source = kop.input(
    "impressions", flow, brokers=[given.bootstrap], topics=[given.topic], tail=False, batch_size=1_000
)
rows = op.flat_map("cells", source.oks, cells)
clock = win.EventClock(ts_getter=lambda row: row[0], wait_for_system_duration=timedelta(seconds=10))
windower = win.SlidingWindower(
    length=timedelta(minutes=5), offset=timedelta(seconds=10), align_to=datetime(2023, 1, 1, tzinfo=UTC)
)
sums = win.fold_window("sums", rows, clock, windower, lambda: (0, 0.0), add, merge)
op.output("out", sums.down, TestingSink([]))

account = Account()
run_main(flow)
account.tell()
