"""Sliding windows by running sums: add a pane when the window reaches it, subtract it when it leaves."""

from typing import NamedTuple

from monitor.sums import EMPTY, Sparse, Sums


class Window(NamedTuple):
    """A stretch of event time, half-open, aligned to the epoch."""

    start_ms: int
    end_ms: int


class PaneSeries:
    """The panes of one slide length, merged over source partitions, for one surface.

    Panes may still be corrected while they are held; every running window over the series
    is corrected with them.
    """

    def __init__(self, slide_ms: int) -> None:
        """No panes."""
        self.slide_ms = slide_ms
        self.panes: dict[int, Sums | Sparse] = {}
        self.windows: list[SlidingWindow] = []

    def start(self, ts_ms: int) -> int:
        """Start of the pane that holds a time."""
        return ts_ms - ts_ms % self.slide_ms

    def correct(self, ts_ms: int, entries: Sparse, sign: int = 1) -> None:
        """Add entries (or take them away) at a time, in the pane and in every window that holds it."""
        start = self.start(ts_ms)
        pane = self.panes.get(start)
        if not isinstance(pane, Sums):
            packed = pane
            pane = self.panes[start] = Sums()
            if packed is not None:
                pane.add(packed)
        pane.add(entries, sign)
        for window in self.windows:
            if window.holds(start):
                window.total.add(entries, sign)

    def entries(self, start_ms: int) -> Sparse:
        """The pane that starts at a time; empty if there is none."""
        pane = self.panes.get(start_ms)
        if pane is None:
            return EMPTY
        return pane.sparse() if isinstance(pane, Sums) else pane

    def pack(self, start_ms: int) -> None:
        """Keep a pane that will hardly change in its small form."""
        if start_ms in self.panes:
            self.panes[start_ms] = self.entries(start_ms)

    def drop_before(self, start_ms: int) -> list[int]:
        """Forget panes that start before a time; no window may hold them. Returns their starts."""
        gone = [start for start in self.panes if start < start_ms]
        for start in gone:
            del self.panes[start]
        return gone


class SlidingWindow:
    """A running sum over the panes in (end - length, end]."""

    def __init__(self, series: PaneSeries, length_ms: int) -> None:
        """An empty window at time 0 over the series."""
        self.series = series
        self.length_ms = length_ms
        self.end_ms = 0
        self.total = Sums()
        series.windows.append(self)

    @property
    def span(self) -> Window:
        """What the window covers now."""
        return Window(self.end_ms - self.length_ms, self.end_ms)

    def holds(self, pane_start_ms: int) -> bool:
        """Whether a pane is inside."""
        return self.end_ms - self.length_ms <= pane_start_ms < self.end_ms

    def advance(self, end_ms: int) -> None:
        """Move the end forward; a smaller or equal end changes nothing."""
        if end_ms <= self.end_ms:
            return
        before, after = self.end_ms, end_ms
        for start, pane in self.series.panes.items():
            was = before - self.length_ms <= start < before
            will = after - self.length_ms <= start < after
            if was != will:
                sign = 1 if will else -1
                if isinstance(pane, Sums):
                    self.total.add_sums(pane, sign)
                else:
                    self.total.add(pane, sign)
        self.end_ms = end_ms
