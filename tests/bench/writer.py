"""Live traffic at a rate, by the clock: ``python -m tests.bench.writer --config FILE --rate N --seconds S``.

Among it, ten times a second, a *probe*: an impression on a surface of its own, whose tone is the number of
its partition. When each was appended (seconds since the epoch) is printed at the end, with the rate that was
reached, as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from itertools import cycle
from pathlib import Path

from confluent_kafka import Producer

from monitor.config import parse_config
from tests.bench.load import Load, append, bulk_settings
from tests.support.events import impression

TICK_S = 0.01
PROBE_EVERY_S = 0.1


def probe(ts_ms: int, partition: int) -> bytes:
    """An impression that can be told from all others."""
    return impression(ts_ms, f"probe-{ts_ms}", "probe", (str(partition),))


def write(config_file: Path, load: Load, rate: float, seconds: float) -> dict[str, object]:
    """Write for so long; what was written and when the probes were."""
    config = parse_config(config_file.read_text(encoding="utf-8"), str(config_file))
    producer, topic = Producer(bulk_settings(config)), config.kafka.topics.impressions
    templates, partitions = cycle(load.templates()), config.kafka.partitions
    pause = threading.Event()  # never set: its wait passes the time
    start_s, written, probes = time.time(), 0, list[tuple[int, float]]()
    for tick in range(int(seconds / TICK_S)):
        pause.wait(max(0.0, start_s + tick * TICK_S - time.time()))
        now_s = time.time()
        now = str(int(now_s * 1000)).encode()
        due = int(rate * (tick + 1) * TICK_S) - written
        lot = [head + now + tail for (head, tail), _ in zip(templates, range(due), strict=False)]
        spread = min(partitions, max(1, due // 10))
        for part in range(spread):
            append(producer, topic, (tick + part) % partitions, lot[part::spread])
        written += due
        if tick % int(PROBE_EVERY_S / TICK_S) == 0:
            partition = len(probes) % partitions
            append(producer, topic, partition, [probe(int(now_s * 1000), partition)])
            probes.append((partition, now_s))
    reached = written / (time.time() - start_s)
    producer.flush(60.0)
    return {"rate": reached, "probes": probes}


def main() -> None:
    """Write, then tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--cells", type=int, default=500)
    parser.add_argument("--core", type=int)
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    print(json.dumps(write(options.config, Load(cells=options.cells), options.rate, options.seconds)))


if __name__ == "__main__":
    main()
