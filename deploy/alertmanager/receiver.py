"""A placeholder for what calls people: prints the notifications that Alertmanager sends it."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT = 9094


class Receiver(BaseHTTPRequestHandler):
    """Takes Alertmanager's webhooks at /pager, /chat and /heartbeat."""

    token = ""

    def do_POST(self) -> None:
        """Print one line for each alert."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.token and self.headers.get("Authorization") != f"Bearer {self.token}":
            self.send_error(401)
            return
        for alert in json.loads(body)["alerts"]:
            labels, notes = alert["labels"], alert["annotations"]
            told = (self.path, alert["status"], labels["alertname"], notes.get("summary", ""))
            print(*told, file=sys.stdout, flush=True)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Requests are not logged, alerts are."""


def main() -> None:
    """Serve until stopped; the file named by RECEIVER_TOKEN_FILE holds what senders must know."""
    token_file = os.environ.get("RECEIVER_TOKEN_FILE")
    if token_file:
        Receiver.token = Path(token_file).read_text(encoding="utf-8").strip()
    ThreadingHTTPServer(("", PORT), Receiver).serve_forever()


if __name__ == "__main__":
    main()
