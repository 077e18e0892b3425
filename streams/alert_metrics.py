"""Notify's Prometheus metrics, computed from its state when it is scraped."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from alerts.delivery import Outbox
from alerts.state import AlertState

_HELP = {
    "fairness_alert_state": (
        "0 inactive, 1 pending, 2 firing.",
        ["rule", "surface", "dimension", "slice"],
    ),
    "fairstream_deliveries_waiting": ("Transitions that a sink has not been told of.", ["sink"]),
    "fairstream_consumer_lag_records": ("Records not read yet.", ["topic", "partition"]),
}


class AlertCollector(Collector):
    """Snapshots the alerts at each scrape. No own timestamps, so series that end go stale at once."""

    def __init__(
        self,
        states: Callable[[], Iterable[AlertState]],
        outbox: Outbox,
        input_lag: Callable[[], dict[tuple[str, int], int]],
    ) -> None:
        """All are read live, from the same thread that changes them."""
        self._states = states
        self._outbox = outbox
        self._input_lag = input_lag

    def describe(self) -> Iterable[Metric]:
        """Names and help without values."""
        return self._families().values()

    def _families(self) -> dict[str, GaugeMetricFamily]:
        return {name: GaugeMetricFamily(name, text, labels=labels) for name, (text, labels) in _HELP.items()}

    def collect(self) -> Iterator[Metric]:
        """All values of now."""
        families = self._families()
        for state in self._states():
            families["fairness_alert_state"].add_metric(list(state.series), state.phase.number)
        for name, mailbox in self._outbox.mailboxes.items():
            families["fairstream_deliveries_waiting"].add_metric([name], mailbox.waiting())
        for (topic, partition), lag in sorted(self._input_lag().items()):
            families["fairstream_consumer_lag_records"].add_metric([topic, str(partition)], lag)
        yield from families.values()
