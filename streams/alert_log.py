"""What notify's summary tells of alerts: one entry for each, brought up to date by its events."""

from typing import Any

from alerts.events import AlertEvent, EventState

KEPT_ALERTS = 1_000
"""Alerts that are listed: those that changed last."""


class AlertLog:
    """Alerts by id, the one that changed last at the end."""

    def __init__(self) -> None:
        """No alerts."""
        self._entries: dict[str, dict[str, Any]] = {}

    def note(self, event: AlertEvent) -> None:
        """Take an event; the same one again changes nothing."""
        entry = self._entries.pop(event.id, None) or {
            "id": event.id,
            "rule": event.rule,
            "severity": event.severity.value,
            "surface": event.surface,
            "dimension": event.dimension,
            "slice": event.slice_,
            "direction": event.verdict.direction.value,
            "since_ms": event.since_ms,
            "fired_ms": None,
            "resolved_ms": None,
        }
        entry |= {"state": event.state.value, "reason": event.reason.value, "summary": event.summary}
        if event.state is EventState.FIRING:
            entry["direction"] = event.verdict.direction.value
            entry["fired_ms"] = event.at_ms if entry["fired_ms"] is None else entry["fired_ms"]
        elif event.state is EventState.RESOLVED:
            entry["resolved_ms"] = event.at_ms
        self._entries[event.id] = entry
        if len(self._entries) > KEPT_ALERTS:
            del self._entries[next(iter(self._entries))]

    def entries(self) -> list[dict[str, Any]]:
        """All alerts, with their times."""
        return list(self._entries.values())
