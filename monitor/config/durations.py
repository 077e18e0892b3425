"""Durations as people write them (``90s``, ``5m``, ``24h``), held as whole milliseconds."""

import re

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_TEXT = re.compile(r"^(\d+)(ms|s|m|h|d)$")

_LONGEST_MS = 3650 * _UNITS_MS["d"]

DURATION_PATTERN = r"^\d+(ms|s|m|h|d)$"


class Duration(int):
    """A length of time in milliseconds that remembers how to print itself.

    >>> Duration(300_000)
    5m
    """

    def __repr__(self) -> str:
        """The shortest exact spelling, e.g. ``5m``."""
        return format_duration(self)

    __str__ = __repr__


def parse_duration(text: str) -> Duration:
    """Milliseconds of a text such as ``10s``; ValueError for anything else.

    >>> int(parse_duration("5m"))
    300000
    """
    match = _TEXT.match(text)
    if match is None:
        raise ValueError("a whole number followed by ms, s, m, h or d, such as 10s or 24h")
    length_ms = int(match[1]) * _UNITS_MS[match[2]]
    if length_ms > _LONGEST_MS:
        raise ValueError("a duration of at most 3650d")
    return Duration(length_ms)


def format_duration(length_ms: int) -> str:
    """The shortest exact spelling of a length in milliseconds.

    >>> format_duration(5_400_000)
    '90m'
    """
    for unit in ("d", "h", "m", "s"):
        if length_ms and length_ms % _UNITS_MS[unit] == 0:
            if unit == "d" and length_ms == _UNITS_MS["d"]:
                continue  # 24h reads better than 1d beside 1h and 5m
            return f"{length_ms // _UNITS_MS[unit]}{unit}"
    return f"{int(length_ms)}ms"
