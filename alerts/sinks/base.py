"""What every sink is, and the one edge where HTTP's answers and failures become a :class:`Delivery`."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp
import msgspec

from alerts.notices import DELIVERED, Delivery, DeliveryError, Notice, rejected, retryable

DEFAULT_TIMEOUT_MS = 10_000
_CODE_WORD = re.compile(rb"[a-z][a-z_]{0,39}")
_ANSWER_BYTES = 1_024

_REFUSALS = {
    HTTPStatus.UNAUTHORIZED: DeliveryError.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN: DeliveryError.UNAUTHORIZED,
    HTTPStatus.NOT_FOUND: DeliveryError.NOT_FOUND,
    HTTPStatus.GONE: DeliveryError.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT: DeliveryError.TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS: DeliveryError.THROTTLED,
}
"""Answers that say nothing against the alert: the door is wrong or busy, and may be put right."""


class Sink(Protocol):
    """Somewhere that alerts are delivered to, in one try; :mod:`alerts.delivery` decides on others."""

    @property
    def name(self) -> str:
        """As in the configuration, and a metric label."""

    async def deliver(self, batch: Sequence[Notice]) -> Delivery:
        """Deliver a batch, no larger than the sink's policy allows; what a network does raises nothing."""


class SecretUnreadableError(Exception):
    """The file that holds an address or a key is missing or empty."""


class Secret:
    """A text kept in a file, or given as it is; read at each use, so that it can be replaced while running.

    The repr says where it is, not what it is.
    """

    def __init__(self, *, file: str | None = None, value: str | None = None) -> None:
        self._file = file
        self._value = value

    def __repr__(self) -> str:
        return f"Secret(file={self._file!r})" if self._file else "Secret('**********')"

    def read(self) -> str:
        """The text, without the white space around it.

        Raises:
            SecretUnreadableError: there is none.
        """
        try:
            text = Path(self._file).read_text(encoding="utf-8") if self._file else self._value
        except (OSError, UnicodeDecodeError) as problem:
            raise SecretUnreadableError(f"{self._file}: {type(problem).__name__}") from problem
        if not text or not text.strip():
            raise SecretUnreadableError(f"{self._file or 'the value'} is empty")
        return text.strip()


class Poster:
    """Posts JSON; one for all sinks, used as ``async with Poster() as poster``."""

    def __init__(self, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout_ms / 1000)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=self._timeout,
            headers={"User-Agent": "fairstream", "Content-Type": "application/json"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def post(self, url: str, payload: Any) -> Delivery:
        """Post a payload once. The detail of the answer names neither the URL nor anything of the payload."""
        if self._session is None:
            raise RuntimeError("a Poster is used inside `async with`")
        body = msgspec.json.encode(payload)
        try:
            async with self._session.post(url, data=body, allow_redirects=False) as response:
                answer = await response.content.read(_ANSWER_BYTES)
                return judge(response.status, answer, response.headers.get("Retry-After"))
        except TimeoutError:
            return retryable(DeliveryError.TIMEOUT, f"no answer in {self._timeout.total:g} s")
        except aiohttp.InvalidURL:
            return retryable(DeliveryError.NOT_FOUND, "not a URL")
        except aiohttp.ClientSSLError as problem:
            return retryable(DeliveryError.TLS, type(problem).__name__)
        except (aiohttp.ClientError, OSError) as problem:
            return retryable(DeliveryError.UNREACHABLE, type(problem).__name__)


def judge(status: int, answer: bytes = b"", retry_after: str | None = None) -> Delivery:
    """What an HTTP answer means for a delivery.

    Wrong credentials and addresses are retryable: they say nothing against the alert, and are put right
    by people while it waits.

    >>> judge(503).outcome
    <DeliveryOutcome.RETRYABLE: 'retryable'>
    >>> judge(400, b"invalid_payload").detail
    'HTTP 400 invalid_payload'
    """
    detail = f"HTTP {status}"
    if _CODE_WORD.fullmatch(answer.strip()):
        detail += f" {answer.strip().decode()}"
    wait_ms = int(retry_after) * 1000 if retry_after is not None and retry_after.isdecimal() else None
    if 200 <= status < 300:
        return DELIVERED
    if status >= 500:
        return retryable(DeliveryError.SERVER_ERROR, detail, wait_ms)
    if status < 400:
        return retryable(DeliveryError.UNEXPECTED, detail)
    if status in _REFUSALS:
        return retryable(_REFUSALS[HTTPStatus(status)], detail, wait_ms)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return rejected(DeliveryError.TOO_LARGE, detail)
    return rejected(DeliveryError.BAD_REQUEST, detail)
