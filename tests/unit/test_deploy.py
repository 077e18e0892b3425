from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from packaging.requirements import Requirement

from deploy.alertmanager import receiver
from monitor.config import Severity, SinkType, parse_config
from streams.cli import build_parser, main
from streams.simulate import load_scenario
from streams.simulate.scenario import choices
from tests.support.dashboards import DASHBOARD, DEPLOY
from tests.support.prometheus import PROMTOOL, missing

AMTOOL = "amtool"
CONFIG = DEPLOY / "fairstream.yaml"
ROLES = ("aggregate", "monitor", "notify")
ON_LOOPBACK = re.compile(r"127\.0\.0\.1:(?P<outside>\d+):(?P<inside>\d+)")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """Return the stack."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def load(*path: str) -> Any:
    """Return a YAML file under deploy/."""
    return yaml.safe_load(DEPLOY.joinpath(*path).read_text())


def tool(*command: str) -> str:
    """Run a checking program, which must find nothing wrong, and return what it says."""
    if absent := missing(command[0]):
        pytest.skip(absent)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ---------------------------------------------------------------- the configuration


def test_check_accepts_the_example_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    """``fairstream check`` finds nothing wrong, and a rule watches every surface."""
    assert main(["check", "--config", str(CONFIG)]) == 0
    told = capsys.readouterr().out
    assert ": good" in told
    assert "no rule watches" not in told


def test_the_example_configuration_fits_the_simulated_traffic() -> None:
    """Its surfaces, attributes, values and actions are those that ``fairstream simulate`` writes."""
    config, scenario = parse_config(CONFIG.read_text()), load_scenario()
    assert config.surfaces == list(scenario.surfaces)
    assert config.engagement.actions == list(scenario.actions)
    declared = {f"viewer.{name}": each.values for name, each in config.attributes.viewer.items()}
    declared |= {f"item.{name}": each.values for name, each in config.attributes.item.items()}
    assert config.attributes.variant is not None
    declared["variant"] = config.attributes.variant.values
    drawn = {
        name: [value for value in values if value != "unknown"]
        for name, values in choices(scenario).items()
        if name != "surface"
    }
    assert declared == drawn
    cells = 1
    for values in choices(scenario).values():
        cells *= len(values)
    assert cells / len(config.surfaces) <= config.limits.max_cells


# ---------------------------------------------------------------- compose


def test_every_role_runs_with_the_configuration(compose: dict[str, Any]) -> None:
    """Each fairstream service has a command that exists, with the configuration where it is mounted."""
    for name in (*ROLES, "topics", "simulate"):
        service = compose["services"][name]
        options = build_parser().parse_args(service["command"])
        assert options.command == name
        assert f"./fairstream.yaml:{options.config}:ro" in service["volumes"]
    assert compose["services"]["simulate"]["profiles"] == ["simulate"]
    instances = [compose["services"][name]["command"][-1] for name in ROLES]
    assert len(set(instances)) == len(ROLES)


def test_every_mounted_file_is_there(compose: dict[str, Any]) -> None:
    """What services mount from the repository exists, and named volumes are declared."""
    for service in compose["services"].values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), source
                assert mount.endswith(":ro")
            else:
                assert source in compose["volumes"]
        for secret in service.get("secrets", []):
            name = secret if isinstance(secret, str) else secret["source"]
            _, _, default = compose["secrets"][name]["file"].rstrip("}").partition(":-")
            assert (DEPLOY / default).is_file()
    build = compose["x-role"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")


def test_ports_agree(compose: dict[str, Any]) -> None:
    """Prometheus and the health checks ask where the roles listen, and sinks are where services are."""
    config = parse_config(CONFIG.read_text())
    ports = {role: getattr(config.http, f"{role}_port") for role in ROLES}
    assert config.http.bind == "0.0.0.0"
    jobs = {
        job["job_name"]: job["static_configs"]
        for job in load("prometheus", "prometheus.yml")["scrape_configs"]
    }
    for role, port in ports.items():
        assert jobs[f"fairstream-{role}"] == [{"targets": [f"{role}:{port}"]}]
        check = compose["services"][role]["healthcheck"]["test"]
        assert check[-1] == f"http://127.0.0.1:{port}/-/healthy"
    listeners = compose["services"]["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert f"INTERNAL://{config.kafka.bootstrap}" in listeners.split(",")
    [sink] = config.alerts.sinks
    assert (sink.type, sink.urls) == (SinkType.ALERTMANAGER, ["http://alertmanager:9093"])
    [managers] = load("prometheus", "prometheus.yml")["alerting"]["alertmanagers"]
    assert managers["static_configs"] == [{"targets": ["alertmanager:9093"]}]
    receivers = load("alertmanager", "alertmanager.yml")["receivers"]
    urls = [hook["url"] for each in receivers for hook in each.get("webhook_configs", [])]
    assert {url.rpartition("/")[0] for url in urls} == {"http://receiver:9094"}
    assert "PORT = 9094" in (DEPLOY / "alertmanager" / "receiver.py").read_text()


def test_services_know_each_other(compose: dict[str, Any]) -> None:
    """Whatever a service waits for is a service, and published ports are on loopback, each once."""
    services = compose["services"]
    outside = []
    for service in services.values():
        assert set(service.get("depends_on", [])) <= set(services)
        for port in service.get("ports", []):
            found = ON_LOOPBACK.fullmatch(port)
            assert found is not None, port
            outside.append(found["outside"])
        assert "image" in service
        assert not service["image"].endswith(":latest")
    assert len(set(outside)) == len(outside)


def test_kafka_is_the_version_that_is_tested(compose: dict[str, Any]) -> None:
    """The image has the version that the tests run on."""
    version = re.search(r"<artifactId>kafka-server</artifactId>\s*<version>([\d.]+)", _pom())
    assert version is not None
    assert compose["services"]["kafka"]["image"] == f"apache/kafka:{version[1]}"


def _pom() -> str:
    return (DEPLOY / "kafka" / "pom.xml").read_text()


def test_grafana_finds_data_source_and_dashboard(compose: dict[str, Any]) -> None:
    """The provisioned data source is Prometheus of the stack; the dashboards are where the provider looks."""
    [source] = load("grafana", "provisioning", "datasources", "prometheus.yaml")["datasources"]
    assert (source["type"], source["url"], source["isDefault"]) == (
        "prometheus",
        "http://prometheus:9090",
        True,
    )
    scraped = load("prometheus", "prometheus.yml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped
    [provider] = load("grafana", "provisioning", "dashboards", "fairstream.yaml")["providers"]
    mounts = [mount.split(":")[:2] for mount in compose["services"]["grafana"]["volumes"]]
    assert ["./grafana/dashboards", provider["options"]["path"]] in mounts
    assert ["./grafana/provisioning", "/etc/grafana/provisioning"] in mounts
    assert parse_config(CONFIG.read_text()).alerts.dashboard_url.endswith(
        json.loads(DASHBOARD.read_text())["uid"]
    )


def test_the_image_installs_pins_with_hashes_and_is_not_root() -> None:
    """The Dockerfile copies only what exists, checks hashes, and ends as another user."""
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    sources = [word for word in copied if not word.startswith(("--from", "/"))]
    assert sources
    assert all((DEPLOY.parent / source).exists() for source in sources)
    assert any("--require-hashes" in line for line in lines)
    users = [line for line in lines if line.startswith("USER ")]
    assert users == ["USER 10001"]
    assert lines.index(users[0]) > max(n for n, line in enumerate(lines) if line.startswith("FROM "))
    kept = {
        line.removeprefix("!")
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert all(any(Path(source).is_relative_to(each) for each in kept) for source in sources)


def test_pins_name_the_extras_that_others_ask_for() -> None:
    """Else pip takes the newest release for the extra, finds no hash, and a fresh install fails that day."""
    pins = (DEPLOY / "requirements" / "dev.txt").read_text()
    pinned = {r.name: r for r in map(Requirement, re.findall(r"^(\S+==\S+)", pins, re.MULTILINE))}
    asked = 0
    for distribution in metadata.distributions():
        wanted = [Requirement(text) for text in distribution.requires or []]
        for each in wanted:
            needed = each.marker is None or each.marker.evaluate({"extra": ""})
            if needed and each.extras and each.name in pinned:
                asked += 1
                assert each.extras <= pinned[each.name].extras, (distribution.name, str(each))
    assert asked


# ---------------------------------------------------------------- Prometheus and Alertmanager


def test_promtool_has_nothing_to_say() -> None:
    """Configuration and rules are valid, and every rule does what its test says."""
    directory = DEPLOY / "prometheus"
    tool(PROMTOOL, "check", "config", str(directory / "prometheus.yml"))
    tool(PROMTOOL, "check", "rules", "--lint=all", "--lint-fatal", str(directory / "rules.yml"))
    tool(PROMTOOL, "test", "rules", str(directory / "rules_test.yml"))


def test_every_rule_has_a_test_and_tells_what_to_do() -> None:
    """No alert about the monitor is untested, without severity, or without words."""
    rules = [rule for group in load("prometheus", "rules.yml")["groups"] for rule in group["rules"]]
    fired = {
        case["alertname"]
        for test in load("prometheus", "rules_test.yml")["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert {rule["alert"] for rule in rules} == fired
    for rule in rules:
        assert rule["labels"]["severity"] in {*Severity, "none"}
        assert {"summary", "description"} <= rule["annotations"].keys()


@pytest.mark.parametrize(
    ("labels", "called"),
    [
        ("alertname=tone surface=home slice=4 severity=critical", "pager"),
        ("alertname=tone surface=home slice=4 severity=warning", "chat"),
        ("alertname=tone surface=home slice=4 severity=info", "nobody"),
        ("alertname=FairstreamRoleDown job=fairstream-monitor severity=critical", "pager"),
        ("alertname=FairstreamWatchdog severity=none", "heartbeat"),
        ("alertname=SomebodyElses", "chat"),
    ],
)
def test_alertmanager_routes_by_severity(labels: str, called: str) -> None:
    """The configuration is valid, and each alert goes to whom it concerns."""
    file = str(DEPLOY / "alertmanager" / "alertmanager.yml")
    tool(AMTOOL, "check-config", file)
    tool(
        AMTOOL,
        "config",
        "routes",
        "test",
        f"--config.file={file}",
        f"--verify.receivers={called}",
        *labels.split(),
    )


def keys(data: Any) -> Iterator[str]:
    """Yield the names of all fields that hold a plain value, at any depth."""
    if isinstance(data, dict):
        for name, value in data.items():
            if isinstance(value, dict | list):
                yield from keys(value)
            else:
                yield name
    elif isinstance(data, list):
        for each in data:
            yield from keys(each)


@pytest.mark.parametrize("file", sorted(DEPLOY.rglob("*.y*ml")), ids=lambda file: file.name)
def test_secrets_stand_in_files(file: Path) -> None:
    """No field of a file under deploy/ is a password, key, token or credentials; only names of files are."""
    secret = re.compile(r"password|token|credentials|(routing|api|service)_(key|url)", re.IGNORECASE)
    assert [name for name in keys(yaml.safe_load(file.read_text())) if secret.fullmatch(name)] == []


def test_the_receiver_takes_alertmanagers_posts_and_nobody_elses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints each alert of whoever knows the token, and refuses others."""
    monkeypatch.setattr(receiver.Receiver, "token", "known")
    alert = {"status": "firing", "labels": {"alertname": "tone"}, "annotations": {"summary": "less is shown"}}
    with ThreadingHTTPServer(("127.0.0.1", 0), receiver.Receiver) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/pager"
        answers = [
            httpx.post(url, json={"alerts": [alert]}, headers={"Authorization": f"Bearer {token}"})
            for token in ("unknown", "known")
        ]
        server.shutdown()
    assert [answer.status_code for answer in answers] == [401, 200]
    assert capsys.readouterr().out == "/pager firing tone less is shown\n"
