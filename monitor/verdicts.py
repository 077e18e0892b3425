"""Verdicts: what a rule says of one slice at the end of one closed pane (contract record)."""

from enum import StrEnum

import msgspec
from msgspec import Struct, field


class Outcome(StrEnum):
    """The three answers. Too little data is an answer, never a number."""

    OK = "ok"
    BREACH = "breach"
    INSUFFICIENT = "insufficient"


class Direction(StrEnum):
    """On which side of parity a breach lies."""

    LOW = "low"
    HIGH = "high"
    NONE = "none"


class Estimate(Struct, frozen=True, gc=False):
    """A number with its interval. ``support`` is the slice's impressions in the window.

    ``value``, ``lower`` and ``upper`` are None when there is too little data to say.
    """

    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    support: int = 0


class ToleranceBand(Struct, frozen=True, kw_only=True):
    """The rule's tolerance on the disparity; None: no limit on that side."""

    low: float | None = None
    high: float | None = None


class Verdict(Struct, frozen=True, gc=False):
    """One rule, one slice, one closed pane. ``estimate`` is of the disparity (ratio, 1 is parity).

    Of a mean over requests it is that mean; the slice is ``*``, and ``support`` counts requests.

    ``evidence`` belongs to ``detector``, the one that decided; its scale is the detector's.
    ``version`` is of this record; a reader refuses a larger one than it knows.
    """

    rule: str
    surface: str
    dimension: str
    slice_: str = field(name="slice")
    metric: str
    window: str
    pane_end_ms: int
    verdict: Outcome
    estimate: Estimate
    tolerance: ToleranceBand
    evidence: float = 0.0
    detector: str = ""
    direction: Direction = Direction.NONE
    share: float | None = None
    """The slice's share or rate in the window."""
    reference: float | None = None
    """What the share or rate was held against."""
    reason: str = ""
    """Why the answer is `insufficient`, in a few words."""
    version: int = 1

    @property
    def series(self) -> tuple[str, str, str, str]:
        """Identity over time: (rule, surface, dimension, slice)."""
        return (self.rule, self.surface, self.dimension, self.slice_)


class UnknownVersionError(ValueError):
    """A record was written by a newer fairstream than this one."""


_VERSION = 1
_decoder = msgspec.json.Decoder(Verdict)


def encode_verdict(verdict: Verdict) -> bytes:
    """The verdict as one line of JSON."""
    return msgspec.json.encode(verdict)


def decode_verdict(data: bytes) -> Verdict:
    """Inverse of :func:`encode_verdict`.

    Raises:
        UnknownVersionError: the record is newer than this program.
        msgspec.DecodeError: not a verdict.
    """
    verdict = _decoder.decode(data)
    if verdict.version > _VERSION:
        raise UnknownVersionError(f"verdict version {verdict.version}, this program knows up to {_VERSION}")
    return verdict
