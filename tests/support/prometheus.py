"""A real Prometheus that scrapes given targets, and promtool's opinion of a metrics page."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.ports import free_port
from tests.support.processes import Child
from tests.support.wait import wait_for

BINARY = "prometheus"
PROMTOOL = "promtool"
READY_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Sample:
    """One element of an instant query's answer."""

    labels: dict[str, str]
    value: float


class Prometheus:
    """A running Prometheus; `stop()` ends it.

    Args:
        targets: the "host:port" of the pages to scrape, each at /metrics, every second.
        directory: takes its configuration, data and log.
        rule_files: its recording and alerting rules.
    """

    def __init__(self, targets: Sequence[str], directory: Path, *, rule_files: Sequence[Path] = ()) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        config = {  # JSON is YAML
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(path) for path in rule_files],
            "scrape_configs": [{"job_name": "fairstream", "static_configs": [{"targets": list(targets)}]}],
        }
        config_file = directory / "prometheus.yml"
        config_file.write_text(json.dumps(config))
        self.child = Child(
            [
                BINARY,
                f"--config.file={config_file}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address={self.url.removeprefix('http://')}",
                "--log.level=warn",
            ],
            directory / "prometheus.log",
        )
        wait_for(lambda: answers(f"{self.url}/-/ready"), READY_TIMEOUT_S, "Prometheus", watch=[self.child])

    def query(self, expr: str) -> list[Sample]:
        """Return the answer to an instant query at this moment; a scalar is one sample without labels."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expr}).json()
        assert answer["status"] == "success", f"{expr}: {answer}"
        data = answer["data"]
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(element["metric"], float(element["value"][1])) for element in data["result"]]

    def stop(self) -> None:
        """Stop it."""
        self.child.stop()


def answers(url: str) -> bool:
    """Return whether a GET of this address succeeds."""
    try:
        return httpx.get(url, timeout=2.0).is_success
    except httpx.TransportError:
        return False


def missing(*binaries: str) -> str | None:
    """Return which of the programs are not installed, None if all are."""
    absent = [binary for binary in binaries if shutil.which(binary) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def check_metrics(page: str) -> list[str]:
    """Return what `promtool check metrics` finds wrong with a metrics page: nothing, if it is clean."""
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=page, capture_output=True, text=True, check=False
    )
    problems = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert done.returncode == 0 or problems, f"promtool ended with code {done.returncode}"
    return problems
