"""The same log as a calm deployment would have seen it: what every verdict and transition has to be.

The measuring core and the life cycle run in this process, without a broker, on the log in the order in which
it was written, and are never disturbed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from alerts.events import AlertEvent, Series
from alerts.lifecycle import advance
from alerts.state import AlertState
from monitor.config import Config
from monitor.store import MemoryStore
from monitor.verdicts import Verdict
from monitor.watch import SurfaceWatch
from streams.verify.recount import LogRecord
from tests.support.core import Listener, told_by

CUT_RECORDS = 500
VerdictKey = tuple[str, str, str, str, int]
"""Rule, surface, dimension, slice, and the end of the pane."""


def key_of(verdict: Verdict) -> VerdictKey:
    """What a verdict is the answer to."""
    return (*verdict.series, verdict.pane_end_ms)


def calm_verdicts(config: Config, log: Sequence[LogRecord], partitions: int) -> list[Verdict]:
    """All verdicts on a log, whose partitions may be interleaved in any order."""
    ordered = sorted(log, key=lambda record: (record.record_ms, record.kind, record.partition, record.offset))
    listeners = [
        Listener(SurfaceWatch(config, surface, MemoryStore()), config) for surface in config.surfaces
    ]
    for told in told_by(config, ordered, range(CUT_RECORDS, len(ordered), CUT_RECORDS), partitions):
        for listener in listeners:
            listener.hear(told)
    return [verdict for listener in listeners for verdict in listener.verdicts]


def calm_alerts(config: Config, verdicts: Iterable[Verdict]) -> dict[Series, list[AlertEvent]]:
    """The transitions that these verdicts, in their order, call for; by series."""
    rules = {rule.name: rule for rule in config.rules}
    states: dict[Series, AlertState] = {}
    history: dict[Series, list[AlertEvent]] = defaultdict(list)
    for verdict in verdicts:
        state, event = advance(states.get(verdict.series), verdict, rules[verdict.rule])
        states[verdict.series] = state
        if event is not None:
            history[verdict.series].append(event)
    return dict(history)
