"""The names of the metrics that the roles export, as the code has them."""

from __future__ import annotations

from unittest.mock import Mock

from prometheus_client import CollectorRegistry

from monitor.config import Config
from streams.aggregate import Aggregate
from streams.monitor import MonitorRole
from streams.notify import NotifyRole


def exported(config: Config) -> set[str]:
    """Return the names of all metrics of the three roles, which are built for that but not run."""
    registries = (
        Aggregate(config, Mock(), Mock()).tally.registry,
        MonitorRole(config, "names").registry,
        NotifyRole(config, "names").registry,
    )
    return set().union(*map(_names, registries))


def _names(registry: CollectorRegistry) -> set[str]:
    suffixes = {"counter": "_total", "info": "_info"}
    return {family.name + suffixes.get(family.type, "") for family in registry.collect()}
