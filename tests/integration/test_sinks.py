from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from alerts.delivery import Outbox
from alerts.events import AlertEvent, EventState
from alerts.notices import Delivery, DeliveryError, DeliveryOutcome, Notice, NoticeReason
from alerts.routing import policies
from alerts.sinks import Courier, Poster, SecretUnreadableError, Sink, build_sinks
from monitor.config import Alerts, Duration, SinkSpec, SinkType
from tests.support.alertmanager import Alertmanager
from tests.support.ports import free_port
from tests.support.receiver import HANG, Answer, Receiver
from tests.support.timelines import an_event
from tests.support.wait import wait_for

pytestmark = pytest.mark.integration

T = TypeVar("T")
WAIT_S = 15.0
FIRING = an_event(EventState.FIRING, 10)
RESOLVED = an_event(EventState.RESOLVED, 60)


def now_ms() -> int:
    """Return the time of the wall clock."""
    return time.time_ns() // 1_000_000


def notice(event: AlertEvent) -> Notice:
    """Return the event as it goes to a sink."""
    ends_at_ms = now_ms() + 240_000 if event.state is EventState.FIRING else event.at_ms
    return Notice(
        event=event, reason=NoticeReason.TRANSITION, starts_at_ms=event.since_ms, ends_at_ms=ends_at_ms
    )


def secret(directory: Path, text: str) -> str:
    """Return the name of a file that holds the text."""
    file = directory / "secret"
    file.write_text(text + "\n")
    return str(file)


def spec(kind: SinkType, url: str, directory: Path) -> SinkSpec:
    """Return the configuration of a sink that posts to the URL."""
    match kind:
        case SinkType.ALERTMANAGER:
            return SinkSpec(type=kind, urls=[url])
        case SinkType.PAGERDUTY:
            return SinkSpec(type=kind, url=f"{url}/enqueue", routing_key_file=secret(directory, "R0UT1NG"))
        case SinkType.SLACK | SinkType.WEBHOOK:
            return SinkSpec(type=kind, url_file=secret(directory, f"{url}/hook/s3cret"))


def with_sinks(
    specs: Sequence[SinkSpec], use: Callable[[list[Sink]], Awaitable[T]], timeout_ms: int = 5_000
) -> T:
    """Build the sinks, and run something with them."""

    async def run() -> T:
        async with Poster(timeout_ms) as poster:
            return await use(build_sinks(Alerts(sinks=list(specs)), poster))

    return asyncio.run(run())


def deliver(spec_: SinkSpec, *events: AlertEvent, timeout_ms: int = 5_000) -> Delivery:
    """Deliver events to one sink in one batch."""

    async def use(sinks: list[Sink]) -> Delivery:
        return await sinks[0].deliver([notice(event) for event in events])

    return with_sinks([spec_], use, timeout_ms)


# ---------------------------------------------------------------- what they post


def test_a_webhook_gets_the_events_themselves(tmp_path: Path) -> None:
    """As in the history, in one request, to the address in the file."""
    with Receiver() as receiver:
        answer = deliver(spec(SinkType.WEBHOOK, receiver.url, tmp_path), FIRING, RESOLVED)
    assert answer == Delivery(outcome=DeliveryOutcome.DELIVERED)
    (post,) = receiver.posts
    assert (post.path, post.content_type) == ("/hook/s3cret", "application/json")
    assert post.payload["version"] == 1
    assert [alert["state"] for alert in post.payload["alerts"]] == ["firing", "resolved"]
    assert post.payload["alerts"][0]["id"] == FIRING.id


def test_slack_gets_one_message_a_batch(tmp_path: Path) -> None:
    """State, rule, summary and links, with Slack's special characters escaped."""
    odd = replace(FIRING, summary="item.tone=<b> & co on home")
    with Receiver() as receiver:
        assert deliver(spec(SinkType.SLACK, receiver.url, tmp_path), odd, RESOLVED).detail == ""
    (payload,) = receiver.payloads
    firing, resolved = payload["text"].split("\n\n")
    assert "*FIRING* warning · skin-tone" in firing
    assert "item.tone=&lt;b&gt; &amp; co on home" in firing
    assert "<https://runbooks.example/skin-tone|runbook>" in firing
    assert "*RESOLVED*" in resolved


