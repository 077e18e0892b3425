"""What the two Faust roles share: the app, pages, health, the worker."""

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import faust
import mode
from faust.tables.manager import TableManager
from faust.types import ChannelT, EventT, TransportT
from faust.web import Request, Response, View
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from monitor.config import Config
from monitor.rejections import Reason
from streams.clients import MAX_RECORD_BYTES, faust_credentials
from streams.faust_consumer import SteadyTransport
from streams.summary import write_summary

log = logging.getLogger(__name__)

BATCH_BYTES = 900_000
"""What every broker takes, unless it was told otherwise: by default they take 1 MiB."""


class SteadyApp(faust.App):
    """An app that loses no record after a recovery, and that needs no disk: its tables are in memory."""

    def _new_transport(self) -> TransportT:
        return SteadyTransport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Faust makes directories at the start, also for memory stores that put nothing there."""


def build_app(config: Config, role: str, instance: str, port: int) -> faust.App:
    """A Faust app for a role: raw bytes, memory tables, static membership, no state on disk."""
    kafka = config.kafka
    session_s = kafka.session_timeout / 1000
    return SteadyApp(
        f"{kafka.group_prefix}-{role}",
        broker=[f"kafka://{address.strip()}" for address in kafka.bootstrap.split(",")],
        broker_credentials=faust_credentials(kafka),
        broker_client_id=f"{kafka.group_prefix}-{role}",
        broker_session_timeout=session_s,
        broker_heartbeat_interval=max(session_s / 6, 0.1),
        broker_commit_interval=1.0,
        broker_max_poll_interval=300.0,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=instance,
        canonical_url=f"http://{instance}",  # Faust trips over a static member that comes back elsewhere
        consumer_max_fetch_size=MAX_RECORD_BYTES,
        producer_acks=-1,
        producer_max_batch_size=BATCH_BYTES,  # by default each snapshot would be a request of its own
        producer_max_request_size=MAX_RECORD_BYTES,
        producer_linger=0,
        key_serializer="raw",
        value_serializer="raw",
        store="memory://",
        table_standby_replicas=0,
        topic_partitions=kafka.internal_partitions,
        topic_replication_factor=kafka.replication,
        topic_disable_leader=True,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        web_enabled=bool(port),
        web_bind=config.http.bind,
        web_port=port or 6066,
        web_tables_enabled=False,
        datadir=Path(os.devnull),  # never made, never written
    )


def add_pages(
    app: faust.App,
    registry: CollectorRegistry,
    healthy: Callable[[], bool],
    ready: Callable[[], bool],
    status: Callable[[], dict[str, Any]],
) -> None:
    """Serve /metrics, /-/healthy, /-/ready, and /-/status for ``run``."""

    def text(view: View, good: bool) -> Response:
        return view.text("ok\n" if good else "not yet\n", status=200 if good else 503)

    @app.page("/metrics")
    async def metrics(view: View, request: Request) -> Response:  # noqa: ARG001
        return view.bytes(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    @app.page("/-/healthy")
    async def is_healthy(view: View, request: Request) -> Response:  # noqa: ARG001
        return text(view, healthy())

    @app.page("/-/ready")
    async def is_ready(view: View, request: Request) -> Response:  # noqa: ARG001
        return text(view, ready())

    serve_json(app, "/-/status", status)


def serve_json(app: faust.App, path: str, tell: Callable[[], Any]) -> None:
    """Serve what ``tell`` returns, as JSON; it is called in the event loop, between two events."""

    @app.page(path)
    async def told(view: View, request: Request) -> Response:  # noqa: ARG001
        return view.bytes(json.dumps(tell()).encode(), content_type="application/json")


async def bury(dead_letter: ChannelT[bytes], event: EventT[bytes], detail: str) -> None:
    """Send a record that is none of ours to the dead-letter topic, and wait until it is there."""
    message = event.message
    headers = {
        "reason": Reason.MALFORMED.encode(),
        "detail": detail.encode(),
        "topic": message.topic.encode(),
        "partition": str(message.partition).encode(),
        "offset": str(message.offset).encode(),
    }
    await (await dead_letter.send(key=message.key, value=message.value, headers=headers))


def recovered(app: faust.App) -> bool:
    """Whether the app has its tables back and no rebalance runs."""
    return (
        not app.rebalancing
        and not app.in_recovery
        and cast(TableManager, app.tables).recovery.completed.is_set()
    )


class Beat:
    """When the event loop last turned; health is its age."""

    def __init__(self, app: faust.App, stalled_after_s: float) -> None:
        """Ticks once a second."""
        self._last_s = time.monotonic()
        self._stalled_after_s = stalled_after_s
        app.timer(1.0)(self._tick)

    async def _tick(self) -> None:
        self._last_s = time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether the loop turned lately."""
        return time.monotonic() - self._last_s < self._stalled_after_s


class _Worker(mode.Worker):
    """A worker that leaves logging alone."""

    def _setup_logging(self) -> None:
        """Logging is set up already."""


def run_app(app: faust.App, summary: Path | None, tell: Callable[[], dict[str, Any]]) -> int:
    """Run until SIGTERM or SIGINT, write the summary; the exit code."""
    app.finalize()
    worker = _Worker(app, redirect_stdouts=False, quiet=True, override_logging=False)
    try:
        worker.execute_from_commandline()  # always ends by SystemExit
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        write_summary(summary, tell())
