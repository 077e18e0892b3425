from __future__ import annotations

import signal
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from monitor.config import Config, parse_config
from streams.replay import ReplayProgress, run_replay
from streams.simulate import SimulateSummary, load_scenario, run_simulate
from streams.simulate.records import Kind, Record
from streams.simulate.writer import WriteError, Writer, write_all
from tests.conftest import Spawn
from tests.support.ports import free_port
from tests.support.wait import wait_for

pytestmark = pytest.mark.integration

PARTITIONS = 2
START_MS = 1_700_000_000_000


class Written(NamedTuple):
    """A record as the broker has it."""

    partition: int
    time_ms: int
    key: bytes
    value: bytes


def make_config(bootstrap: str, suffix: str) -> Config:
    """Return a configuration with topics of its own."""
    topics = f"{{impressions: impressions-{suffix}, engagements: engagements-{suffix}}}"
    return parse_config(
        "surfaces: [home]\nwindows: [{length: 5m, slide: 10s}]\n"
        f"kafka: {{bootstrap: '{bootstrap}', topics: {topics}}}"
    )


@pytest.fixture
def config(bootstrap: str, unique: str) -> Config:
    """Return a configuration whose topics exist."""
    config = make_config(bootstrap, unique)
    topics = config.kafka.topics
    admin = AdminClient({"bootstrap.servers": bootstrap})
    new = [NewTopic(name, PARTITIONS, 1) for name in (topics.impressions, topics.engagements)]
    for created in admin.create_topics(new).values():
        created.result(10)
    return config


def read_all(bootstrap: str, topic: str) -> list[Written]:
    """Read a topic from its beginning to its end."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "unused",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
    found: list[Written] = []
    ended: set[int | None] = set()
    try:
        while len(ended) < PARTITIONS:
            message = consumer.poll(30)
            assert message is not None, f"the end of {topic} did not come"
            error = message.error()
            if error is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                ended.add(message.partition())
                continue
            partition, key, value = message.partition(), message.key(), message.value()
            assert partition is not None
            assert key is not None
            assert value is not None
            found.append(Written(partition, message.timestamp()[1], key, value))
    finally:
        consumer.close()
    return found


def test_what_is_simulated_is_in_the_topics_to_the_record(
    config: Config, bootstrap: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The summary's totals are those of the topics; keys, times and partitions are as the contract says."""
    file = tmp_path / "summary.json"
    code = run_simulate(
        config,
        scenario=load_scenario(),
        rate=0,
        duration_ms=3_600_000,
        seed=3,
        start_ms=START_MS,
        impressions=30_000,
        summary=file,
    )
    assert code == 0
    assert "wrote 30,000 impressions" in capsys.readouterr().out
    summary = msgspec.json.decode(file.read_bytes(), type=SimulateSummary)
    impressions = read_all(bootstrap, config.kafka.topics.impressions)
    engagements = read_all(bootstrap, config.kafka.topics.engagements)
    shown = [msgspec.json.decode(record.value) for record in impressions]
    done = [msgspec.json.decode(record.value) for record in engagements]
    assert sum(len(value["items"]) for value in shown) == summary.total.impressions == 30_000
    assert len(shown) == summary.total.requests
    assert len(done) == summary.total.engagements
    assert Counter(value["surface"] for value in shown) == {
        name: counts.requests for name, counts in summary.surfaces.items()
    }
    assert Counter(value["action"] for value in done) == summary.actions
    for record, value in zip(impressions + engagements, shown + done, strict=True):
        assert record.time_ms == value["ts"]
        assert record.key == value["viewer_id"].encode()
    home = {record.key: record.partition for record in impressions}
    assert all(home[record.key] == record.partition for record in engagements)
    times = [record.time_ms for record in impressions + engagements]
    assert (min(times), max(times)) == (summary.first_ts_ms, summary.last_ts_ms)


def test_a_run_at_a_speed_writes_the_same_records(config: Config, bootstrap: str) -> None:
    """Pacing changes when records are written, not which; with the wall's clock they bear that time."""
    code = run_simulate(
        config,
        scenario=load_scenario(),
        rate=2,
        duration_ms=300_000,
        seed=3,
        start_ms=START_MS,
        speed=1_000.0,
        wall_clock=True,
    )
    assert code == 0
    found = read_all(bootstrap, config.kafka.topics.impressions)
    assert sum(len(msgspec.json.decode(record.value)["items"]) for record in found) == 600
    assert all(record.time_ms > START_MS + 300_000 for record in found)


