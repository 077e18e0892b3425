"""The live view of ``fairstream demo``: a pure function from a snapshot to something that rich can print."""

import io
import math
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from alerts.events import AlertEvent, EventState
from alerts.state import Phase
from monitor.verdicts import Direction, Estimate, ToleranceBand
from streams.demo.snapshot import DemoSnapshot, RoleHealth, SliceRow, moment, percent

SHOWN_ALERTS = 7
_LINES = 14
"""Lines of the view that are neither slices nor alerts."""

_LOW, _HIGH, _PENDING, _GOOD, _ACCENT, _QUIET = (
    "#e8707a",
    "#e0a060",
    "#d9c36a",
    "#7fb98a",
    "#6ca6d9",
    "grey54",
)
_ARROWS = {Direction.LOW: "▼", Direction.HIGH: "▲", Direction.NONE: " "}
_BLOCKS = "▁▂▃▄▅▆▇█"
_TREND_WIDTH, _PLOT_WIDTH, _PLOT_FROM = 32, 21, 98
_PLOT_OCTAVES = 3
_THEME = TerminalTheme(
    (24, 27, 33),
    (205, 210, 218),
    [(60, 64, 72)] * 8,
)

_FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def render(snapshot: DemoSnapshot, width: int = 112, height: int = 40) -> RenderableType:
    """The whole view, for a terminal of this many columns and lines."""
    inner = width - 6
    room = height - max(len(snapshot.rows), 1) - _LINES
    body = Group(
        _heading(snapshot),
        Text(),
        *_progress(snapshot, inner),
        Text(),
        _section(f"share of exposure by {snapshot.dimension}", inner),
        _table(snapshot, inner),
        Text(),
        _section("alerts", inner),
        *_alerts(snapshot, min(max(room, 1), SHOWN_ALERTS)),
    )
    return Panel(Padding(body, (0, 1)), box=box.ROUNDED, border_style="grey35", width=width)


