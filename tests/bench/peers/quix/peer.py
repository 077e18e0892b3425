"""Quix Streams: a hopping window of two sums, state in RocksDB with changelogs, closed windows out."""

from __future__ import annotations

from typing import Any

from account import Account, options, shown
from quixstreams import Application
from quixstreams.dataframe.windows import Count, Sum

given = options()
app = Application(
    broker_address=given.bootstrap,
    consumer_group=f"peer-quix-{given.directory.rpartition('/')[2]}",
    auto_offset_reset="earliest",
    state_dir=given.directory,
    loglevel="WARNING",
)
topic = app.topic(
    given.topic,
    value_deserializer="json",
    timestamp_extractor=lambda request, _headers, _timestamp, _kind: request["ts"],
)


def cells(request: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each item."""
    return [{"cell": cell, "exposure": weight} for cell, weight in shown(request)]


rows = app.dataframe(topic).apply(cells, expand=True).group_by("cell")
windows = rows.hopping_window(duration_ms=300_000, step_ms=10_000, grace_ms=10_000)
windows.agg(impressions=Count(), exposure=Sum("exposure")).final()

account = Account()
app.run(timeout=3.0)  # ends when nothing has come for so long; waiting takes no processor time
account.tell()
