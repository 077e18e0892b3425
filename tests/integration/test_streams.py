"""Arrow streams and JSON beside each other in the source topics, through all that reads them."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from random import Random

import pyarrow as pa

from streams.verify.recount import LogRecord
from tests.conftest import Spawn
from tests.integration.test_pipeline import start_ms, traffic
from tests.integration.test_verify import told_all, verify
from tests.support.arrow import packed, schema_of, stream_of
from tests.support.pipeline import WAIT_S, Pipeline
from tests.support.wait import wait_for


def append(pipeline: Pipeline, log: list[LogRecord]) -> None:
    """Write the records' values to their topics."""
    topics = {"impressions": pipeline.topics.impressions, "engagements": pipeline.topics.engagements}
    for record in log:
        pipeline.producer.produce(topics[record.kind], record.value, b"k", partition=record.partition)
    assert pipeline.producer.flush(30.0) == 0


def test_streams_count_as_their_rows_do(
    bootstrap: str, unique: str, tmp_path: Path, spawn: Spawn, kafka_only: None
) -> None:
    """Exact through a kill -9; each bad row is a dead letter of its own, with all its columns."""
    pipeline = Pipeline(bootstrap, unique, tmp_path, spawn, dimensions=["item.skin_tone", "viewer.gender"])
    config, events = pipeline.config, traffic(5, start_ms())
    log = [LogRecord(kind, p, offset, -1, value) for offset, (kind, p, value) in enumerate(events)]
    log = packed(config, log, Random(5))
    impressions = [json.loads(value) for kind, _, value in events if kind == "impressions"]
    old, good = impressions[0], impressions[-1]
    rows = [good, old, good | {"surface": ""}, old | {"ts": 0}]
    mixed = stream_of(rows, schema_of(config, "impressions"))
    bad = [mixed[:200], stream_of([good], schema_of(config, "impressions"), compression="zstd")]
    half = len(log) // 2
    append(pipeline, log[:half])
    aggregate, monitor = pipeline.start("aggregate"), pipeline.start("monitor")
    pipeline.wait_at_end(aggregate, half)
    aggregate.send(signal.SIGKILL)
    append(pipeline, log[half:] + [LogRecord("impressions", 0, 0, -1, value) for value in (mixed, *bad)])
    aggregate = pipeline.start("aggregate")
    pipeline.wait_at_end(aggregate, 1)
    wait_for(lambda: told_all(pipeline), WAIT_S, "monitor to be told", watch=[aggregate, monitor])

    code, found, child = verify(pipeline, spawn)
    assert (code, found["differences"]) == (0, 0), child.describe()
    assert found["events"]["rejected"] == {"malformed": 2, "invalid": 2, "late": 1}
    assert found["events"]["read"] == len(events) + 6
    assert found["dead_letters"]["compared"] == 5
    letters = [r for r in pipeline.read(pipeline.topics.dead_letter) if "row" in r.headers]
    said = {int(r.headers["row"]): (r.headers["reason"], r.headers["detail"].split(":")[0]) for r in letters}
    assert said == {
        1: ("late", "its pane is closed"),
        2: ("invalid", "surface"),
        3: ("invalid", "ts"),
    }
    [late] = [r.value for r in letters if r.headers["row"] == "1"]
    [back] = pa.ipc.open_stream(late).read_all().to_pylist()
    assert (back["ts"], back["items"][0]["id"]) == (old["ts"], "p-1")
