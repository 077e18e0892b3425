"""``fairstream demo`` in words: lines where there is no terminal, and the account at the end."""

from collections.abc import Iterator, Sequence

from alerts.events import AlertEvent, EventState
from monitor.verdicts import Direction
from streams.demo.snapshot import DemoSnapshot, SliceRow, moment, percent

_HOUR_MS = 3_600_000
_SIDES = {
    Direction.LOW: "shown less",
    Direction.HIGH: "shown more",
    Direction.NONE: "out of tolerance",
}


def plain_lines(previous: DemoSnapshot | None, snapshot: DemoSnapshot) -> list[str]:
    """What is new since the previous snapshot: another tenth, a role's health, alerts."""
    lines = []
    known = previous.roles if previous else {}
    lines += [f"{name}: {health}" for name, health in snapshot.roles.items() if known.get(name) != health]
    lines += [_alert(event, snapshot) for event in snapshot.alerts[len(previous.alerts) if previous else 0 :]]
    if previous is None or _tenths(snapshot) > _tenths(previous) or snapshot.phase != previous.phase:
        lines.append(_progress(snapshot))
    return lines


def report(snapshot: DemoSnapshot, switch_ms: int) -> str:
    """The account at the end, in plain words. ``switch_ms`` is when the ranker changed."""
    firing = [event for event in snapshot.alerts if event.state is EventState.FIRING]
    early = [event for event in firing if event.at_ms <= switch_ms]
    open_now = _latest(event for event in firing if not _ended(event, snapshot.alerts))
    still = {_name(event, snapshot) for event in open_now}
    ended = (event for event in firing if _ended(event, snapshot.alerts) and event.at_ms > switch_ms)
    over = [event for event in _latest(ended) if _name(event, snapshot) not in still]
    lines = [
        *_events(snapshot),
        *_first_week(early, snapshot, switch_ms),
        *_now(open_now, snapshot, switch_ms),
        *_list("Fired after the change, and over since", [_name(event, snapshot) for event in over]),
        *_list("Never fired", _silent(firing, snapshot)),
    ]
    return "".join(f"{line}\n" for line in lines)


def _tenths(snapshot: DemoSnapshot) -> int:
    return int(10 * snapshot.progress + 1e-9)


def _progress(snapshot: DemoSnapshot) -> str:
    at = "" if snapshot.watermark_ms is None else f", watermark {moment(snapshot.watermark_ms)} UTC"
    counts = f"{snapshot.read:,} events read, {snapshot.rejected:,} rejected"
    return f"{100 * snapshot.progress:3.0f} %, {snapshot.phase}{at}, {counts}"


def _alert(event: AlertEvent, snapshot: DemoSnapshot) -> str:
    verdict = event.verdict
    side = "" if event.state is EventState.RESOLVED else f" {_SIDES[verdict.direction]},"
    shares = f"{percent(verdict.share)} of exposure instead of {percent(verdict.reference)}"
    return f"{moment(event.at_ms)} UTC  {event.state}: {_name(event, snapshot)}{side} {shares}"


def _name(event: AlertEvent, snapshot: DemoSnapshot) -> str:
    """The slice; with its dimension where it is not the one of the view."""
    return event.slice_ if event.dimension == snapshot.dimension else f"{event.dimension} {event.slice_}"


def _ended(event: AlertEvent, alerts: Sequence[AlertEvent]) -> bool:
    return any(other.id == event.id and other.state is EventState.RESOLVED for other in alerts)


def _latest(events: Iterator[AlertEvent]) -> list[AlertEvent]:
    """One event per slice, in order of time: the latest of a rule, the earliest of several rules."""
    latest = sorted({event.series: event for event in events}.values(), key=lambda event: -event.at_ms)
    return sorted({event.series[1:]: event for event in latest}.values(), key=lambda event: event.at_ms)


def _events(snapshot: DemoSnapshot) -> Iterator[str]:
    rejected = f"{snapshot.rejected:,}" if snapshot.rejected else "none"
    yield f"Of {snapshot.read:,} events {snapshot.accepted:,} were accepted and {rejected} rejected."


def _first_week(early: Sequence[AlertEvent], snapshot: DemoSnapshot, switch_ms: int) -> Iterator[str]:
    stretch = f"Under the {snapshot.phases[0][0]}, until {moment(switch_ms)} UTC,"
    if not early:
        yield f"{stretch} no alert fired."
        return
    yield f"{stretch} {len(early)} {'alert' if len(early) == 1 else 'alerts'} fired:"
    yield from (f"  {_alert(event, snapshot)}" for event in early)


def _now(firing: Sequence[AlertEvent], snapshot: DemoSnapshot, switch_ms: int) -> Iterator[str]:
    if not firing:
        yield f"Under the {snapshot.phases[-1][0]} nothing is firing."
        return
    count = "one slice is" if len(firing) == 1 else f"{len(firing)} slices are"
    yield f"Under the {snapshot.phases[-1][0]} {count} firing ({snapshot.dimension}):"
    rows = {(snapshot.dimension, row.slice_): row for row in snapshot.rows}
    width = max(len(_name(event, snapshot)) for event in firing)
    for event in firing:
        row = rows.get((event.dimension, event.slice_))
        yield f"  {_name(event, snapshot):<{width}}  {_finding(event, row, switch_ms)}"


def _finding(event: AlertEvent, row: SliceRow | None, switch_ms: int) -> str:
    verdict = event.verdict
    share, reference = verdict.share, verdict.reference
    if row is not None and row.share is not None:
        share, reference = row.share, row.reference
    side = f"{_SIDES[verdict.direction]}:"
    hours = (event.at_ms - switch_ms) / _HOUR_MS
    after = f", {hours:.0f} h after the change" if hours > 0 else ""
    since = f"firing since {moment(event.at_ms)} UTC{after}"
    return f"{side:<12}now {percent(share)} of exposure, reference {percent(reference)}; {since}"


def _silent(firing: Sequence[AlertEvent], snapshot: DemoSnapshot) -> list[str]:
    loud = {event.slice_ for event in firing if event.dimension == snapshot.dimension}
    return [row.slice_ for row in snapshot.rows if row.slice_ not in loud]


def _list(title: str, names: Sequence[str]) -> Iterator[str]:
    if names:
        yield f"{title}: {', '.join(names)}."
