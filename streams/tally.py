"""What aggregate counts of events: for its summary, and for Prometheus."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client import Counter as MetricCounter

from monitor.config import Config
from monitor.partition import Outcome, count_reasons
from monitor.rejections import Reason
from streams.build import register_info
from streams.metrics import OVERFLOW_HELP

_PLAIN = ("read", "accepted", "replayed", "contributions", "overflowed", "capped")


class Tally:
    """Totals since the start, by source topic."""

    def __init__(self, config: Config, topics: Iterable[str]) -> None:
        """All at 0, so that a rate sees the first event of each kind."""
        self.counts: dict[str, Counter[str]] = {topic: Counter() for topic in topics}
        self.registry = CollectorRegistry()
        self._events = MetricCounter(
            "fairstream_events",
            "Events by what became of them.",
            ["role", "topic", "outcome"],
            registry=self.registry,
        )
        self._overflow = MetricCounter(
            "fairstream_overflow", OVERFLOW_HELP, ["role", "topic"], registry=self.registry
        )
        self._capped = MetricCounter(
            "fairstream_capped",
            "Contributions beyond the cap on viewers, accepted and not counted.",
            ["role", "topic"],
            registry=self.registry,
        )
        for topic in self.counts:
            self._overflow.labels("aggregate", topic)
            self._capped.labels("aggregate", topic)
            for outcome in ("accepted", "replayed", *(reason.value for reason in Reason)):
                self._events.labels("aggregate", topic, outcome)
        register_info(self.registry, config)

    def add(self, topic: str, outcome: Outcome) -> None:
        """Count what became of some events."""
        counts = self.counts[topic]
        counts["read"] += outcome.accepted + outcome.replayed + len(outcome.rejected)
        counts["contributions"] += outcome.items
        counts["overflowed"] += outcome.overflowed
        counts["capped"] += outcome.capped
        self._overflow.labels("aggregate", topic).inc(outcome.overflowed)
        self._capped.labels("aggregate", topic).inc(outcome.capped)
        became = {"accepted": outcome.accepted, "replayed": outcome.replayed}
        became |= {reason.value: count for reason, count in count_reasons(outcome.rejected).items()}
        for what, count in became.items():
            counts[what] += count
            self._events.labels("aggregate", topic, what).inc(count)

    def summary(self) -> dict[str, Any]:
        """By topic: what was read and what became of it."""
        return {topic: _summary(counts) for topic, counts in self.counts.items()}


def _summary(counts: Counter[str]) -> dict[str, Any]:
    rejected = {name: count for name, count in sorted(counts.items()) if name not in _PLAIN}
    return {name: counts[name] for name in _PLAIN} | {"rejected": rejected}