def test_pagerduty_opens_and_closes_one_incident(tmp_path: Path) -> None:
    """Trigger and resolve carry the same dedup_key, and another episode another one."""
    again = an_event(EventState.FIRING, 90, since_s=80)
    with Receiver(Answer(202)) as receiver:
        assert deliver(spec(SinkType.PAGERDUTY, receiver.url, tmp_path), FIRING, RESOLVED, again).detail == ""
    trigger, resolve, second = receiver.payloads
    assert (trigger["event_action"], resolve["event_action"]) == ("trigger", "resolve")
    assert trigger["dedup_key"] == resolve["dedup_key"] == FIRING.id != second["dedup_key"]
    assert trigger["routing_key"] == "R0UT1NG"
    assert trigger["payload"]["severity"] == "warning"
    assert trigger["payload"]["timestamp"] == "2023-11-14T22:13:20+00:00"
    assert trigger["links"] == [{"href": "https://runbooks.example/skin-tone", "text": "runbook"}]


def test_pagerduty_summaries_have_their_limit(tmp_path: Path) -> None:
    """At most 1024 characters, or the API refuses the event."""
    with Receiver(Answer(202)) as receiver:
        deliver(spec(SinkType.PAGERDUTY, receiver.url, tmp_path), replace(FIRING, summary="x" * 5_000))
    assert len(receiver.payloads[0]["payload"]["summary"]) == 1_024


# ---------------------------------------------------------------- what they make of answers


@pytest.mark.parametrize("kind", list(SinkType))
@pytest.mark.parametrize(
    ("answer", "outcome", "error"),
    [
        (Answer(429, retry_after="7"), DeliveryOutcome.RETRYABLE, DeliveryError.THROTTLED),
        (Answer(500), DeliveryOutcome.RETRYABLE, DeliveryError.SERVER_ERROR),
        (Answer(503, retry_after="7"), DeliveryOutcome.RETRYABLE, DeliveryError.SERVER_ERROR),
        (Answer(302), DeliveryOutcome.RETRYABLE, DeliveryError.UNEXPECTED),
        (Answer(403), DeliveryOutcome.RETRYABLE, DeliveryError.UNAUTHORIZED),
        (Answer(404, "no_service"), DeliveryOutcome.RETRYABLE, DeliveryError.NOT_FOUND),
        (Answer(400, "invalid label: slice 4"), DeliveryOutcome.REJECTED, DeliveryError.BAD_REQUEST),
        (Answer(413), DeliveryOutcome.REJECTED, DeliveryError.TOO_LARGE),
        (Answer(422), DeliveryOutcome.REJECTED, DeliveryError.BAD_REQUEST),
    ],
)
def test_every_answer_has_its_class(
    kind: SinkType, answer: Answer, outcome: DeliveryOutcome, error: DeliveryError, tmp_path: Path
) -> None:
    """Busy and broken sinks and wrong credentials can be tried again; a refused alert cannot."""
    with Receiver(answer) as receiver:
        delivery = deliver(spec(kind, receiver.url, tmp_path), FIRING)
    assert (delivery.outcome, delivery.error) == (outcome, error)
    assert delivery.retry_after_ms == (7_000 if answer.retry_after else None)
    assert delivery.detail == f"HTTP {answer.status}" + {"no_service": " no_service", "ok": " ok"}.get(
        answer.body, ""
    )


def test_a_batch_to_pagerduty_stops_at_the_first_failure(tmp_path: Path) -> None:
    """So that a resolve never overtakes its trigger."""
    with Receiver(Answer(500)) as receiver:
        delivery = deliver(spec(SinkType.PAGERDUTY, receiver.url, tmp_path), FIRING, RESOLVED)
    assert delivery.outcome is DeliveryOutcome.RETRYABLE
    assert len(receiver.posts) == 1


