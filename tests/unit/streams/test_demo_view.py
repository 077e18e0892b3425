from __future__ import annotations

import dataclasses
import io
import math
import xml.etree.ElementTree as ET

import pytest
from rich.console import Console

from alerts.events import AlertEvent, EventReason, EventState, alert_id
from alerts.state import Phase
from monitor.config import Severity
from monitor.verdicts import Direction, Estimate, Outcome, ToleranceBand, Verdict
from streams.demo.snapshot import DemoSnapshot, RoleHealth, SliceRow, moment
from streams.demo.view import export_svg, interval_plot, render, sparkline, squeeze
from streams.demo.words import plain_lines, report
from streams.replay import SWITCH_MS

HOUR_MS = 3_600_000
DIMENSION = "item.item_feature_1"


def alert(slice_: str, state: EventState, hour: float, direction: Direction = Direction.LOW) -> AlertEvent:
    """Return an event of the slice's one alert, so many hours after the switch."""
    at_ms = SWITCH_MS + int(hour * HOUR_MS)
    verdict = Verdict(
        rule="exposure",
        surface="shop",
        dimension=DIMENSION,
        slice_=slice_,
        metric="exposure_share",
        window="24h",
        pane_end_ms=at_ms,
        verdict=Outcome.BREACH,
        estimate=Estimate(value=0.25, lower=0.2, upper=0.3, support=500),
        tolerance=ToleranceBand(low=0.8, high=1.25),
        direction=direction,
        share=0.02,
        reference=0.08,
    )
    return AlertEvent(
        id=alert_id(verdict.series, 0),
        rule=verdict.rule,
        severity=Severity.WARNING,
        surface=verdict.surface,
        dimension=DIMENSION,
        slice_=slice_,
        state=state,
        reason=EventReason.BREACH_HELD,
        at_ms=at_ms,
        since_ms=at_ms,
        verdict=verdict,
    )


def row(slice_: str, phase: Phase = Phase.INACTIVE, direction: Direction = Direction.NONE) -> SliceRow:
    """Return a slice whose share fell to a quarter of its reference."""
    return SliceRow(
        slice_=slice_,
        share=0.02,
        reference=0.08,
        estimate=Estimate(value=0.25, lower=0.2, upper=0.3, support=500),
        trend=[0.08] * 40 + [0.02] * 20,
        phase=phase,
        direction=direction,
    )


def snapshot(progress: float, *alerts: AlertEvent, rows: tuple[SliceRow, ...] = ()) -> DemoSnapshot:
    """Return a snapshot with all roles ready."""
    return DemoSnapshot(
        title="fairstream demo",
        dimension=DIMENSION,
        progress=progress,
        watermark_ms=SWITCH_MS,
        read=1_000,
        accepted=1_000,
        rows=rows,
        alerts=alerts,
        roles={"aggregate": RoleHealth.READY},
        tolerance=ToleranceBand(low=0.8, high=1.25),
    )


def printed(shown: DemoSnapshot, width: int, height: int = 40) -> list[str]:
    """Return the lines of the view on a terminal without colour."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(render(shown, width, height))
    return capture.get().splitlines()


def test_a_sparkline_has_the_reference_in_the_middle() -> None:
    """Zero is the lowest block, half the top the middle, and the top and all above the highest."""
    assert sparkline([0.0, 0.5, 0.999, 1.0, 7.0, -1.0], 1.0) == "▁▅███▁"
    assert sparkline([], 1.0) == ""
    assert sparkline([1.0, 2.0], 0.0) == "▁▁"


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 23, 1_000])
def test_squeezing_keeps_the_mean_of_what_it_joins(count: int) -> None:
    """Few values stay as they are; many become the given number of averages, in their order."""
    values = [float(index) for index in range(count)]
    squeezed = squeeze(values, 8)
    assert len(squeezed) == min(count, 8)
    assert squeezed == sorted(squeezed)
    if count <= 8:
        assert squeezed == values
    if count % 8 == 0 and count:
        assert math.fsum(squeezed) / 8 == pytest.approx(math.fsum(values) / count)


def test_an_interval_is_drawn_on_a_logarithmic_axis() -> None:
    """Parity is in the middle, a factor of 2 a third of the way out, and what is beyond stays at the edge."""
    band = ToleranceBand(low=0.5, high=2.0)
    assert interval_plot(Estimate(), band, 13) == "····╎·│·╎····"
    assert interval_plot(Estimate(value=2.0, lower=1.0, upper=4.0), ToleranceBand(), 13) == "······┼─●──··"
    assert interval_plot(Estimate(value=100.0, lower=50.0, upper=200.0), band, 13) == "····╎·│·╎···●"
    assert interval_plot(Estimate(value=0.0, lower=0.0, upper=0.25), band, 13) == "●──·╎·│·╎····"


@pytest.mark.parametrize("width", [80, 112, 200])
def test_the_view_fills_its_width_and_shows_what_matters(width: int) -> None:
    """Every line has the terminal's width; slices, shares, states and alerts are all there."""
    shown = snapshot(
        0.75,
        alert("84c523", EventState.FIRING, 12),
        rows=(row("84c523", Phase.FIRING, Direction.LOW), row("527a32"), SliceRow(slice_="new")),
    )
    lines = printed(shown, width)
    assert {len(line) for line in lines} == {width}
    text = "\n".join(lines)
    for words in ("▼ firing", "0.25 0.20-0.30", "too little data", "2.0 % instead of 8.0 %", "bts ranker"):
        assert words in text
    assert "Sun 01 Dec 12:00" in text


