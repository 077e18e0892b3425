"""From when on a window has all its panes, if it was added while fairstream was running."""

from collections.abc import Iterable, Mapping

from monitor.config import WindowSpec


class Beginnings:
    """The first pane of each window. 0: from the first event on.

    Panes that no window needed are gone. A window that is added later begins with the first of its panes that
    is there as a whole: one after all that had been sealed by then, or, if another window of the same slide
    has been kept, the oldest that this one holds.
    """

    def __init__(self, windows: Iterable[WindowSpec]) -> None:
        """Windows of a new surface."""
        self._windows = list(windows)
        self._starts = dict.fromkeys(map(_key, self._windows), 0)

    def window(self, spec: WindowSpec) -> int:
        """Start of the window's first pane, in ms."""
        return self._starts[_key(spec)]

    def slide(self, slide_ms: int) -> int:
        """Start of the first pane of this slide that any window has."""
        return min(self.window(spec) for spec in self._windows if spec.slide == slide_ms)

    def restore(self, known: Mapping[str, int], sealed_ms: int, oldest: Mapping[int, int]) -> None:
        """Take what was remembered of the windows that were there before, and say where new ones begin.

        ``sealed_ms``: up to where panes had been sealed. ``oldest``: start of the oldest pane held, by slide.
        """
        for spec in self._windows:
            after_sealed = -(-sealed_ms // spec.slide) * spec.slide
            kept = any(each.slide == spec.slide and _key(each) in known for each in self._windows)
            start = oldest.get(spec.slide, after_sealed) if kept else after_sealed
            self._starts[_key(spec)] = known.get(_key(spec), start)

    @property
    def starts(self) -> dict[str, int]:
        """What to remember."""
        return dict(self._starts)


def _key(spec: WindowSpec) -> str:
    return f"{int(spec.length)}/{int(spec.slide)}"