def export_svg(snapshot: DemoSnapshot, width: int = 112) -> str:
    """The view as an SVG image; the same snapshot gives the same text."""
    console = Console(
        record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(render(snapshot, width))
    picture = console.export_svg(title="fairstream demo", theme=_THEME, unique_id="fairstream-demo")
    return _FONT_FACE.sub("", picture)  # rich names fonts on the web; the picture needs no network


def sparkline(values: Sequence[float], top: float) -> str:
    """Values from 0 to ``top`` as blocks.

    >>> sparkline([0.0, 0.5, 1.0, 2.0], 1.0)
    '▁▅██'
    """
    levels = len(_BLOCKS)
    return "".join(
        _BLOCKS[min(max(int(levels * value / top), 0), levels - 1) if top > 0 else 0] for value in values
    )


def squeeze(values: Sequence[float], width: int) -> list[float]:
    """At most ``width`` values: neighbours are averaged.

    >>> squeeze([1.0, 3.0, 5.0, 7.0], 2)
    [2.0, 6.0]
    """
    count = min(width, len(values))
    edges = [index * len(values) // count for index in range(count + 1)] if count else []
    return [math.fsum(values[first:last]) / (last - first) for first, last in pairwise(edges)]


def interval_plot(estimate: Estimate, tolerance: ToleranceBand, width: int = _PLOT_WIDTH) -> str:
    """A disparity with its interval on a logarithmic axis from 1/8 to 8; 1 is in the middle.

    >>> interval_plot(Estimate(value=0.25, lower=0.125, upper=0.5), ToleranceBand(), 13)
    '──●──·│······'
    """
    cells = ["·"] * width
    for limit in (tolerance.low, tolerance.high):
        if limit is not None:
            cells[_column(limit, width)] = "╎"
    cells[width // 2] = "│"
    if estimate.value is None:
        return "".join(cells)
    if estimate.lower is not None and estimate.upper is not None:
        for column in range(_column(estimate.lower, width), _column(estimate.upper, width) + 1):
            cells[column] = "┼" if column == width // 2 else "─"
    cells[_column(estimate.value, width)] = "●"
    return "".join(cells)


def _column(ratio: float, width: int) -> int:
    octaves = math.log2(ratio) if ratio > 0 else -math.inf
    place = (min(max(octaves, -_PLOT_OCTAVES), _PLOT_OCTAVES) + _PLOT_OCTAVES) / (2 * _PLOT_OCTAVES)
    return round(place * (width - 1))


def _heading(snapshot: DemoSnapshot) -> RenderableType:
    roles = Text("   ").join(_role(name, health) for name, health in snapshot.roles.items())
    heading = Table.grid(expand=True)
    heading.add_column()
    heading.add_column(justify="right")
    heading.add_row(Text(snapshot.title, style="bold"), roles)
    return heading


def _role(name: str, health: RoleHealth) -> Text:
    colour = {RoleHealth.READY: _GOOD, RoleHealth.FAILED: _LOW, RoleHealth.STARTING: _PENDING}.get(
        health, _QUIET
    )
    words = "" if health is RoleHealth.READY else f" {health}"
    return Text.assemble(("● ", colour), (f"{name}{words}", _QUIET))


def _progress(snapshot: DemoSnapshot, width: int) -> Iterable[RenderableType]:
    """The phases' names over a bar that is cut where they meet, and where the replay is."""
    names, bar = Text(), Text()
    starts = [start for _, start in snapshot.phases]
    for (name, start), end in zip(snapshot.phases, [*starts[1:], 1.0], strict=True):
        columns = round(end * width) - round(start * width)
        gap = 0 if end >= 1 else 1
        done = min(max((snapshot.progress - start) / (end - start), 0.0), 1.0)
        full = round(done * (columns - gap))
        names.append(f"{name:<{columns}}"[:columns], style="bold" if name == snapshot.phase else _QUIET)
        bar.append("━" * full, style=_ACCENT).append("━" * (columns - gap - full), style="grey27").append(
            " " * gap
        )
    watermark = "nothing yet" if snapshot.watermark_ms is None else f"{moment(snapshot.watermark_ms)} UTC"
    facts = Table.grid(expand=True)
    facts.add_column()
    facts.add_column(justify="right")
    rejected = (f"{snapshot.rejected:,} rejected", _HIGH if snapshot.rejected else _QUIET)
    counted = (f"{snapshot.read:,} read, {snapshot.accepted:,} accepted, ", _QUIET)
    facts.add_row(Text.assemble(("watermark ", _QUIET), watermark), Text.assemble(counted, rejected))
    return names, bar, facts


def _table(snapshot: DemoSnapshot, width: int) -> RenderableType:
    """Slices in rows. What is left of the width after the numbers goes to the trend."""
    plots = width >= _PLOT_FROM
    name = max([len("slice"), *(len(row.slice_) for row in snapshot.rows)])
    fixed = name + 7 + 9 + 15 + 9 + 5 * 2 + (plots and _PLOT_WIDTH + 2)
    trend = min(max(width - fixed, 8), _TREND_WIDTH)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style=_QUIET)
    table.add_column("slice", no_wrap=True, width=name)
    table.add_column("share", justify="right", no_wrap=True, width=7)
    table.add_column("reference", justify="right", no_wrap=True, width=9)
    table.add_column("share over time", no_wrap=True, width=trend)
    if plots:
        axis = f"{'⅛':<{_PLOT_WIDTH // 2}}1{'8':>{_PLOT_WIDTH // 2}}"
        table.add_column(axis, no_wrap=True, width=_PLOT_WIDTH)
    table.add_column("disparity", justify="right", no_wrap=True, width=15)
    table.add_column("alert", no_wrap=True, width=9)
    for row in snapshot.rows:
        table.add_row(*_cells(row, snapshot.tolerance, trend, plots=plots))
    return table if snapshot.rows else Text("waiting for the first window", style=_QUIET)


def _cells(row: SliceRow, tolerance: ToleranceBand, trend: int, *, plots: bool) -> Iterable[Text]:
    colour = _colour(row.phase, row.direction)
    strong = f"bold {colour}" if row.phase is Phase.FIRING else colour
    yield Text(row.slice_, style="bold" if row.phase is Phase.FIRING else "")
    yield Text(percent(row.share), style=strong)
    yield Text(percent(row.reference), style=_QUIET)
    yield _trend(row, tolerance, trend)
    if plots:
        plot = Text(interval_plot(row.estimate, tolerance), style="grey35")
        plot.highlight_regex("[─┼●]+", colour)
        yield plot
    yield _ratio(row.estimate, strong)
    yield _state(row, strong)


def _trend(row: SliceRow, tolerance: ToleranceBand, width: int) -> Text:
    """Shares over time, the reference at half height; in colour where they were out of tolerance."""
    values = squeeze(row.trend, width)
    if not row.reference:
        return Text(sparkline(values, max(values, default=0.0)), style=_QUIET)
    trend = Text()
    low, high = tolerance.low or 0.0, tolerance.high or math.inf
    for value, block in zip(values, sparkline(values, 2 * row.reference), strict=True):
        ratio = value / row.reference
        trend.append(block, style=_LOW if ratio < low else _HIGH if ratio > high else "grey42")
    return trend


def _ratio(estimate: Estimate, style: str) -> Text:
    if estimate.value is None:
        return Text("too little data", style=_QUIET)
    if estimate.lower is None or estimate.upper is None:
        return Text(f"{estimate.value:.2f}", style=style)
    interval = f" {estimate.lower:.2f}-{estimate.upper:.2f}"
    return Text.assemble((f"{estimate.value:.2f}", style), (interval, _QUIET))


def _state(row: SliceRow, style: str) -> Text:
    if row.phase is Phase.INACTIVE:
        return Text("·", style=_QUIET)
    return Text(f"{_ARROWS[row.direction]} {row.phase}", style=style)


def _colour(phase: Phase, direction: Direction) -> str:
    if phase is Phase.INACTIVE:
        return _GOOD
    if phase is Phase.PENDING:
        return _PENDING
    return _HIGH if direction is Direction.HIGH else _LOW


def _section(title: str, width: int) -> Text:
    return Text.assemble((f"{title} ", "bold"), ("─" * (width - len(title) - 1), "grey35"))


def _alerts(snapshot: DemoSnapshot, lines: int) -> Iterable[RenderableType]:
    if not snapshot.alerts:
        yield Text("none so far", style=_QUIET)
    earlier = len(snapshot.alerts) - lines
    if earlier > 0:
        yield Text(f"… {earlier} earlier", style=_QUIET)
    for event in snapshot.alerts[-lines:]:
        yield _alert(event)


def _alert(event: AlertEvent) -> Text:
    verdict = event.verdict
    styles = {EventState.PENDING: _PENDING, EventState.RESOLVED: _GOOD}
    style = styles.get(event.state, f"bold {_colour(Phase.FIRING, verdict.direction)}")
    return Text.assemble(
        (f"{moment(event.at_ms)}  ", _QUIET),
        (f"{_ARROWS[verdict.direction]} {event.state:<9} ", style),
        f"{event.slice_}  ",
        (f"{percent(verdict.share)} instead of {percent(verdict.reference)}", _QUIET),
    )
