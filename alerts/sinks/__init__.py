"""Where alerts are delivered: the only part of :mod:`alerts` that talks HTTP and reads files.

To add a sink: a member of :class:`monitor.config.SinkType`, what it needs in
:mod:`monitor.config.crosscheck`, its batch limit in :func:`alerts.routing.policies`, a module here with a
class that has ``name`` and ``deliver``, and a line in :func:`build_sinks`.
"""

from collections.abc import Callable

from alerts.sinks.alertmanager import AlertmanagerSink
from alerts.sinks.base import Poster, Secret, SecretUnreadableError, Sink
from alerts.sinks.courier import Courier
from alerts.sinks.pagerduty import EVENTS_URL, PagerDutySink
from alerts.sinks.slack import SlackSink
from alerts.sinks.webhook import WebhookSink
from monitor.config import Alerts, SinkSpec, SinkType
from monitor.config.crosscheck import sink_name

__all__ = ["Courier", "Poster", "Secret", "SecretUnreadableError", "Sink", "build_sinks"]


def build_sinks(alerts: Alerts, poster: Poster) -> list[Sink]:
    """The configured sinks.

    Raises:
        SecretUnreadableError: a file that holds an address or a key is missing or empty.
    """
    return [_BUILDERS[spec.type](spec, poster) for spec in alerts.sinks]


def _alertmanager(spec: SinkSpec, poster: Poster) -> Sink:
    return AlertmanagerSink(sink_name(spec), spec.urls, poster)


def _webhook(spec: SinkSpec, poster: Poster) -> Sink:
    return WebhookSink(sink_name(spec), _readable(spec.url_file, spec.url), poster)


def _slack(spec: SinkSpec, poster: Poster) -> Sink:
    return SlackSink(sink_name(spec), _readable(spec.url_file), poster)


def _pagerduty(spec: SinkSpec, poster: Poster) -> Sink:
    return PagerDutySink(sink_name(spec), _readable(spec.routing_key_file), poster, spec.url or EVENTS_URL)


def _readable(file: str | None, value: str | None = None) -> Secret:
    """A secret that can be read now."""
    secret = Secret(file=file, value=value)
    secret.read()
    return secret


_BUILDERS: dict[SinkType, Callable[[SinkSpec, Poster], Sink]] = {
    SinkType.ALERTMANAGER: _alertmanager,
    SinkType.WEBHOOK: _webhook,
    SinkType.SLACK: _slack,
    SinkType.PAGERDUTY: _pagerduty,
}