def test_the_view_before_the_first_window_says_so() -> None:
    """With nothing to show yet the view says what it waits for."""
    shown = dataclasses.replace(snapshot(0.0), watermark_ms=None, roles={"monitor": RoleHealth.STARTING})
    text = "\n".join(printed(shown, 100))
    for words in ("waiting for the first window", "none so far", "nothing yet", "monitor starting"):
        assert words in text


def test_the_view_fits_a_low_terminal() -> None:
    """On few lines fewer alerts are shown, the latest, and the number of earlier ones is told."""
    alerts = [alert(f"s{hour}", EventState.FIRING, hour) for hour in range(1, 10)]
    lines = printed(snapshot(0.75, *alerts, rows=(row("a"), row("b"))), 100, 20)
    assert len(lines) <= 20
    assert "s9" in lines[-2]
    assert "5 earlier" in "\n".join(lines)


def test_the_svg_is_an_image_and_always_the_same() -> None:
    """The exported view is well-formed and does not change from one export to the next."""
    shown = snapshot(0.75, alert("84c523", EventState.FIRING, 12), rows=(row("84c523", Phase.FIRING),))
    image = export_svg(shown)
    assert ET.fromstring(image).tag.endswith("svg")
    assert "84c523" in image
    assert image == export_svg(shown)


def test_plain_lines_tell_every_tenth_once() -> None:
    """Between two tenths there is nothing to say, and a new phase is told at once."""
    first = snapshot(0.12)
    lines = plain_lines(None, first)
    assert lines == [
        "aggregate: ready",
        " 12 %, random ranker, watermark Sun 01 Dec 00:00 UTC, 1,000 events read, 0 rejected",
    ]
    assert plain_lines(first, snapshot(0.19)) == []
    assert len(plain_lines(snapshot(0.19), snapshot(0.2))) == 1
    assert "bts ranker" in plain_lines(snapshot(0.49), snapshot(0.51))[0]


def test_plain_lines_tell_alerts_and_roles_as_they_change() -> None:
    """Each alert event and each change of a role's health is one line."""
    fired = alert("84c523", EventState.FIRING, 12)
    over = alert("84c523", EventState.RESOLVED, 30)
    before, after = snapshot(0.55), snapshot(0.58, fired)
    assert plain_lines(before, after) == [
        "Sun 01 Dec 12:00 UTC  firing: 84c523 shown less, 2.0 % of exposure instead of 8.0 %"
    ]
    assert plain_lines(after, snapshot(0.59, fired, over)) == [
        "Mon 02 Dec 06:00 UTC  resolved: 84c523 2.0 % of exposure instead of 8.0 %"
    ]
    broken = dataclasses.replace(after, roles={"aggregate": RoleHealth.FAILED})
    assert plain_lines(after, broken) == ["aggregate: failed"]


def test_the_report_says_what_fires_what_is_over_and_what_was_silent() -> None:
    """Direction, shares and time of what fires; then what fired and ended, and what never did."""
    shown = snapshot(
        1.0,
        alert("low", EventState.PENDING, 10),
        alert("low", EventState.FIRING, 12),
        alert("over", EventState.FIRING, 13, Direction.HIGH),
        alert("high", EventState.FIRING, 15, Direction.HIGH),
        alert("over", EventState.RESOLVED, 20),
        rows=(row("low"), row("high"), row("over"), row("still")),
    )
    shares = "now 2.0 % of exposure, reference 8.0 %"
    assert report(shown, SWITCH_MS).splitlines() == [
        "Of 1,000 events 1,000 were accepted and none rejected.",
        "Under the random ranker, until Sun 01 Dec 00:00 UTC, no alert fired.",
        "Under the bts ranker 2 slices are firing (item.item_feature_1):",
        f"  low   shown less: {shares}; firing since Sun 01 Dec 12:00 UTC, 12 h after the change",
        f"  high  shown more: {shares}; firing since Sun 01 Dec 15:00 UTC, 15 h after the change",
        "Fired after the change, and over since: over.",
        "Never fired: still.",
    ]


def test_the_report_owns_up_to_a_false_page() -> None:
    """An alert in the random week is told, with its time."""
    lines = report(
        snapshot(1.0, alert("a", EventState.FIRING, -24), rows=(row("a"),)), SWITCH_MS
    ).splitlines()
    assert lines[1] == "Under the random ranker, until Sun 01 Dec 00:00 UTC, 1 alert fired:"
    assert lines[2].startswith("  Sat 30 Nov 00:00 UTC  firing: a shown less")


def test_the_report_of_silence() -> None:
    """Where nothing fires the report says that."""
    assert "Under the bts ranker nothing is firing.\nNever fired: a.\n" in report(
        snapshot(1.0, rows=(row("a"),)), SWITCH_MS
    )


def test_two_rules_on_one_slice_are_one_finding() -> None:
    """A slice that two rules fire on is told once, since the first of them."""
    first = alert("a", EventState.FIRING, 12)
    second = alert("a", EventState.FIRING, 14)
    other = AlertEvent(
        **{name: getattr(second, name) for name in second.__struct_fields__} | {"rule": "b", "id": "b"}
    )
    text = report(snapshot(1.0, first, other, rows=(row("a"),)), SWITCH_MS)
    assert "one slice is firing" in text
    assert "12 h after the change" in text


def test_moments_are_in_utc() -> None:
    """Times are shown in UTC, whatever the zone of the machine."""
    assert moment(SWITCH_MS) == "Sun 01 Dec 00:00"
