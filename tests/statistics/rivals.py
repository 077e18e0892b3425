"""All detectors and the obvious rules side by side: false pages without a disparity, delay with one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from monitor.budget import Allowance
from monitor.config import DetectorKind, DetectorSpec
from monitor.detectors import Block, Detector, Status, make_detector
from monitor.estimates import Ratios, Terms, double_ratio
from monitor.verdicts import ToleranceBand
from tests.statistics.sessions import DAY, Flags, Floats, Series, simulate_all

MINUTE_MS = 60_000
WINDOW = 60
"""Minutes of the window that rules look at, and between two pages that count."""
FOUR_FIFTHS, PARITY = ToleranceBand(low=0.8), ToleranceBand(low=1.0)


class Rival(Protocol):
    """Looks at one minute after the other."""

    def step(self, minute: int, n: Floats, y: Floats) -> Flags:
        """Which series page now; impressions and clicks (S, 2, B)."""


def terms_of(n: Floats, y: Floats) -> Terms:
    """The slice's rate against the rest's; (S, 2, B)."""
    counts = y.sum(axis=2) + 0.5
    least = np.sqrt((1 / counts).sum(axis=1))
    return Terms(y[:, 0], n[:, 0], y[:, 1], n[:, 1], np.full(len(n), 0.5), least)


class Windowed:
    """A rule on the last hour, asked every minute; after a page it is quiet for an hour."""

    def __init__(self, rule: Callable[[Floats, Floats], Flags]) -> None:
        self._rule = rule
        self._held: deque[tuple[Floats, Floats]] = deque()
        self._sums: tuple[Floats, Floats] | None = None
        self._quiet_until: Floats | None = None

    def step(self, minute: int, n: Floats, y: Floats) -> Flags:
        """Ask the rule about the window's sums."""
        self._held.append((n, y))
        if self._sums is None or self._quiet_until is None:
            self._sums = (np.zeros_like(n), np.zeros_like(y))
            self._quiet_until = np.full(len(n), float(WINDOW))
        old = self._held.popleft() if len(self._held) > WINDOW else (np.zeros_like(n), np.zeros_like(y))
        self._sums = (self._sums[0] + n - old[0], self._sums[1] + y - old[1])
        pages = self._rule(*self._sums) & (minute >= self._quiet_until)
        self._quiet_until[pages] = minute + WINDOW
        return np.asarray(pages)


class Detecting:
    """A detector of the product on closed panes: a page is the begin of a breach on the low side."""

    def __init__(self, detector: Detector, band: ToleranceBand) -> None:
        self._detector = detector
        self._band = band
        self._breached: Flags | None = None

    def step(self, minute: int, n: Floats, y: Floats) -> Flags:
        """Give it the pane."""
        terms, count = terms_of(n, y), len(n)
        start_ms = (minute + 1) * MINUTE_MS
        block = Block(
            start_ms,
            start_ms + MINUTE_MS,
            [str(i) for i in range(count)],
            terms,
            terms,
            is_share=False,
            enough=np.full(count, fill_value=True),
            tolerance=self._band,
            impressions=n[:, 0].sum(axis=1),
        )
        answer = self._detector.update(block, _NOTHING)
        breached = (answer.status == Status.BREACH) & (answer.direction < 0)
        before = np.zeros(count, dtype=bool) if self._breached is None else self._breached
        self._breached = breached
        return np.asarray(breached & ~before)


_NOTHING = Ratios(*(np.zeros(0) for _ in Ratios._fields))
"""Detectors of panes look at no window."""


def _log_ratio(n: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Logarithm of the ratio of rates, and its binomial error."""
    shown, clicked = n.sum(axis=2), y.sum(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = clicked / shown
        error = np.sqrt(((1 - rate) / clicked).sum(axis=1))
        return np.log(rate[:, 0] / rate[:, 1]), error


def _below(limit: float, errors: float) -> Callable[[Floats, Floats], Flags]:
    def rule(n: Floats, y: Floats) -> Flags:
        ratio, error = _log_ratio(n, y)
        with np.errstate(invalid="ignore"):
            return np.asarray(ratio + errors * error < np.log(limit))

    return rule


def _jackknife_below(limit: float) -> Callable[[Floats, Floats], Flags]:
    def rule(n: Floats, y: Floats) -> Flags:
        return np.asarray(double_ratio(terms_of(n, y), 0.95).upper < limit)

    return rule


def rivals(series: int) -> dict[str, Rival]:
    """Every rule, by what it is called in the table; the e-detector's budget is 1 page in 30 days for all."""
    found: dict[str, Rival] = {
        "ratio of rates < 0.8, 1 h": Windowed(_below(0.8, 0.0)),
        "binomial 95 % interval below 1, 1 h": Windowed(_below(1.0, 1.96)),
        "binomial 95 % interval below 0.8, 1 h": Windowed(_below(0.8, 1.96)),
        "tolerance: jackknife interval below 1, 1 h": Windowed(_jackknife_below(1.0)),
        "tolerance: jackknife interval below 0.8, 1 h": Windowed(_jackknife_below(0.8)),
    }
    for kind in (DetectorKind.ADWIN, DetectorKind.PAGE_HINKLEY, DetectorKind.KSWIN, DetectorKind.HDDM):
        spec = DetectorSpec(kind=kind)
        found[f"river {kind}, defaults, on residuals"] = Detecting(
            make_detector(spec, Allowance(0, (), closed=True)), PARITY
        )
    names = tuple(str(i) for i in range(series))
    for limit, band in ((1, PARITY), (0.8, FOUR_FIFTHS)):
        detector = make_detector(
            DetectorSpec(kind=DetectorKind.E_DETECTOR), Allowance(1 / 30, names, closed=True)
        )
        found[f"e_detector, tolerance {limit}"] = Detecting(detector, band)
    return found


class Comparison(NamedTuple):
    """One rule."""

    name: str
    false_pages: float
    """In 30 days, over 200 series, one side."""
    delays: list[float]
    """Median minutes for each case; infinite if not seen in the time that was simulated."""


def false_pages(series: list[Series], days: int, seed: int, say: Callable[[str], None]) -> dict[str, float]:
    """Pages of each rule in 30 days over 200 series, where there is nothing to page for."""
    asked = rivals(len(series))
    counts = dict.fromkeys(asked, 0)
    minute = 0
    for day, stretch in enumerate(simulate_all(seed, series, days * DAY)):
        say(f"all detectors: day {day + 1} of {days}")
        for row in range(len(stretch.impressions)):
            n, y = (x[row].astype(np.float64) for x in stretch)
            for name, rival in asked.items():
                counts[name] += int(rival.step(minute, n, y).sum())
            minute += 1
    return {name: count * 30 / days * 200 / len(series) for name, count in counts.items()}


def median_delays(series: Series, runs: int, minutes: int, seed: int, step: int) -> dict[str, float]:
    """Median minutes from ``series.drop_minute`` to a page of each rule."""
    asked = rivals(runs)
    seen = {name: np.full(runs, np.inf) for name in asked}
    minute = 0
    for stretch in simulate_all(seed, [series] * runs, series.drop_minute + minutes, step):
        for row in range(len(stretch.impressions)):
            n, y = (x[row].astype(np.float64) for x in stretch)
            minute += 1
            for name, rival in asked.items():
                pages = rival.step(minute - 1, n, y)
                if minute > series.drop_minute:
                    first = pages & np.isinf(seen[name])
                    seen[name][first] = minute - series.drop_minute
    return {name: float(np.sort(each)[(runs - 1) // 2]) for name, each in seen.items()}
