from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import yaml
from confluent_kafka import Producer

from monitor.config import Config, parse_config
from streams.simulate import parse_scenario, run_simulate
from streams.topics import create_topics
from tests.conftest import Spawn
from tests.support import alertmanager as alertmanager_support
from tests.support.alertmanager import Alertmanager
from tests.support.dashboards import DEPLOY, asked, fill, load_dashboard, queries, variables
from tests.support.ports import free_port
from tests.support.prometheus import Prometheus, check_metrics, missing
from tests.support.receiver import Receiver
from tests.support.roles import ROLES, Roles
from tests.support.wait import wait_for

MINUTES = 45
IMPRESSIONS = 40_000
PROCESS_TIMEOUT_S = 120.0
SHOWN_TIMEOUT_S = 60.0
WINDOW = "15m"
"""The one whose slide suits engagement rates."""

_SCENARIO = """
surfaces: {home: {share: 0.6, items: 10}, search: {share: 0.4, items: 10}}
viewers: {population: 3_000, attributes: {gender: {f: 0.5, m: 0.4, unknown: 0.1}}}
items: {attributes: {skin_tone: {"1": 0.4, "2": 0.3, "3": 0.2, "4": 0.1}}}
actions: {click: {rate: 0.2, delay: 5s}, save: {rate: 0.05, delay: 20s}}
disparities: []
"""

_CONFIG = """
surfaces: [home, search]
attributes: {{viewer: {{gender: {{}}}}, item: {{skin_tone: {{}}}}}}
time: {{pane: 10s, allowed_lateness: 20s, idle_timeout: 2s}}
windows: [{{length: 5m, slide: 10s}}, {{length: 15m, slide: 1m}}]
dimensions: [viewer.gender, viewer.gender*item.skin_tone]
engagement: {{actions: [click, save], attribution_window: 2m, pane: 1m}}
flush_interval: 500ms
rules:
  # breached for certain: the tones are 0.4, 0.3, 0.2 and 0.1 of the items
  - name: tone-uniform
    metric: exposure_share
    dimension: item.skin_tone
    window: 15m
    compare: reference
    reference: {{uniform: true}}
    severity: critical
  - name: tone-baseline
    metric: exposure_share
    dimension: item.skin_tone
    window: 15m
    compare: reference
    reference: {{baseline: {{first: 15m}}}}
    detectors: [{{kind: tolerance}}, {{kind: adwin}}]
  - name: tone-clicks
    metric: engagement_rate
    action: click
    dimension: item.skin_tone
    window: 15m
alerts: {{sinks: [{{type: alertmanager, urls: ["{alertmanager}"]}}]}}
kafka:
  bootstrap: "{bootstrap}"
  group_prefix: fs-{unique}
  partitions: 2
  internal_partitions: 2
  session_timeout: 3s
  topics:
    impressions: impressions-{unique}
    engagements: engagements-{unique}
    panes: panes-{unique}
    verdicts: verdicts-{unique}
    alerts: alerts-{unique}
    dead_letter: dead-letter-{unique}
http: {{aggregate_port: {ports[0]}, monitor_port: {ports[1]}, notify_port: {ports[2]}}}
"""


class Live(NamedTuple):
    """The roles when they have dealt with everything, and the servers around them."""

    config: Config
    roles: Roles
    prometheus: Prometheus
    alertmanager: Alertmanager


@pytest.fixture
def live(
    bootstrap: str,
    unique: str,
    tmp_path: Path,
    spawn: Spawn,
    prometheus: Callable[[Sequence[str]], Prometheus],
    alertmanager: Callable[[], Alertmanager],
) -> Live:
    """Return the roles after 45 minutes of traffic that end now, scraped from before it began."""
    notified = alertmanager()
    ports = [free_port() for _ in ROLES]
    text = _CONFIG.format(bootstrap=bootstrap, unique=unique, ports=ports, alertmanager=notified.url)
    file = tmp_path / "fairstream.yaml"
    file.write_text(text)
    config = parse_config(text, str(file))
    create_topics(config)
    roles = Roles(config, file, spawn)
    roles.wait_ready()
    server = prometheus(roles.targets)
    wait_for(lambda: up(server) == len(ROLES), SHOWN_TIMEOUT_S, "the first scrapes", watch=roles.children)
    write(config)
    roles.wait_finished(PROCESS_TIMEOUT_S)
    return Live(config, roles, server, notified)


def up(server: Prometheus) -> float:
    """Return how many targets Prometheus has reached."""
    return sum(sample.value for sample in server.query("up"))


