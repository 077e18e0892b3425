from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from tests.conftest import Spawn
from tests.support.alertmanager import Alertmanager
from tests.support.ports import free_port
from tests.support.prometheus import Prometheus, Sample, check_metrics
from tests.support.wait import wait_for


def test_prometheus_scrapes_its_targets(
    prometheus: Callable[[Sequence[str]], Prometheus], spawn: Spawn, tmp_path: Path
) -> None:
    """A page that a process serves can be queried, with its labels, a second or two later."""
    (tmp_path / "metrics").write_text('demo_ratio{slice="a"} 0.25\n')
    port = free_port()
    serve = ["-m", "http.server", "--bind", "127.0.0.1", "--directory", str(tmp_path), str(port)]
    page = spawn([sys.executable, *serve], name="page")
    server = prometheus([f"127.0.0.1:{port}"])
    (sample,) = wait_for(
        lambda: server.query("demo_ratio"), 30, "the first scrape", watch=[page, server.child]
    )
    assert sample.labels["slice"] == "a"
    assert sample.value == 0.25
    assert server.query("scalar(demo_ratio)") == [Sample({}, 0.25)]
    assert server.query("absent_metric") == []


def test_promtool_tells_a_clean_page_from_a_faulty_one(
    prometheus: Callable[[Sequence[str]], Prometheus],
) -> None:
    """A counter without _total and without help is found; a proper one is not complained of."""
    assert check_metrics("# HELP good_total Good.\n# TYPE good_total counter\ngood_total 1\n") == []
    assert any("no help text" in line for line in check_metrics("# TYPE bad counter\nbad 1\n"))
    assert check_metrics("not a page\n")


def test_alertmanager_holds_what_is_posted(alertmanager: Callable[[], Alertmanager]) -> None:
    """A posted alert is there, and a matcher for another one finds nothing."""
    server = alertmanager()
    assert server.alerts() == []
    httpx.post(f"{server.url}/api/v2/alerts", json=[{"labels": {"alertname": "Skewed"}}]).raise_for_status()
    (alert,) = wait_for(lambda: server.alerts('alertname="Skewed"'), 10, "the alert", watch=[server.child])
    assert alert["labels"] == {"alertname": "Skewed"}
    assert server.alerts('alertname="Other"') == []
