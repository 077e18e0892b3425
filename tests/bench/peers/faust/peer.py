"""Faust: hopping tables of impressions and exposure, in memory with changelogs, by the time of the stream."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import faust
from account import Account, options, shown

given = options()
app = faust.App(
    f"peer-faust-{given.directory.rpartition('/')[2]}",  # a group of its own: it begins at the beginning
    broker=f"kafka://{given.bootstrap}",
    store="memory://",
    datadir=given.directory,
    topic_partitions=1,
    topic_disable_leader=True,
    web_enabled=False,
)
topic = app.topic(given.topic, value_serializer="json")


def hopping(name: str, default: Any) -> Any:
    """A table over five minutes in steps of ten seconds."""
    table = app.Table(name, default=default, partitions=1)
    return table.hopping(timedelta(minutes=5), timedelta(seconds=10), expires=timedelta(minutes=10))


impressions, exposure = hopping("impressions", int), hopping("exposure", float)


@app.agent(topic)
async def sums(stream: Any) -> None:
    """Add each item to the windows that it falls into."""
    account, left = None, given.records
    async for request in stream:
        account = account or Account()
        for cell, weight in shown(request):
            impressions[cell] += 1
            exposure[cell] += weight
        left -= 1
        if left == 0:
            await app.producer.flush()
            account.tell()
            os._exit(0)  # an agent cannot wait for the end of its own worker


if __name__ == "__main__":
    app.Worker(loglevel="WARNING").execute_from_commandline()
