"""The small HTTP server of aggregate: /metrics, /-/healthy, /-/ready. Monitor and notify use Faust's."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


class Probe(NamedTuple):
    """A role's answers about itself; each is called from the server's threads."""

    healthy: Callable[[], bool]
    ready: Callable[[], bool]
    status: Callable[[], dict[str, Any]]
    """What ``run`` watches; not part of the contract."""


def serve(bind: str, port: int, registry: CollectorRegistry, probe: Probe) -> ThreadingHTTPServer:
    """Serve in a daemon thread until ``shutdown()``; port 0 takes a free one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match self.path.partition("?")[0]:
                case "/metrics":
                    self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
                case "/-/healthy":
                    self._say(probe.healthy())
                case "/-/ready":
                    self._say(probe.ready())
                case "/-/status":
                    self._answer(200, json.dumps(probe.status()).encode(), "application/json")
                case _:
                    self._answer(404, b"not found\n", "text/plain")

        def _say(self, good: bool) -> None:
            self._answer(200 if good else 503, b"ok\n" if good else b"not yet\n", "text/plain")

        def _answer(self, code: int, body: bytes, content_type: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Requests are not logged."""

    server = ThreadingHTTPServer((bind, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server
