"""A real Alertmanager and the alerts that it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from tests.support.ports import free_port
from tests.support.processes import Child
from tests.support.prometheus import answers
from tests.support.wait import wait_for

BINARY = "prometheus-alertmanager"
READY_TIMEOUT_S = 30.0

_CONFIG = """
route: {receiver: nobody, group_wait: 0s, group_interval: 1s}
receivers: [{name: nobody}]
"""


class Alertmanager:
    """A running Alertmanager on its own, not clustered; `stop()` ends it.

    Args:
        directory: takes its configuration, data and log.
        config: its configuration, YAML; by default it holds alerts and notifies nobody.
    """

    def __init__(self, directory: Path, config: str = _CONFIG) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        config_file = directory / "alertmanager.yml"
        config_file.write_text(config)
        self.child = Child(
            [
                BINARY,
                f"--config.file={config_file}",
                f"--storage.path={directory / 'data'}",
                f"--web.listen-address={self.url.removeprefix('http://')}",
                "--cluster.listen-address=",
                "--log.level=warn",
            ],
            directory / "alertmanager.log",
        )
        wait_for(lambda: answers(f"{self.url}/-/ready"), READY_TIMEOUT_S, "Alertmanager", watch=[self.child])

    def alerts(self, *matchers: str) -> list[dict[str, Any]]:
        """Return the alerts that it holds, resolved ones left out, as its API gives them.

        Args:
            matchers: label matchers that all have to hold, such as `alertname="Skewed"`.
        """
        answer = httpx.get(f"{self.url}/api/v2/alerts", params={"filter": list(matchers)})
        answer.raise_for_status()
        alerts: list[dict[str, Any]] = answer.json()
        return alerts

    def stop(self) -> None:
        """Stop it."""
        self.child.stop()
