"""The notify role: a Faust app that turns verdicts into alerts, and tells the sinks.

The order of its writes is what a crash leaves behind: first the event into the history, then the state
into the table, then the sinks, then the acknowledgement of the verdict. After a crash before the state was
written, the same verdict gives the same event (with the same id and time), which is found at the end of the
history and not written again; after one before the sinks were told, the state says what is left to tell.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from faust.types import EventT
from msgspec.structs import replace
from prometheus_client import Counter as MetricCounter

from alerts.delivery import Outbox
from alerts.events import AlertEvent, EventReason, EventState, Series, encode_event
from alerts.lifecycle import advance, retire, watches
from alerts.notices import Delivery, DeliveryError, Notice
from alerts.routing import policies
from alerts.sinks import Courier, Poster, SecretUnreadableError, build_sinks
from alerts.state import AlertState, Phase, decode_state, encode_state, series_key
from monitor.config import Config
from monitor.config.crosscheck import sink_name
from monitor.verdicts import UnknownVersionError, Verdict, decode_verdict
from streams.alert_log import AlertLog
from streams.alert_metrics import AlertCollector
from streams.clients import SecretFileError
from streams.exits import stop_before_acknowledging
from streams.faust_app import recovered
from streams.faust_role import FaustRole
from streams.history import written_transitions

log = logging.getLogger(__name__)

DRAIN_MS = 3_000
"""How long a stopping process waits for sinks to take what they have not been told."""


class Desk(NamedTuple):
    """The alerts of one partition of ``fairness.verdicts``."""

    partition: int
    states: dict[Series, AlertState]
    written: set[str]
    """Transitions at the end of the history when the partition was taken up."""


class NotifyRole(FaustRole):
    """The role's app and state."""

    def __init__(self, config: Config, instance: str) -> None:
        """Build the app; nothing runs yet.

        Raises:
            SecretUnreadableError: a sink's address or key cannot be read.
        """
        topics = config.kafka.topics
        super().__init__(config, "notify", instance, config.http.notify_port, topics.verdicts, "alerts")
        self.desks: dict[int, Desk] = {}
        self.transitions: Counter[str] = Counter()
        self.deliveries: dict[str, Counter[str]] = {
            name: Counter() for name in map(sink_name, config.alerts.sinks)
        }
        self.alerts = AlertLog()
        self._rules = {rule.name: rule for rule in config.rules}
        self._taking_up = asyncio.Lock()
        self._history = self.app.topic(topics.alerts, key_type=bytes, value_type=bytes)
        self._poster = Poster()
        sinks = build_sinks(config.alerts, self._poster)
        self._outbox = Outbox(policies(config.alerts), config.alerts.resend)
        self._courier = Courier(self._outbox, sinks, _now_ms, self._on_delivery)
        self._register_metrics()
        self.app.task(self._deliver)
        self.app.timer(1.0)(self._take_up_all)
        self.app.on_before_shutdown.connect(self._on_shutdown)

    def _register_metrics(self) -> None:
        self._alert_events = MetricCounter(
            "fairstream_alert_events", "Alert events emitted.", ["state", "reason"], registry=self.registry
        )
        self._deliveries = MetricCounter(
            "fairstream_deliveries",
            "Requests to sinks.",
            ["sink", "outcome", "error"],
            registry=self.registry,
        )
        self.registry.register(AlertCollector(self.states, self._outbox, self.input_lag))

    # --- verdicts in -------------------------------------------------------------------

    async def handle(self, event: EventT[bytes]) -> None:
        """Follow a verdict."""
        message = event.message
        desk = await self._take_up(message.partition)
        try:
            verdict = decode_verdict(message.value or b"")
        except UnknownVersionError as error:
            self.refuse_newer(error)
        except msgspec.DecodeError as error:
            await self.bury(event, str(error))
        else:
            await self._judge(desk, verdict)

    async def _judge(self, desk: Desk, verdict: Verdict) -> None:
        rule = self._rules.get(verdict.rule)
        unwatched = watches(rule, self.config.surfaces, verdict)
        if rule is None or unwatched is not None:
            removed = unwatched is EventReason.RULE_REMOVED
            self.count("unwatched" if removed else "other_configuration")
            return
        before = desk.states.get(verdict.series)
        after, event = advance(before, verdict, rule, dashboard_url=self.config.alerts.dashboard_url)
        if after is before:
            self.count("replayed")
            return
        self.count(verdict.verdict.value)
        if event is not None:
            await self._emit(desk, after, event)
        elif before is not None and before.phase is after.phase is Phase.INACTIVE:
            desk.states[after.series] = after  # nothing that a restart could miss
        else:
            self._keep(desk, after)
            await self._table.settled()

    async def _emit(self, desk: Desk, state: AlertState, event: AlertEvent) -> None:
        """History, state, sinks: in this order."""
        self.lease.check()
        if event.transition not in desk.written:
            await (await self._history.send(key=event.surface.encode(), value=encode_event(event)))
        self._keep(desk, state)
        await self._table.settled()
        if self.desks.get(desk.partition) is not desk:
            return  # a rebalance took the partition: its new owner tells the sinks
        self._courier.put(event)
        self._alert_events.labels(event.state.value, event.reason.value).inc()
        self.transitions[event.state.value] += 1
        self.alerts.note(event)
        log.info("alert %s of rule %s: %s, %s", event.id, event.rule, event.state.value, event.reason.value)

    def _keep(self, desk: Desk, state: AlertState) -> None:
        """Put a state, with what the sinks were told meanwhile, into the table, as long as it is ours."""
        state = replace(state, receipts=self._outbox.receipts(state.series) or state.receipts)
        desk.states[state.series] = state
        if self.desks.get(desk.partition) is desk:
            key, value = _table_key(desk.partition, state.series), encode_state(state)
            # not table[key] = value, which only works while a verdict is handled
            self._table.send_changelog(desk.partition, key, value)
            self._table.data[key] = value

    # --- partitions --------------------------------------------------------------------

    async def _take_up_all(self) -> None:
        """Firing alerts are sent again even when no verdict comes."""
        if not recovered(self.app):
            return
        try:
            for tp in self.app.consumer.assignment():
                if tp.topic == self.config.kafka.topics.verdicts:
                    await self._take_up(tp.partition)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - a state that cannot be read, or a broker that refuses
            stop_before_acknowledging(error)

    async def _take_up(self, partition: int) -> Desk:
        """The partition's alerts; when it is new here, what was left to tell and to end is due."""
        async with self._taking_up:
            desk = self.desks.get(partition)
            if desk is not None:
                return desk
            prefix = _table_key(partition)
            held = [decode_state(v) for k, v in list(self._table.items()) if k.startswith(prefix) and v]
            written = await asyncio.to_thread(written_transitions, self.config.kafka)
            desk = self.desks[partition] = Desk(partition, {state.series: state for state in held}, written)
            for state in held:
                if state.news is not None:
                    self.alerts.note(state.news)
                self._courier.restore(state)
                ended, event = retire(state, self._rules.get(state.rule), self.config.surfaces)
                if event is not None:
                    await self._emit(desk, ended, event)
            return desk

    def release(self, partition: int) -> None:
        """Forget a partition's alerts; the table has them."""
        desk = self.desks.pop(partition, None)
        for series in desk.states if desk else ():
            self._outbox.forget(series)

    # --- sinks -------------------------------------------------------------------------

    async def _deliver(self) -> None:
        try:
            async with self._poster:
                await self._courier.run()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - without delivery there is no use in going on
            stop_before_acknowledging(error)

    def _on_delivery(self, sink: str, notices: Sequence[Notice], delivery: Delivery) -> None:
        self._deliveries.labels(sink, delivery.outcome.value, delivery.error.value).inc()
        self.deliveries[sink][delivery.outcome.value] += 1
        if delivery.error is not DeliveryError.NONE:
            log.warning(
                "sink %s: %d alerts %s, %s: %s",
                sink,
                len(notices),
                delivery.outcome.value,
                delivery.error.value,
                delivery.detail,
            )
        for series in {notice.event.series for notice in notices}:
            for desk in self.desks.values():
                state = desk.states.get(series)
                told = self._outbox.receipts(series)
                if state is not None and told and told != state.receipts:
                    self._keep(desk, state)

    async def _on_shutdown(self, *_: Any, **__: Any) -> None:
        if not await self._courier.drain(DRAIN_MS):
            log.warning("stopping with %d transitions untold; they are kept", self._outbox.waiting())

    # --- what it says of itself --------------------------------------------------------

    def states(self) -> Iterator[AlertState]:
        """Every alert of this process's partitions."""
        for desk in list(self.desks.values()):
            yield from list(desk.states.values())

    def status(self) -> dict[str, Any]:
        """Progress for ``run``: the summary so far, and what is left to read and to tell."""
        return self.summary() | {
            "positions": {str(partition): offset for partition, offset in self._next_offset.items()},
            "verdicts_handled": self.counts.total(),
            "lag": sum(self.input_lag().values()),
            "waiting": self._outbox.waiting(),
        }

    def summary(self) -> dict[str, Any]:
        """Totals since the start, and the alerts."""
        phases = Counter(state.phase for state in self.states())
        return {
            "records": dict(self.counts),
            "transitions": {state.value: self.transitions[state.value] for state in EventState},
            "series": {phase.value: phases[phase] for phase in Phase},
            "alerts": self.alerts.entries(),
            "deliveries": {sink: dict(counts) for sink, counts in self.deliveries.items()},
        }


def _table_key(partition: int, series: Series | None = None) -> bytes:
    """Key of a series, or the beginning of all keys of a partition, so that owners can tell theirs."""
    return f"{partition}|".encode() + (series_key(series) if series is not None else b"")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def run_notify(config: Config, *, instance: str, summary: Path | None = None) -> int:
    """Run the role until SIGTERM or SIGINT; the exit code.

    Raises:
        SecretFileError: a sink's address or key cannot be read.
    """
    try:
        role = NotifyRole(config, instance)
    except SecretUnreadableError as problem:
        raise SecretFileError(str(problem)) from None
    return role.run(summary)
