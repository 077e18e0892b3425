"""Replays the Open Bandit log: a real shop's impressions, before and after a change of ranker.

The sample (``demo_data/open-bandit/``, where its source and licence stand) holds a week of impressions under
a uniformly random ranker and the same week under Bernoulli Thompson sampling. The random week comes first
with its own event times of November 2019; the other follows it, shifted by exactly seven days.

The log has no user or request id, so every row is a request and a viewer of its own: rows are counted as
independent, and intervals are narrower than they would be if returning viewers were known. The features are
anonymised hashes and keep their names, since nobody outside the shop knows what they mean.
"""

import csv
import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib.resources import files

from monitor.config import Config
from streams.simulate.records import (
    Engagement,
    Impression,
    Item,
    Record,
    engagement_record,
    impression_record,
)
from streams.simulate.writer import Pacer, Writer, write_all

SURFACE = "shop"
ACTION = "click"
WEEK_MS = 7 * 86_400_000
START_MS = 1_574_553_600_000
"""2019-11-24T00:00:00Z: the random ranker's week begins."""
SWITCH_MS = START_MS + WEEK_MS
"""2019-12-01T00:00:00Z: the week of Bernoulli Thompson sampling begins."""
END_MS = SWITCH_MS + WEEK_MS

VIEWER_ATTRIBUTES = ("user_feature_0", "user_feature_1", "user_feature_2", "user_feature_3")
ITEM_ATTRIBUTES = ("item_feature_1", "item_feature_2", "item_feature_3")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLICK_DELAY_MS = 1_000
_REPORT_EVERY = 100


class Ranker(StrEnum):
    """Who chose the items; the ``variant`` of the records."""

    RANDOM = "random"
    BTS = "bts"


@dataclass(frozen=True)
class ReplayProgress:
    """How far the replay is. ``ts_ms`` is the event time of the last record written."""

    written: int
    total: int
    ts_ms: int

    @property
    def ranker(self) -> Ranker:
        """The ranker whose week is being replayed."""
        return Ranker.RANDOM if self.ts_ms < SWITCH_MS else Ranker.BTS


def iter_replay() -> Iterator[Record]:
    """Every impression and click of both weeks, in the order of their event times."""
    records = [*_records(Ranker.RANDOM, 0), *_records(Ranker.BTS, WEEK_MS)]
    records.sort(key=lambda record: record.ts_ms)
    yield from records


def run_replay(
    config: Config,
    *,
    seconds: float | None = None,
    on_progress: Callable[[ReplayProgress], None] | None = None,
    wall_clock: bool = True,
) -> int:
    """Write the replay to the configured topics; gives the number of records, all of them delivered.

    Args:
        config: where to write.
        seconds: how long the fortnight takes on the wall; None: as fast as possible.
        on_progress: called every hundred records, and after the last is delivered. Raising ends the replay.
        wall_clock: stamp records with the time of writing. With the event times of 2019 a broker that keeps
            records for a week would delete them.

    Raises:
        WriteError: a record cannot be written or was not delivered.
    """
    writer = Writer(config.kafka, wall_clock=wall_clock)
    records = list(iter_replay())
    pacer = Pacer((END_MS - START_MS) / 1000 / seconds, START_MS) if seconds else None
    for first in range(0, len(records), _REPORT_EVERY):
        batch = records[first : first + _REPORT_EVERY]
        write_all(writer, batch, pacer)
        if on_progress is not None and writer.written < len(records):
            on_progress(ReplayProgress(writer.written, len(records), batch[-1].ts_ms))
    writer.flush()
    if on_progress is not None:
        on_progress(ReplayProgress(writer.written, len(records), records[-1].ts_ms))
    return writer.written


def _records(ranker: Ranker, shift_ms: int) -> Iterator[Record]:
    """One ranker's week as it stands in its file."""
    log = files("streams") / "demo_data" / "open-bandit" / f"all-{ranker}.csv.gz"
    with log.open("rb") as packed, gzip.open(packed, "rt", encoding="utf-8", newline="") as text:
        for number, row in enumerate(csv.DictReader(text)):
            yield from _row(ranker, f"{ranker}-{number}", row, shift_ms)


def _row(ranker: Ranker, name: str, row: dict[str, str], shift_ms: int) -> Iterator[Record]:
    """One row: an impression of one item, and its click if there was one."""
    ts_ms = (datetime.fromisoformat(row["timestamp"]) - _EPOCH) // timedelta(milliseconds=1) + shift_ms
    viewer = {attribute: row[attribute] for attribute in VIEWER_ATTRIBUTES}
    item = Item(
        row["item_id"], int(row["position"]), {attribute: row[attribute] for attribute in ITEM_ATTRIBUTES}
    )
    yield impression_record(Impression(ts_ms, name, name, SURFACE, [item], ranker.value, viewer))
    if row["click"] == "1":
        click_ms = ts_ms + _CLICK_DELAY_MS
        yield engagement_record(
            Engagement(
                click_ms, name, name, SURFACE, item.id, ACTION, ts_ms, item.attrs, ranker.value, viewer
            )
        )
