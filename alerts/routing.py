"""Which sinks are told of an event."""

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from alerts.events import AlertEvent, EventState
from monitor.config import Alerts, Severity, SinkType
from monitor.config.crosscheck import sink_name

_LOUDNESS = {severity: rank for rank, severity in enumerate(Severity)}


class Routing(StrEnum):
    """Whether a sink is told, and why not."""

    SEND = "send"
    PENDING = "pending"
    """Nobody is called for a pending alert; the history has it."""
    NEVER_FIRED = "never_fired"
    """Nor for the end of one."""
    BELOW_SEVERITY = "below_severity"


class SinkPolicy(Struct, frozen=True, kw_only=True):
    """What the delivery to one sink goes by.

    ``repeats``: the sink forgets, so firing alerts are sent again and again; other sinks are told once of
    each transition. ``batch_limit``: alerts in one request. ``spacing_ms``: least time between requests.
    """

    name: str
    min_severity: Severity = Severity.INFO
    repeats: bool = False
    batch_limit: int = 100
    spacing_ms: int = 0


def policies(alerts: Alerts) -> list[SinkPolicy]:
    """The policy of every configured sink."""
    limits = {SinkType.ALERTMANAGER: 500, SinkType.WEBHOOK: 100, SinkType.SLACK: 10, SinkType.PAGERDUTY: 1}
    return [
        SinkPolicy(
            name=sink_name(sink),
            min_severity=sink.min_severity,
            repeats=sink.type is SinkType.ALERTMANAGER,
            batch_limit=limits[sink.type],
            spacing_ms=1_000 if sink.type is SinkType.SLACK else 0,
        )
        for sink in alerts.sinks
    ]


def route(event: AlertEvent, policy: SinkPolicy) -> Routing:
    """Whether a sink is told of an event."""
    if event.state is EventState.PENDING:
        return Routing.PENDING
    if not event.tellable:
        return Routing.NEVER_FIRED
    if _LOUDNESS[event.severity] < _LOUDNESS[policy.min_severity]:
        return Routing.BELOW_SEVERITY
    return Routing.SEND


def recipients(event: AlertEvent, sinks: Iterable[SinkPolicy]) -> list[str]:
    """Names of the sinks that are told of an event."""
    return [policy.name for policy in sinks if route(event, policy) is Routing.SEND]
