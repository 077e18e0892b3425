"""Panes of one slide length and the sliding windows over them, by running sums.

A pane keeps its sums per cell, in the parts that it was given; and, summed over cells, per
slice of every watched dimension. Windows hold slices only: they add a pane when they reach
it, subtract it when it leaves, and follow every correction.
"""

from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple

from monitor.sums import Sparse, Sums, difference


class Window(NamedTuple):
    """A stretch of event time, half-open, aligned to the epoch."""

    start_ms: int
    end_ms: int


class Pane:
    """One pane, merged over source partitions."""

    def __init__(self, dimensions: int) -> None:
        """Empty."""
        self.parts: dict[Hashable, Sparse] = {}
        """What was summed over (cell, bucket, measure), by who gave it; a part is replaced as a whole."""
        self.slices = [Sums() for _ in range(dimensions)]
        """Sums over (slice, bucket, measure), for each dimension."""

    def entries(self) -> Sparse:
        """All parts merged."""
        return difference(self.parts.values(), [])


class PaneSeries:
    """The panes of one slide length of one surface."""

    def __init__(self, slide_ms: int, dimensions: int) -> None:
        """No panes. With 0 dimensions, panes keep cells only."""
        self.slide_ms = slide_ms
        self.dimensions = dimensions
        self.panes: dict[int, Pane] = {}
        self.windows: list[SlidingWindow] = []

    def start(self, ts_ms: int) -> int:
        """Start of the pane that holds a time."""
        return ts_ms - ts_ms % self.slide_ms

    def pane(self, start_ms: int) -> Pane:
        """The pane that starts at a time, made if need be."""
        pane = self.panes.get(start_ms)
        if pane is None:
            pane = self.panes[start_ms] = Pane(self.dimensions)
        return pane

    def between(self, start_ms: int, end_ms: int) -> list[Pane]:
        """Panes that start in [start, end), both aligned; whichever is quicker: step through, or search."""
        steps = range(start_ms, end_ms, self.slide_ms)
        if len(steps) < len(self.panes):
            return [self.panes[start] for start in steps if start in self.panes]
        return [pane for start, pane in self.panes.items() if start_ms <= start < end_ms]

    def held(self, ts_ms: int, keys: Iterable[Hashable]) -> list[Sparse]:
        """What the pane at a time holds under some keys."""
        pane = self.panes.get(self.start(ts_ms))
        return [] if pane is None else [pane.parts[key] for key in keys if key in pane.parts]

    def replace(self, ts_ms: int, parts: Mapping[Hashable, Sparse], change: list[Sparse]) -> None:
        """Set parts of the pane at a time; the windows that hold the pane follow.

        ``change`` is what they add to those that they replace: over (slice, bucket, measure), for each
        dimension.
        """
        start = self.start(ts_ms)
        pane = self.pane(start)
        pane.parts.update(parts)
        if self.dimensions:
            totals = [window.totals for window in self.windows if window.holds(start)]
            for sums in (pane.slices, *totals):
                for of_dimension, added in zip(sums, change, strict=True):
                    of_dimension.add(added)

    def fold(self, ts_ms: int, keys: list[Hashable], key: Hashable, merged: Sparse) -> None:
        """Hold the parts under ``keys`` as one that is their sum and is not replaced any more."""
        pane = self.pane(self.start(ts_ms))
        for each in keys:
            pane.parts.pop(each, None)
        pane.parts[key] = merged

    def drop_before(self, start_ms: int) -> list[int]:
        """Forget panes that start before a time; no window may hold them. Returns their starts."""
        gone = [start for start in self.panes if start < start_ms]
        for start in gone:
            del self.panes[start]
        return gone


class SlidingWindow:
    """Running sums over the panes in (end - length, end]."""

    def __init__(self, series: PaneSeries, length_ms: int) -> None:
        """An empty window at time 0 over the series."""
        self.series = series
        self.length_ms = length_ms
        self.begin_ms = 0
        """Panes before it are left out; set before the first move."""
        self.end_ms = 0
        self.totals = [Sums() for _ in range(series.dimensions)]
        series.windows.append(self)

    @property
    def span(self) -> Window:
        """What the window covers now."""
        return self._until(self.end_ms)

    def _until(self, end_ms: int) -> Window:
        return Window(min(max(end_ms - self.length_ms, self.begin_ms), end_ms), end_ms)

    def holds(self, pane_start_ms: int) -> bool:
        """Whether a pane is inside."""
        return self.span.start_ms <= pane_start_ms < self.end_ms

    @property
    def empty(self) -> bool:
        """Whether the window holds nothing."""
        return not self.series.between(*self.span)

    def advance(self, end_ms: int) -> None:
        """Move the end forward; a smaller or equal end changes nothing."""
        if end_ms <= self.end_ms:
            return
        before, start_ms = self.span, self._until(end_ms).start_ms
        self._add(self.series.between(before.start_ms, min(before.end_ms, start_ms)), -1)
        self._add(self.series.between(max(before.end_ms, start_ms), end_ms), 1)
        self.end_ms = end_ms

    def _add(self, panes: list[Pane], sign: int) -> None:
        for pane in panes:
            for total, sums in zip(self.totals, pane.slices, strict=True):
                total.add_sums(sums, sign)
