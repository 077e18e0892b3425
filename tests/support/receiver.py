"""A small HTTP server that keeps what is posted to it and answers as it is told."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.support.wait import wait_for


class Answer(NamedTuple):
    """What the server answers."""

    status: int = 200
    body: str = "ok"
    retry_after: str | None = None


class Post(NamedTuple):
    """A request that it got."""

    path: str
    content_type: str
    payload: Any


HANG = Answer(status=0)
"""No answer, until the server is closed."""


class Receiver:
    """Listens on a free loopback port; used as `with Receiver() as receiver`."""

    def __init__(self, *answers: Answer) -> None:
        self.posts: list[Post] = []
        self.answers = list(answers)
        """Given one after the other, the last one for ever; without any, 200."""
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def payloads(self) -> list[Any]:
        """What was posted."""
        return [post.payload for post in self.posts]

    def wait_for_posts(self, count: int, timeout_s: float = 10) -> list[Any]:
        """Wait until so many posts have come, and return the payloads."""
        return wait_for(
            lambda: self.payloads if len(self.posts) >= count else None,
            timeout_s,
            lambda: f"{count} posts, {len(self.posts)} came",
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                payload = json.loads(self.rfile.read(length))
                answer = receiver._next_answer()
                receiver.posts.append(Post(self.path, self.headers.get("Content-Type", ""), payload))
                if answer == HANG:
                    receiver._closing.wait()
                    return
                self.send_response(answer.status)
                self.send_header("Content-Length", str(len(answer.body)))
                self.send_header("Connection", "close")
                if answer.retry_after is not None:
                    self.send_header("Retry-After", answer.retry_after)
                self.end_headers()
                self.wfile.write(answer.body.encode())

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that http.server gives it
                pass

        return Handler

    def _next_answer(self) -> Answer:
        if not self.answers:
            return Answer()
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
