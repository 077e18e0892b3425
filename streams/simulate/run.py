"""The command ``fairstream simulate``."""

import sys
import time
from pathlib import Path

import msgspec
from rich.console import Console

from monitor.config import Config
from streams.simulate.progress import progress
from streams.simulate.records import Recorder
from streams.simulate.scenario import Scenario
from streams.simulate.tally import Tally, describe
from streams.simulate.traffic import Traffic
from streams.simulate.writer import Pacer, WriteError, Writer, write_all

FAILED = 1
INTERRUPTED = 130


def start_of(now_ms: int, duration_ms: int, speed: float | None) -> int:
    """When traffic must start so that no event is ahead of the clock when it is written.

    Without a speed it ends now; at the speed of the clock it starts now.

    >>> start_of(1_000_000, 60_000, None), start_of(1_000_000, 60_000, 1.0), start_of(1_000_000, 60_000, 2.0)
    (940000, 1000000, 970000)
    """
    writing_ms = 0 if speed is None else round(duration_ms / speed)
    return min(now_ms, now_ms - duration_ms + writing_ms)


def run_simulate(  # noqa: PLR0913 - one argument for each option of the command
    config: Config,
    *,
    scenario: Scenario,
    rate: float,
    duration_ms: int,
    seed: int,
    start_ms: int | None = None,
    impressions: int | None = None,
    speed: float | None = None,
    summary: Path | None = None,
    wall_clock: bool = False,
) -> int:
    """Write simulated traffic to the configured topics; gives the command's exit code.

    Args:
        config: where to write.
        scenario: what the traffic looks like.
        rate: impressions (items shown) per second of event time, on average.
        duration_ms: event time covered.
        seed: the same seed and arguments give the same records.
        start_ms: first event time; default such that no event is ahead of the clock (see :func:`start_of`).
        impressions: exact number of impressions, instead of ``rate``.
        speed: event time passes this many times as fast as the clock (1: live); None: as fast as possible.
        summary: file for the account, as JSON.
        wall_clock: stamp records with the time of writing, not with their event time.
    """
    console = Console(stderr=True)
    began = time.monotonic()
    tally = Tally(scenario)
    if start_ms is None:
        start_ms = start_of(time.time_ns() // 1_000_000, duration_ms, speed)
    try:
        traffic = Traffic(
            scenario,
            seed=seed,
            start_ms=start_ms,
            duration_ms=duration_ms,
            rate=rate,
            impressions=impressions,
        )
        writer = Writer(config.kafka, wall_clock=wall_clock)
        code = _write(traffic, writer, tally, speed, console)
        writer.flush()
    except (WriteError, ValueError) as error:
        console.print(f"fairstream simulate: {error}", style="red", highlight=False)
        return FAILED
    found = tally.summary(time.monotonic() - began)
    sys.stdout.write(describe(found))
    if summary is not None:
        summary.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    return code


def _write(traffic: Traffic, writer: Writer, tally: Tally, speed: float | None, console: Console) -> int:
    """Write all the traffic, or as much as there is time for until an interrupt."""
    recorder = Recorder(traffic)
    plan = traffic.plan
    pacer = None if speed is None else Pacer(speed, plan.start_ms)
    with progress("simulating", plan.duration_ms, console) as report:
        for block in traffic.blocks():
            before = writer.written
            try:
                write_all(writer, recorder.records(block), pacer)
            except KeyboardInterrupt:
                return INTERRUPTED
            finally:
                tally.add(block, writer.written - before)
            report(block.end_ms - plan.start_ms, f"{tally.impressions.sum():,} impressions")
    return 0
