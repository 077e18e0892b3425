"""What is remembered of an alert between two verdicts."""

from enum import StrEnum

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from alerts.events import AlertEvent, Series
from monitor.verdicts import Direction, UnknownVersionError, Verdict


class Phase(StrEnum):
    """Where an alert is in its life."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"

    @property
    def number(self) -> int:
        """Value of the metric ``fairness_alert_state``: 0, 1 or 2."""
        return list(Phase).index(self)


class Run(Struct, frozen=True):
    """A stretch of verdicts that said the same: the time of the first and of the latest one."""

    since_ms: int
    until_ms: int

    @property
    def length_ms(self) -> int:
        """How long it has lasted."""
        return self.until_ms - self.since_ms

    @staticmethod
    def at(now_ms: int) -> "Run":
        """A run that begins now."""
        return Run(now_ms, now_ms)

    @staticmethod
    def extended(run: "Run | None", now_ms: int, patience_ms: int) -> "Run":
        """The run going on until now; a new one if there is none, or after a gap longer than the patience.

        >>> Run.extended(Run(0, 10), 20, 15)
        Run(since_ms=0, until_ms=20)
        >>> Run.extended(Run(0, 10), 40, 15)
        Run(since_ms=40, until_ms=40)
        """
        if run is None or now_ms - run.until_ms > patience_ms:
            return Run.at(now_ms)
        return Run(run.since_ms, now_ms)


class AlertState(Struct, frozen=True, kw_only=True):
    """The state of one series. Times are event time.

    ``breach`` is the run of breaches that leads to the next change: of a pending alert those on its side,
    of a firing one those on the other side. ``clear`` is the run of verdicts that leads to its end.
    ``event`` is the last one emitted, kept after the end, and ``earlier`` the one before it that sinks are
    told of, if they are not told of ``event``: from them a restarted process knows what is left to tell.
    ``receipts`` says what each sink was told last (:attr:`AlertEvent.transition`).
    """

    rule: str
    surface: str
    dimension: str
    slice_: str = field(name="slice")
    phase: Phase = Phase.INACTIVE
    since_ms: int = 0
    """Begin of the episode (its first breach); 0 while inactive."""
    direction: Direction = Direction.NONE
    breach: Run | None = None
    clear: Run | None = None
    last_pane_end_ms: int
    verdict: Verdict
    event: AlertEvent | None = None
    earlier: AlertEvent | None = None
    receipts: dict[str, str] = {}
    version: int = 1

    @property
    def series(self) -> Series:
        """Identity over time: (rule, surface, dimension, slice)."""
        return (self.rule, self.surface, self.dimension, self.slice_)

    @property
    def news(self) -> AlertEvent | None:
        """The last event that sinks are told of."""
        return self.event if self.event is not None and self.event.tellable else self.earlier

    @staticmethod
    def unseen(verdict: Verdict) -> "AlertState":
        """The state of a series before its first verdict."""
        return AlertState(
            rule=verdict.rule,
            surface=verdict.surface,
            dimension=verdict.dimension,
            slice_=verdict.slice_,
            last_pane_end_ms=verdict.pane_end_ms,
            verdict=verdict,
        )

    def ended(self) -> "AlertState":
        """The same series, inactive."""
        return replace(
            self, phase=Phase.INACTIVE, since_ms=0, direction=Direction.NONE, breach=None, clear=None
        )

    def emitted(self, event: AlertEvent) -> "AlertState":
        """The same state after an event."""
        return replace(self, event=event, earlier=None if event.tellable else self.news)


def series_key(series: Series) -> bytes:
    """Key of a series in a table.

    >>> series_key(("skin-tone", "home", "item.skin_tone", "4"))
    b'["skin-tone","home","item.skin_tone","4"]'
    """
    return msgspec.json.encode(series)


_VERSION = 1
_decoder = msgspec.json.Decoder(AlertState)


def encode_state(state: AlertState) -> bytes:
    """The state as JSON."""
    return msgspec.json.encode(state)


def decode_state(data: bytes) -> AlertState:
    """Inverse of :func:`encode_state`.

    Raises:
        UnknownVersionError: the state was written by a newer program.
        msgspec.DecodeError: not a state.
    """
    state = _decoder.decode(data)
    if state.version > _VERSION:
        raise UnknownVersionError(f"alert state version {state.version}, this program knows up to {_VERSION}")
    return state
