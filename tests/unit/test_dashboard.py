from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from deploy.grafana import build
from monitor.config import Config, parse_config
from tests.support.dashboards import DASHBOARD, DEPLOY, load_dashboard, panels, queries, used, variables
from tests.support.metric_names import exported

GIVEN_BY_PROMETHEUS = {"up", "ALERTS"}
GIVEN_BY_GRAFANA = {"__rate_interval", "__range"}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@pytest.fixture(scope="module")
def metrics() -> set[str]:
    """Return what queries may ask for."""
    config: Config = parse_config((DEPLOY / "fairstream.yaml").read_text())
    return exported(config) | GIVEN_BY_PROMETHEUS


def asked_for(expr: str) -> set[str]:
    """Return the metrics that an expression names."""
    bare = re.sub(r'"[^"]*"', '""', expr)
    return set(re.findall(r"\b(?:fairness|fairstream)_\w+|\bup\b|\bALERTS\b", bare))


def test_the_committed_dashboard_is_what_the_code_builds(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has edited the JSON by hand, or forgotten to build it."""
    assert build.main(["--check"]) == 0, capsys.readouterr().err
    assert build.render() == build.render()


def test_a_dashboard_that_is_another_one_is_told(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--check`` fails on an old or missing file, and building mends it."""
    monkeypatch.setattr(build, "OUTPUT", tmp_path / "overview.json")
    assert build.main(["--check"]) == 1
    assert "run it without --check" in capsys.readouterr().err
    assert build.main([]) == 0
    assert build.main(["--check"]) == 0
    assert (tmp_path / "overview.json").read_text() == DASHBOARD.read_text()


def test_the_schema_is_the_classic_one() -> None:
    """Provisioning reads the classic schema, and panels have numbers and places of their own."""
    dashboard = load_dashboard()
    assert dashboard["schemaVersion"] == 42
    numbers = [each["id"] for each in dashboard["panels"]]
    assert sorted(set(numbers)) == numbers
    places = [(each["gridPos"]["x"], each["gridPos"]["y"]) for each in dashboard["panels"]]
    assert len(set(places)) == len(places)
    assert all(each["gridPos"]["x"] + each["gridPos"]["w"] <= 24 for each in dashboard["panels"])


@pytest.mark.parametrize("panel", panels(load_dashboard()), ids=lambda panel: panel["title"])
def test_every_panel_can_be_read_without_its_author(panel: dict[str, Any], metrics: set[str]) -> None:
    """Each panel has title, description, unit, data source and queries; each query names known metrics."""
    assert panel["title"]
    assert len(panel["description"]) > 20
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == DATASOURCE
    assert panel["targets"]
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    for target in panel["targets"]:
        assert target["datasource"] == DATASOURCE
        assert asked_for(target["expr"])
        assert asked_for(target["expr"]) <= metrics
        for function, range_ in re.findall(r"\b(rate|increase)\([^\[]*\[([^\]]*)\]", target["expr"]):
            assert (function, range_) == ("rate", "$__rate_interval")


def test_rates_are_of_counters_and_only_they() -> None:
    """What ends in ``_total`` is only used in a rate, and nothing else is."""
    for query in queries(load_dashboard()):
        for name in asked_for(query.expr):
            rated = re.search(rf"\brate\({name}[\[{{]", query.expr) is not None
            assert rated == name.endswith("_total"), query


def test_variables_are_used_and_used_ones_are_there() -> None:
    """Every variable in a query, title or repetition is one of the dashboard's, and none is idle."""
    dashboard = load_dashboard()
    names = set(variables(dashboard))
    assert names >= {"datasource", "surface", "window", "dimension", "rule"}
    texts = [each["query"]["query"] for each in variables(dashboard).values() if each["type"] == "query"]
    texts += [text for each in panels(dashboard) for text in (each["title"], *_exprs(each))]
    repeated = {each["repeat"] for each in panels(dashboard) if "repeat" in each}
    found = set().union(*map(used, texts), repeated, {"datasource"})
    assert found - GIVEN_BY_GRAFANA == names


def test_what_repeats_a_panel_has_all_values_and_is_hidden() -> None:
    """The variables that only repeat panels show every slice, and the reader does not see them."""
    dashboard = load_dashboard()
    for each in panels(dashboard):
        if "repeat" in each:
            variable = variables(dashboard)[each["repeat"]]
            assert (variable["includeAll"], variable["current"]["value"], variable["hide"]) == (
                True,
                "$__all",
                2,
            )
            assert f'=~"${each["repeat"]}"' in each["targets"][0]["expr"]


def test_the_variables_ask_for_metrics_that_exist(metrics: set[str]) -> None:
    """No list of values stays empty because of a name that no role exports."""
    for each in variables(load_dashboard()).values():
        if each["type"] == "query":
            assert each["datasource"] == DATASOURCE
            assert asked_for(each["query"]["query"]) <= metrics


def test_the_rules_ask_for_metrics_that_exist(metrics: set[str]) -> None:
    """No rule of Prometheus is silent because of a name that no role exports."""
    groups = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]
    found = {name for group in groups for rule in group["rules"] for name in asked_for(rule["expr"])}
    assert found
    assert found <= metrics


def _exprs(panel: dict[str, Any]) -> list[str]:
    return [target["expr"] for target in panel["targets"]]