@pytest.mark.parametrize("kind", list(SinkType))
def test_a_sink_that_is_not_there_is_unreachable(kind: SinkType, tmp_path: Path) -> None:
    """A refused connection can be tried again."""
    delivery = deliver(spec(kind, f"http://127.0.0.1:{free_port()}", tmp_path), FIRING)
    assert (delivery.outcome, delivery.error) == (DeliveryOutcome.RETRYABLE, DeliveryError.UNREACHABLE)


def test_a_sink_that_does_not_answer_times_out(tmp_path: Path) -> None:
    """It holds nobody up for longer than the time limit."""
    with Receiver(HANG) as receiver:
        delivery = deliver(spec(SinkType.WEBHOOK, receiver.url, tmp_path), FIRING, timeout_ms=200)
    assert (delivery.outcome, delivery.error) == (DeliveryOutcome.RETRYABLE, DeliveryError.TIMEOUT)


def test_a_connection_that_breaks_is_unreachable(tmp_path: Path) -> None:
    """A server that hangs up in place of an answer may answer next time."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        async def use(sinks: list[Sink]) -> Delivery:
            delivering = asyncio.create_task(sinks[0].deliver([notice(FIRING)]))
            connection, _ = await asyncio.to_thread(server.accept)
            connection.close()
            return await delivering

        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        delivery = with_sinks([spec(SinkType.WEBHOOK, url, tmp_path)], use)
    assert (delivery.outcome, delivery.error) == (DeliveryOutcome.RETRYABLE, DeliveryError.UNREACHABLE)


def test_a_server_without_tls_is_told_apart(tmp_path: Path) -> None:
    """`https` to a plain server is a failure of its own class."""
    with Receiver() as receiver:
        url = receiver.url.replace("http:", "https:")
        delivery = deliver(spec(SinkType.WEBHOOK, url, tmp_path), FIRING)
    assert (delivery.outcome, delivery.error) == (DeliveryOutcome.RETRYABLE, DeliveryError.TLS)


# ---------------------------------------------------------------- secrets


def test_a_missing_secret_is_found_at_the_start(tmp_path: Path) -> None:
    """A configuration whose secret file is missing or empty builds no sinks."""
    for text in (None, " \n"):
        file = tmp_path / "absent"
        if text is not None:
            file.write_text(text)
        missing = SinkSpec(type=SinkType.SLACK, url_file=str(file))
        with pytest.raises(SecretUnreadableError, match="absent"):
            build_sinks(Alerts(sinks=[missing]), Poster())


def test_a_secret_can_be_replaced_while_running(tmp_path: Path) -> None:
    """It is read at each delivery; while it is gone the alert waits."""
    with Receiver(Answer(202)) as receiver:
        spec_ = spec(SinkType.PAGERDUTY, receiver.url, tmp_path)

        async def use(sinks: list[Sink]) -> Delivery:
            await sinks[0].deliver([notice(FIRING)])
            secret(tmp_path, "N3W")
            await sinks[0].deliver([notice(FIRING)])
            (tmp_path / "secret").unlink()
            return await sinks[0].deliver([notice(FIRING)])

        delivery = with_sinks([spec_], use)
    assert [payload["routing_key"] for payload in receiver.payloads] == ["R0UT1NG", "N3W"]
    assert (delivery.outcome, delivery.error) == (DeliveryOutcome.RETRYABLE, DeliveryError.SECRET_UNREADABLE)


def test_no_secret_is_shown(tmp_path: Path) -> None:
    """Neither what is printed of a sink nor the detail of a failure has the address or key in it."""
    for kind in SinkType:
        spec_ = spec(kind, f"http://127.0.0.1:{free_port()}", tmp_path)
        shown = repr(build_sinks(Alerts(sinks=[spec_]), Poster())) + deliver(spec_, FIRING).detail
        assert "s3cret" not in shown
        assert "R0UT1NG" not in shown
    given = SinkSpec(type=SinkType.WEBHOOK, url="http:// /hook/s3cret")
    assert "s3cret" not in repr(build_sinks(Alerts(sinks=[given]), Poster())) + deliver(given, FIRING).detail


# ---------------------------------------------------------------- the courier


class Running:
    """A courier at work; puts events and waits for what comes of them."""

    def __init__(self, courier: Courier) -> None:
        self.courier = courier

    def put(self, *events: AlertEvent) -> None:
        """Put events."""
        for event in events:
            self.courier.put(event)

    async def wait_for(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait for a condition while the courier goes on."""
        return await asyncio.to_thread(wait_for, condition, WAIT_S, what)


