from __future__ import annotations

import io

import pytest
from rich.console import Console

from streams.simulate.progress import PlainProgress, progress
from streams.simulate.run import start_of
from streams.simulate.tally import Counts, SimulateSummary, describe
from streams.simulate.writer import Pacer


def test_a_pacer_keeps_event_time_and_the_clock_together() -> None:
    """An event a minute later is due in a minute at the clock's speed, in a second at sixty times it."""
    now = [10.0]
    live, fast = Pacer(1.0, 500_000, lambda: now[0]), Pacer(60.0, 500_000, lambda: now[0])
    assert (live.wait_s(560_000), fast.wait_s(560_000)) == (60.0, 1.0)
    now[0] = 71.0
    assert (live.wait_s(560_000), fast.wait_s(560_000)) == (-1.0, -60.0)


@pytest.mark.parametrize("speed", [None, 0.1, 0.5, 1.0, 7.0, 1000.0])
def test_no_event_is_ahead_of_the_clock_when_it_is_written(speed: float | None) -> None:
    """Whatever the speed, the default start keeps the first and the last event from the future."""
    now_ms, duration_ms = 1_700_000_000_000, 3_600_000
    start_ms = start_of(now_ms, duration_ms, speed)
    writing_ms = 0 if speed is None else duration_ms / speed
    assert start_ms <= now_ms
    assert start_ms + duration_ms <= now_ms + writing_ms + 1


def test_progress_without_a_terminal_is_a_line_every_tenth() -> None:
    """Plain lines come once for each tenth, with what is done so far."""
    output = io.StringIO()
    with progress("writing", 1_000, Console(file=output)) as report:
        for done in range(0, 1_001, 5):
            report(done, f"{done} records")
    lines = output.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0] == "writing: 10 %, 100 records"
    assert lines[-1] == "writing: 100 %, 1000 records"


def test_progress_of_nothing_does_not_divide_by_zero() -> None:
    """Work of size 0 is done at once."""
    lines: list[str] = []
    PlainProgress("writing", 0, lines.append)(0, "")
    assert lines == []


def test_progress_on_a_terminal_is_a_bar() -> None:
    """A terminal gets a bar with the words that were reported."""
    output = io.StringIO()
    with progress("writing", 10, Console(file=output, force_terminal=True, width=100)) as report:
        report(10, "ten records")
    assert "ten records" in output.getvalue()
    assert "100%" in output.getvalue()


def test_the_account_names_totals_surfaces_and_actions() -> None:
    """What was written is told in words, by surface and by action, with the stretch of event time."""
    counts = Counts(requests=10, impressions=1_000, engagements=20)
    summary = SimulateSummary(
        total=counts,
        surfaces={"home": counts},
        actions={"save": 20},
        first_ts_ms=1_700_000_000_000,
        last_ts_ms=1_700_003_600_000,
        seconds=2.0,
    )
    assert describe(summary).splitlines() == [
        "wrote 1,000 impressions in 10 requests, 20 engagements in 2.0 s (500 impressions/s)",
        "event time from 2023-11-14T22:13:20.000Z over 1h",
        "  home: 1,000 impressions in 10 requests, 20 engagements",
        "  save: 20",
    ]
