"""The three roles as processes of their own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import httpx

from monitor.config import Config
from streams.supervisor import finished
from tests.conftest import Spawn
from tests.support.processes import Child
from tests.support.wait import wait_for

ROLES = ("aggregate", "monitor", "notify")
START_TIMEOUT_S = 60.0


class Roles:
    """Starts the roles; the fixture `spawn` stops them."""

    def __init__(self, config: Config, file: Path, spawn: Spawn) -> None:
        self.ports = {role: getattr(config.http, f"{role}_port") for role in ROLES}
        self.children: list[Child] = [
            spawn([sys.executable, "-m", "streams", role, "--config", str(file)], name=role) for role in ROLES
        ]

    @property
    def targets(self) -> list[str]:
        """Where Prometheus finds their pages."""
        return [f"127.0.0.1:{port}" for port in self.ports.values()]

    def page(self, role: str) -> str:
        """Return a role's metrics page."""
        answer = httpx.get(f"http://127.0.0.1:{self.ports[role]}/metrics", timeout=10.0)
        answer.raise_for_status()
        return answer.text

    def statuses(self) -> dict[str, dict[str, Any] | None]:
        """Return each role's account of itself, None while it does not answer."""
        return {role: self._status(port) for role, port in self.ports.items()}

    def _status(self, port: int) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = httpx.get(f"http://127.0.0.1:{port}/-/status", timeout=5.0).json()
        except httpx.TransportError:
            return None
        return found

    def _ready(self, port: int) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/-/ready", timeout=5.0).status_code == 200
        except httpx.TransportError:
            return False

    def wait_ready(self) -> None:
        """Wait until all of them are ready."""
        wait_for(
            lambda: all(self._ready(port) for port in self.ports.values()),
            START_TIMEOUT_S,
            "the roles to be ready",
            watch=self.children,
        )

    def wait_finished(self, timeout_s: float) -> None:
        """Wait until all that is in the topics has come through to the alerts."""
        wait_for(
            lambda: finished(self.statuses()),
            timeout_s,
            lambda: f"the roles to be finished: {self.statuses()}",
            watch=self.children,
            interval_s=0.25,
        )