def run_courier(
    specs: Sequence[SinkSpec], use: Callable[[Running], Awaitable[None]], *, resend_ms: int = 60_000
) -> list[tuple[str, DeliveryError]]:
    """Run something beside a courier for the sinks; return what it observed."""
    seen: list[tuple[str, DeliveryError]] = []

    def observe(name: str, notices: Sequence[Notice], delivery: Delivery) -> None:
        seen.extend((name, delivery.error) for _ in notices)

    async def with_courier(sinks: list[Sink]) -> None:
        alerts = Alerts(sinks=list(specs), resend=Duration(resend_ms))
        courier = Courier(Outbox(policies(alerts), alerts.resend), sinks, now_ms, observe)
        task = asyncio.create_task(courier.run())
        await use(Running(courier))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with_sinks(specs, with_courier)
    return seen


def test_a_courier_tries_again_until_it_is_taken(tmp_path: Path) -> None:
    """A sink that is down for one request gets the alert in the next, once."""
    with Receiver(Answer(503), Answer(200)) as receiver:

        async def use(running: Running) -> None:
            running.put(FIRING)
            assert await running.courier.drain(15_000)

        seen = run_courier([spec(SinkType.WEBHOOK, receiver.url, tmp_path)], use)
    assert seen == [("webhook", DeliveryError.SERVER_ERROR), ("webhook", DeliveryError.NONE)]
    assert len(receiver.posts) == 2


def test_a_slow_sink_keeps_no_other_waiting(tmp_path: Path) -> None:
    """While one hangs, another is told of alert after alert."""
    with Receiver(HANG) as slow, Receiver() as quick:
        specs = [SinkSpec(type=SinkType.WEBHOOK, name="slow", url=slow.url), spec_named("quick", quick.url)]

        async def use(running: Running) -> None:
            running.put(FIRING)
            await running.wait_for(lambda: slow.posts and quick.posts, "the first alert")
            running.put(RESOLVED)
            await running.wait_for(lambda: len(quick.posts) == 2, "the second alert")
            assert not await running.courier.drain(1)

        run_courier(specs, use)
    assert len(slow.posts) == 1


def spec_named(name: str, url: str) -> SinkSpec:
    """Return the configuration of a webhook with a name."""
    return SinkSpec(type=SinkType.WEBHOOK, name=name, url=url)


# ---------------------------------------------------------------- a real Alertmanager


