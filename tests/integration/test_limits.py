"""What happens when the next one in line takes nothing: memory stays bounded, and nothing is lost."""

from __future__ import annotations

import time
from pathlib import Path

from monitor.verdicts import decode_verdict
from tests.chaos.calm import calm_verdicts, key_of
from tests.chaos.oracle import read_log
from tests.conftest import Spawn
from tests.integration.test_pipeline import MINUTES, RULES, hash_of, traffic, write
from tests.support.events import impression
from tests.support.kafka import ApacheKafka
from tests.support.pipeline import WAIT_S, Pipeline
from tests.support.processes import Child
from tests.support.wait import wait_for

RECORDS = 120_000


def test_aggregate_reads_no_further_than_it_can_publish(
    private_kafka: ApacheKafka, unique: str, tmp_path: Path, spawn: Spawn
) -> None:
    """While the broker does not take snapshots, records stay in their topic; then all of them are counted."""
    pipeline = Pipeline(private_kafka.bootstrap, unique, tmp_path, spawn, flush_interval="100ms")
    topic = pipeline.topics.impressions
    base_ms = time.time_ns() // 1_000_000 - 600_000
    for number in range(RECORDS):
        viewer = f"u-{number % 50}"
        record = impression(base_ms + number, viewer)
        pipeline.producer.produce(topic, record, b"u", partition=hash_of(viewer))
        if number % 10_000 == 0:
            pipeline.producer.flush(WAIT_S)
    assert pipeline.producer.flush(WAIT_S) == 0
    client = f"{pipeline.config.kafka.group_prefix}-aggregate"
    private_kafka.throttle(client, 200)
    aggregate = pipeline.start("aggregate")
    seen: list[int] = []

    def stands_still() -> bool:
        status = pipeline.status("aggregate")
        seen.append(0 if status is None else status["topics"][topic]["read"])
        return seen[-1] > 0 and len(seen) > 10 and len(set(seen[-10:])) == 1

    wait_for(stands_still, WAIT_S, "aggregate to wait", watch=[aggregate], interval_s=0.2)
    assert seen[-1] < RECORDS
    private_kafka.throttle(client, None)
    counts = pipeline.wait_at_end(aggregate, RECORDS)["topics"][topic]
    assert (counts["accepted"], counts["rejected"]) == (RECORDS, {})
    published = [snapshot.sums() for snapshot in pipeline.panes().values()]
    assert sum(int(values[index % 3 == 0].sum()) for index, values in published) == RECORDS


def judged(pipeline: Pipeline, count: int, watch: list[Child]) -> None:
    """Wait until monitor has said so much."""

    def enough() -> bool:
        status = pipeline.status("monitor")
        return status is not None and sum(status["verdicts"].values()) >= count

    wait_for(enough, WAIT_S, f"{count} verdicts", watch=watch)


def test_a_monitor_that_was_away_for_an_hour_misses_no_pane(
    bootstrap: str, unique: str, tmp_path: Path, spawn: Spawn
) -> None:
    """Aggregate lets go of its panes meanwhile; the verdicts are those of a monitor that was never away."""
    pipeline = Pipeline(bootstrap, unique, tmp_path, spawn, rules=RULES)
    begin_ms = time.time_ns() // 1_000_000 - (2 * MINUTES + 5) * 60_000
    events = traffic(12, begin_ms) + traffic(13, begin_ms + MINUTES * 60_000)
    early = len(events) // 10
    write(pipeline, events[:early])
    aggregate, monitor = pipeline.start("aggregate"), pipeline.start("monitor")
    judged(pipeline, 10, [aggregate, monitor])
    monitor.stop()
    step = len(events) // 10
    for start in range(early, len(events), step):
        write(pipeline, events[start : start + step])
        status = pipeline.wait_at_end(aggregate, min(start + step, len(events)))
        assert status["panes_open"] <= 4 * 10, "open panes are those of the allowed lateness, not of the hour"
    wanted = {key_of(v): v for v in calm_verdicts(pipeline.config, read_log(pipeline), 2)}
    monitor = pipeline.start("monitor")

    def said() -> dict[object, object]:
        records = pipeline.read(pipeline.topics.verdicts)
        return {key_of(v): v for v in (decode_verdict(r.value or b"") for r in records)}

    wait_for(lambda: len(said()) >= len(wanted), WAIT_S, "every verdict", watch=[aggregate, monitor])
    assert said() == wanted
