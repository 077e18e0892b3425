"""A measured process: reads a topic from beginning to end and says what that cost, as one line of JSON.

``python -m tests.bench.worker limit|decode|fairstream --config FILE --records N [--core 0]``. Time is the
processor's, of the whole process with its threads, from before it joins the group to after the last record
(``fairstream``: after the last snapshot was acknowledged and the last offset committed). Starting Python
and importing are left out, for all alike.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaException, Message, Producer

from monitor.config import Config, parse_config
from monitor.decoding import ImpressionDecoder
from streams.aggregate import Aggregate, spare_collector
from streams.clients import consumer_settings, producer_settings

BATCH = 20_000
LOOK_EVERY_S = 0.05


def used_s() -> float:
    """Seconds of processor time of this process so far, in user and kernel mode."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def consume(config: Config, records: int, use: Callable[[list[Message]], object]) -> None:
    """Read so many records as aggregate's consumer does, in batches, and use each batch."""
    consumer = Consumer(consumer_settings(config.kafka, "bare", "bare") | {"enable.partition.eof": False})
    consumer.subscribe([config.kafka.topics.impressions])
    left = records
    while left > 0:
        messages = consumer.consume(BATCH, 0.2)
        for message in messages[:1]:
            if error := message.error():
                raise KafkaException(error)
        use(messages)
        left -= len(messages)
    consumer.close()


def limit(config: Config, records: int) -> None:
    """Take records and throw them away."""
    consume(config, records, len)


def limit_without_gc(config: Config, records: int) -> None:
    """The same without Python's cyclic garbage collection, which each batch of objects sets off."""
    gc.disable()
    limit(config, records)


def decode(config: Config, records: int) -> None:
    """Parse each batch as aggregate does, into the record type that the configuration asks for."""
    decoder: Any = ImpressionDecoder(config)
    parse = decoder._json.decode_lines

    def use(messages: list[Message]) -> None:
        for first in range(0, len(messages), 500):
            parse(b"\n".join([m.value() or b"" for m in messages[first : first + 500]]))

    consume(config, records, use)


def fairstream(config: Config, records: int) -> None:
    """Run the role aggregate until it has read, published and committed everything."""
    consumer = Consumer(consumer_settings(config.kafka, "aggregate", "bench"))
    spare_collector()
    role = Aggregate(config, consumer, Producer(producer_settings(config.kafka)))
    pause = threading.Event()  # never set: its wait passes the time

    def watch() -> None:
        while not (role.status()["at_end"] and _accepted(role) >= records):
            pause.wait(LOOK_EVERY_S)
        role.stop()

    threading.Thread(target=watch, daemon=True).start()
    role.run()
    if (accepted := _accepted(role)) != records:
        raise RuntimeError(f"{accepted} records were accepted, not {records}")
    role.close()


def _accepted(role: Aggregate) -> int:
    return sum(counts["accepted"] for counts in role.tally.counts.values())


WORK: dict[str, Callable[[Config, int], None]] = {
    "limit": limit,
    "limit_without_gc": limit_without_gc,
    "decode": decode,
    "fairstream": fairstream,
}


class Cost(msgspec.Struct, frozen=True):
    """What a worker's pass over the records cost."""

    cpu_s: float
    wall_s: float


def main() -> None:
    """Do the work once and print what it cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=list(WORK))
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--core", type=int, help="the only core to run on")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    config = parse_config(options.config.read_text(encoding="utf-8"), str(options.config))
    cpu_s, wall_s = used_s(), time.monotonic()
    WORK[options.work](config, options.records)
    print(json.dumps({"cpu_s": used_s() - cpu_s, "wall_s": time.monotonic() - wall_s}))


if __name__ == "__main__":
    main()