def test_a_real_alertmanager_shows_the_alert_and_sees_it_resolve(
    alertmanager: Callable[[], Alertmanager],
) -> None:
    """With the contract's labels and annotations; sent again it stays, resolved it goes."""
    server = alertmanager()
    matcher = 'alertname="skin-tone"'

    async def use(running: Running) -> None:
        running.put(FIRING)
        shown = await running.wait_for(lambda: server.alerts(matcher), "the alert")
        assert shown[0]["labels"] == {
            "alertname": "skin-tone",
            "severity": "warning",
            "surface": "home",
            "dimension": "item.skin_tone",
            "slice": "4",
            "team": "ranking",
        }
        assert shown[0]["annotations"] == {
            "summary": FIRING.summary,
            "runbook_url": FIRING.runbook_url,
            "dashboard_url": FIRING.dashboard_url,
        }
        assert shown[0]["startsAt"] == "2023-11-14T22:13:20.000Z"
        assert shown[0]["status"]["state"] == "active"
        first_end = shown[0]["endsAt"]
        await running.wait_for(
            lambda: [a for a in server.alerts(matcher) if a["endsAt"] > first_end], "the reminder"
        )
        running.put(RESOLVED)
        await running.wait_for(lambda: not server.alerts(matcher), "its end")
        running.put(an_event(EventState.FIRING, 90, since_s=80))
        await running.wait_for(lambda: server.alerts(matcher), "the next alert")

    seen = run_courier([SinkSpec(type=SinkType.ALERTMANAGER, urls=[server.url])], use, resend_ms=500)
    assert {error for _, error in seen} == {DeliveryError.NONE}


def test_an_alertmanager_believes_only_so_long(alertmanager: Callable[[], Alertmanager]) -> None:
    """When nobody sends an alert again, it ends after four resends."""
    server = alertmanager()

    async def use(running: Running) -> None:
        running.put(FIRING)
        await running.wait_for(server.alerts, "the alert")

    run_courier([SinkSpec(type=SinkType.ALERTMANAGER, urls=[server.url])], use, resend_ms=500)
    wait_for(lambda: not server.alerts(), WAIT_S, "its end", watch=[server.child])


def test_a_real_alertmanager_notifies_once_of_each_change(tmp_path: Path) -> None:
    """Its receiver hears of the firing and of the end, and of no reminder between."""
    with Receiver() as receiver:
        config = f"""
route: {{receiver: test, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers: [{{name: test, webhook_configs: [{{url: "{receiver.url}"}}]}}]
"""
        server = Alertmanager(tmp_path, config)

        async def use(running: Running) -> None:
            running.put(FIRING)
            await asyncio.to_thread(receiver.wait_for_posts, 1)
            ends = {alert["endsAt"] for alert in server.alerts()}
            await running.wait_for(
                lambda: len(ends | {alert["endsAt"] for alert in server.alerts()}) > 1, "a reminder"
            )
            running.put(RESOLVED)
            await asyncio.to_thread(receiver.wait_for_posts, 2)

        try:
            run_courier([SinkSpec(type=SinkType.ALERTMANAGER, urls=[server.url])], use, resend_ms=300)
        finally:
            server.stop()
    assert [payload["status"] for payload in receiver.payloads] == ["firing", "resolved"]


def test_a_bad_alert_does_not_keep_good_ones_out(alertmanager: Callable[[], Alertmanager]) -> None:
    """A real Alertmanager refuses the batch and holds what was good in it."""
    server = alertmanager()
    bad = replace(an_event(EventState.FIRING, slice_="5"), labels={"not a name": "x"})
    delivery = deliver(SinkSpec(type=SinkType.ALERTMANAGER, urls=[server.url]), bad, FIRING)
    assert (delivery.outcome, delivery.error) == (DeliveryOutcome.REJECTED, DeliveryError.BAD_REQUEST)
    shown = wait_for(server.alerts, WAIT_S, "the good alert", watch=[server.child])
    assert [alert["labels"]["slice"] for alert in shown] == ["4"]


def test_every_member_of_a_cluster_is_told(alertmanager: Callable[[], Alertmanager]) -> None:
    """One that is down is counted, and does not keep the alert from the others."""
    first, second = alertmanager(), alertmanager()
    gone = f"http://127.0.0.1:{free_port()}"
    spec_ = SinkSpec(type=SinkType.ALERTMANAGER, urls=[first.url, gone, second.url])
    delivery = deliver(spec_, FIRING)
    assert (delivery.outcome, delivery.error) == (DeliveryOutcome.DELIVERED, DeliveryError.UNREACHABLE)
    assert delivery.detail.startswith("1 of 3 members")
    for server in (first, second):
        wait_for(server.alerts, WAIT_S, "the alert", watch=[server.child])
