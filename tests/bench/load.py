"""What the benchmarks read: seeded impressions of about 200 bytes, and a configuration that sums them."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from confluent_kafka import Producer

from monitor.config import Config, parse_config
from streams.clients import producer_settings
from streams.topics import create_topics
from tests.support.arrow import schema_of, stream_of

START_MS = 1_700_000_000_000 // 3_600_000 * 3_600_000
VIEWERS = 100_000
THREE_WINDOWS = (("5m", "10s"), ("1h", "1m"), ("24h", "15m"))

LOT = 100
"""Records that go to one partition before the next one's turn."""

_TEMPLATES = 65_536
"""Different items; enough that nearly every cell has viewers in every bucket."""

_AGES = ("18-24", "25-34", "35-44", "45-54", "55+")
_VARYING = "1700000000123"  # replaced by the time of each record; as long as those are


@dataclass(frozen=True)
class Load:
    """A kind of traffic, and what is to be watched of it."""

    items: int = 1
    """Of each request."""
    cells: int = 500
    """Combinations of attribute values: 10 or more, a multiple of 10."""
    partitions: int = 1
    per_ms: int = 400
    """Requests in a millisecond of event time; at about the speed of reading, panes fill as they do live."""
    windows: tuple[tuple[str, str], ...] = THREE_WINDOWS
    """Length and slide of each."""
    per_stream: int = 0
    """Requests in a record, as an Arrow stream; 0: each is a record, in JSON."""

    def requests(self, start_ms: int, seed: int = 1) -> Iterator[bytes]:
        """Yield records without end, in the order of event time."""
        templates = cycle(self.templates(seed))
        for now_ms in count(start_ms):
            now = str(now_ms).encode()
            for head, tail in islice(templates, self.per_ms):
                yield head + now + tail

    def templates(self, seed: int = 1) -> list[tuple[bytes, bytes]]:
        """Records without their time: what stands before it and after it."""
        chance = random.Random(seed)
        whole = [self._request(chance).encode() for _ in range(_TEMPLATES // self.items)]
        pieces = [record.partition(_VARYING.encode()) for record in whole]
        return [(head, tail) for head, _, tail in pieces]

    def _request(self, chance: random.Random) -> str:
        viewer = chance.randrange(VIEWERS)
        items = ",".join(self._item(chance, position) for position in range(1, self.items + 1))
        return (
            f'{{"ts":{_VARYING},"request_id":"r-{chance.randrange(10**9):09}","viewer_id":"u-{viewer:07}",'
            f'"surface":"home","viewer":{{"gender":"{"fm"[viewer % 2]}","age":"{_AGES[viewer // 2 % 5]}"}},'
            f'"items":[{items}]}}'
        )

    def _item(self, chance: random.Random, position: int) -> str:
        kind = chance.randrange(self.cells // 10)
        return (
            f'{{"id":"p-{chance.randrange(10**6):06}","position":{position},'
            f'"attrs":{{"skin_tone":"{kind % 10}","hair_pattern":"{kind // 10}"}}}}'
        )

    def document(self, bootstrap: str, unique: str) -> dict[str, Any]:
        """A configuration with topics of its own."""
        names = ("impressions", "engagements", "panes", "verdicts", "alerts", "dead_letter")
        rule = {"dimension": "item.skin_tone", "for": "1m", "clear_for": "1m", "compare": "reference"}
        targets = {str(tone): 0.1 for tone in range(10)}
        return {
            "surfaces": ["home", "probe"],
            "attributes": {
                "viewer": {"gender": {}, "age": {}},
                "item": {"skin_tone": {}, "hair_pattern": {}},
            },
            "windows": [{"length": length, "slide": slide} for length, slide in self.windows],
            "engagement": {"actions": ["save"]},
            "limits": {"max_cells": 20_000, "suppress_below": 1, "min_viewers": 0},
            "rules": [
                {
                    **rule,
                    "name": f"exposure-{length}",
                    "metric": "exposure_share",
                    "window": length,
                    "reference": {"targets": targets},
                }
                for length, _ in self.windows
            ],
            "kafka": {
                "bootstrap": bootstrap,
                "group_prefix": f"bench-{unique}",
                "partitions": self.partitions,
                "internal_partitions": 1,
                "topics": {name: f"{name}-{unique}" for name in names},
            },
        }


class Topic:
    """A load with topics of its own, and the file of its configuration."""

    def __init__(self, load: Load, bootstrap: str, directory: Path, **sections: Any) -> None:
        """``sections`` are added to the configuration."""
        self.load = load
        self.unique = uuid4().hex[:8]
        self.file = directory / f"bench-{self.unique}.yaml"
        document = load.document(bootstrap, self.unique) | sections
        self.file.write_text(yaml.safe_dump(document), encoding="utf-8")
        self.config: Config = parse_config(self.file.read_text(encoding="utf-8"), str(self.file))
        create_topics(self.config)

    def variant(self, **sections: Any) -> Path:
        """A file with another configuration of the same source topics, whose other topics are made too."""
        other = uuid4().hex[:8]
        document = yaml.safe_load(self.file.read_text(encoding="utf-8"))
        kept = document["kafka"]["topics"]
        document |= sections
        document["kafka"] = document["kafka"] | {
            "group_prefix": f"bench-{other}",
            "topics": {
                name: topic if name in {"impressions", "engagements"} else f"{name}-{other}"
                for name, topic in kept.items()
            },
        }
        file = self.file.with_name(f"bench-{other}.yaml")
        file.write_text(yaml.safe_dump(document), encoding="utf-8")
        create_topics(parse_config(file.read_text(encoding="utf-8"), str(file)))
        return file

    def command(self, role: str, *options: str, file: Path | None = None) -> list[str]:
        """Command line of a role with this configuration, or another one."""
        return [sys.executable, "-m", "streams", role, "--config", str(file or self.file), *options]

    def fill(self, records: int) -> None:
        """Append so many requests, in lots or streams to the partitions in turn.

        Raises:
            RuntimeError: the broker did not take them.
        """
        producer = Producer(bulk_settings(self.config))
        topic, partitions = self.config.kafka.topics.impressions, self.load.partitions
        values = islice(self.load.requests(START_MS), records)
        number, per_stream = 0, self.load.per_stream
        schema = schema_of(self.config, "impressions")
        while lot := list(islice(values, per_stream or LOT)):
            if per_stream:
                lot = [stream_of([json.loads(value) for value in lot], schema)]
            append(producer, topic, number % partitions, lot)
            number += 1
        if left := producer.flush(60.0):
            raise RuntimeError(f"the broker did not take {left} records")


def bulk_settings(config: Config) -> dict[str, Any]:
    """A producer for much traffic: it costs little, and the broker keeps what it is sent."""
    return producer_settings(config.kafka) | {
        "compression.type": "none",
        "batch.size": 1_000_000,
        "queue.buffering.max.messages": 500_000,
    }


def append(producer: Producer, topic: str, partition: int, values: list[bytes]) -> None:
    """Append records to a partition; waits while the producer's queue is full."""
    left = [{"value": value} for value in values]
    while left:
        taken = producer.produce_batch(topic, left, partition=partition)
        left = left[taken:]
        producer.poll(0.05 if left else 0)