def write(config: Config) -> None:
    """Write traffic that ends now, and a few bad records."""
    bad = Producer({"bootstrap.servers": config.kafka.bootstrap})
    tomorrow = json.dumps(
        {"ts": time.time_ns() // 1_000_000 + 86_400_000, "request_id": "r", "viewer_id": "u"}
    )
    for value in (b'{"ts": 17', b"\x00\xff", b'{"ts": "yesterday"}', b"[]", tomorrow.encode()):
        bad.produce(config.kafka.topics.impressions, value)
        bad.produce(config.kafka.topics.engagements, value)
    assert bad.flush(30) == 0
    code = run_simulate(
        config,
        scenario=parse_scenario(_SCENARIO),
        rate=0,
        duration_ms=MINUTES * 60_000,
        seed=11,
        impressions=IMPRESSIONS,
    )
    assert code == 0


def values_of(server: Prometheus, selector: str, label: str) -> list[str]:
    """Return the values of a label, as Grafana asks for those of a variable."""
    answer = httpx.get(f"{server.url}/api/v1/label/{label}/values", params={"match[]": selector}).json()
    assert answer["status"] == "success", answer
    found: list[str] = answer["data"]
    return found


def empty_queries(server: Prometheus, chosen: Mapping[str, str]) -> list[str]:
    """Run every variable's and every panel's query; return those without a finite number."""
    dashboard = load_dashboard()
    values: dict[str, str | Sequence[str]] = {**chosen, "__rate_interval": "5m", "__range": "1h"}
    empty = []
    for name, variable in variables(dashboard).items():
        if variable["type"] != "query":
            continue
        selector, label = asked(variable)
        found = values_of(server, fill(selector, values), label)
        if name not in chosen:
            values[name] = found
        if not found or chosen.get(name, found[0]) not in found:
            empty.append(f"${name}: {found}")
    if empty:
        return empty
    for panel, ref_id, expr in queries(dashboard):
        filled = fill(expr, values)
        if not any(math.isfinite(sample.value) for sample in server.query(filled)):
            empty.append(f"{panel} {ref_id}: {filled}")
    return empty


def wait_until_nothing_is_empty(live: Live, chosen: Mapping[str, str]) -> None:
    """Wait until every query returns data."""
    wait_for(
        lambda: not empty_queries(live.prometheus, chosen),
        SHOWN_TIMEOUT_S,
        lambda: "\n".join(["data, but empty are", *empty_queries(live.prometheus, chosen)]),
        watch=live.roles.children,
        interval_s=0.5,
    )


def test_every_query_of_every_panel_returns_data(live: Live) -> None:
    """With any surface and rule chosen, no panel of the committed dashboard is empty; the pages are clean."""
    surfaces, rules = live.config.surfaces, [rule.name for rule in live.config.rules]
    for surface, rule in itertools.product(surfaces, rules):
        chosen = {"surface": surface, "window": WINDOW, "dimension": "item.skin_tone", "rule": rule}
        wait_until_nothing_is_empty(live, chosen)
    for role in ROLES:
        assert check_metrics(live.roles.page(role)) == []
    assert_the_numbers_are_right(live)
    assert_only_the_watchdog_speaks(live)


def assert_the_numbers_are_right(live: Live) -> None:
    """What the panels show is what was written, and what fires is what must."""
    server = live.prometheus
    firing = server.query('fairness_alert_state{rule="tone-uniform"} == 2')
    assert {(sample.labels["surface"], sample.labels["slice"]) for sample in firing} >= {
        (surface, tone) for surface in live.config.surfaces for tone in ("1", "4")
    }
    topic = f'topic="{live.config.kafka.topics.impressions}"'
    rejected = f'fairstream_events_total{{role="aggregate", {topic}, outcome!~"accepted|replayed"}}'
    assert [sample.value for sample in server.query(f"sum({rejected})")] == [5]
    shares = server.query(
        f'sum by (surface) (fairness_exposure_share{{dimension="item.skin_tone", window="{WINDOW}"}})'
    )
    assert [sample.value for sample in shares] == pytest.approx([1, 1])
    outside = server.query(
        "fairness_exposure_share < fairness_exposure_share_lower or "
        "fairness_exposure_share > fairness_exposure_share_upper"
    )
    assert outside == []
    held = live.alertmanager.alerts('alertname="tone-uniform"', 'surface="home"')
    assert {alert["labels"]["slice"] for alert in held} >= {"1", "4"}


def assert_only_the_watchdog_speaks(live: Live) -> None:
    """On a pipeline that works, none of Prometheus' own rules has anything to say."""
    groups = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]
    spoken = {
        rule["alert"]
        for rule in itertools.chain.from_iterable(group["rules"] for group in groups)
        if live.prometheus.query(rule["expr"])
    }
    # The test's Prometheus calls its one job fairstream, so the three jobs of prometheus.yml are missing.
    assert spoken == {"FairstreamWatchdog", "FairstreamRoleMissing"}


def test_the_deployed_alertmanager_calls_the_pager(tmp_path: Path) -> None:
    """A critical fairness alert, as notify posts it, goes to the pager with the token from its file."""
    if absent := missing(alertmanager_support.BINARY):
        pytest.skip(absent)
    token = tmp_path / "token"
    token.write_text("secret")
    text = (DEPLOY / "alertmanager" / "alertmanager.yml").read_text()
    for deployed in ("group_wait: 30s", "http://receiver:9094", "/etc/alertmanager/secrets/receiver-token"):
        assert deployed in text
    with Receiver() as receiver:
        text = text.replace("group_wait: 30s", "group_wait: 0s").replace("http://receiver:9094", receiver.url)
        server = Alertmanager(tmp_path, text.replace("/etc/alertmanager/secrets/receiver-token", str(token)))
        try:
            labels = {"alertname": "tone", "surface": "home", "dimension": "item.skin_tone"}
            alerts = [
                {"labels": labels | {"slice": tone, "severity": severity}}
                for tone, severity in (("4", "critical"), ("3", "critical"), ("2", "info"))
            ]
            httpx.post(f"{server.url}/api/v2/alerts", json=alerts).raise_for_status()
            receiver.wait_for_posts(1, SHOWN_TIMEOUT_S)
        finally:
            server.stop()
    assert {post.path for post in receiver.posts} == {"/pager"}
    told = {alert["labels"]["slice"] for alert in receiver.payloads[0]["alerts"]}
    assert told <= {"3", "4"}