def test_the_replay_is_in_the_topics_to_the_record(config: Config, bootstrap: str) -> None:
    """All impressions and clicks of both weeks arrive, with the progress told along the way."""
    told: list[ReplayProgress] = []
    assert run_replay(config, on_progress=told.append) == 20_080
    assert len(read_all(bootstrap, config.kafka.topics.impressions)) == 20_000
    assert len(read_all(bootstrap, config.kafka.topics.engagements)) == 80
    assert [each.written for each in told] == [*range(100, 20_001, 100), 20_080]
    assert [each.ranker for each in told] == sorted((each.ranker for each in told), reverse=True)


def test_a_full_queue_makes_the_writer_wait(config: Config, bootstrap: str) -> None:
    """When the broker is slower than the traffic nothing is lost."""
    writer = Writer(config.kafka, queue_records=10)
    write_all(writer, [Record(Kind.ENGAGEMENT, START_MS, b"u", b"%d" % number) for number in range(500)])
    writer.flush()
    found = read_all(bootstrap, config.kafka.topics.engagements)
    assert [record.value for record in found] == [b"%d" % number for number in range(500)]


CHILD = """
import signal, sys
from pathlib import Path
from streams.simulate import load_scenario, run_simulate
from tests.integration.test_simulate import make_config
signal.signal(signal.SIGINT, signal.default_int_handler)
bootstrap, suffix, file = sys.argv[1:]
config = make_config(bootstrap, suffix)
sys.exit(run_simulate(config, scenario=load_scenario(), rate=200, duration_ms=3_600_000,
                      seed=3, speed=1.0, summary=Path(file)))
"""


def test_an_interrupted_run_accounts_for_what_it_wrote(
    config: Config, bootstrap: str, unique: str, tmp_path: Path, spawn: Spawn
) -> None:
    """After an interrupt everything written is delivered, and the summary counts that and no more."""
    file = tmp_path / "summary.json"
    child = spawn([sys.executable, "-c", CHILD, bootstrap, unique, str(file)])
    topic = config.kafka.topics.impressions
    wait_for(lambda: len(read_all(bootstrap, topic)) > 10, 60, "the first impressions", watch=[child])
    child.send(signal.SIGINT)
    assert child.wait(60) == 130
    summary = msgspec.json.decode(file.read_bytes(), type=SimulateSummary)
    impressions = [msgspec.json.decode(record.value) for record in read_all(bootstrap, topic)]
    assert summary.total.requests == len(impressions)
    assert summary.total.impressions == sum(len(value["items"]) for value in impressions)
    assert summary.total.engagements == len(read_all(bootstrap, config.kafka.topics.engagements))


@pytest.mark.usefixtures("kafka_only")
def test_a_record_that_is_not_delivered_is_an_error(bootstrap: str, unique: str) -> None:
    """A record that the broker refuses is counted and ends the writing."""
    config = make_config(bootstrap, unique)
    topics = config.kafka.topics
    admin = AdminClient({"bootstrap.servers": bootstrap})
    new = [
        NewTopic(name, PARTITIONS, 1, config={"max.message.bytes": "200"})
        for name in (topics.impressions, topics.engagements)
    ]
    for created in admin.create_topics(new).values():
        created.result(10)
    writer = Writer(config.kafka)
    writer.write(Record(Kind.IMPRESSION, START_MS, b"u", bytes(range(256)) * 8))
    with pytest.raises(WriteError, match="1 records were not delivered"):
        writer.flush()
    assert writer.failed == 1


def test_missing_topics_are_named(bootstrap: str, unique: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without its topics the command fails, says which, and what makes them."""
    config = make_config(bootstrap, unique)
    code = run_simulate(config, scenario=load_scenario(), rate=1, duration_ms=60_000, seed=1)
    assert code == 1
    told = capsys.readouterr().err.replace("\n", " ")
    assert f"engagements-{unique}, impressions-{unique}" in told
    assert "fairstream topics" in told


def test_a_broker_that_is_not_there_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, unique: str
) -> None:
    """Without a broker the command fails and says where it looked."""
    monkeypatch.setattr("streams.simulate.writer._CONNECT_TIMEOUT_S", 0.2)
    bootstrap = f"127.0.0.1:{free_port()}"
    config = make_config(bootstrap, unique)
    assert run_simulate(config, scenario=load_scenario(), rate=1, duration_ms=60_000, seed=1) == 1
    assert bootstrap in capsys.readouterr().err.replace("\n", "")
