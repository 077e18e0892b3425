"""One surface in the monitor: its panes merged over source partitions, and its sliding windows.

Raw snapshots live until their pane can no longer change (it is *sealed*: closed in every
partition, and the correction horizon has passed). Then the pane is kept merged, once; and
when all panes of a coarser slide are sealed, the coarse pane replaces them.
"""

from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from monitor.beginnings import Beginnings
from monitor.cells import cell_attributes, other_cell
from monitor.config import Config, Duration, WindowSpec, meaning_sha256
from monitor.partition import pane_clock
from monitor.progress import Progress
from monitor.raw_snapshots import Applied, RawKey, RawSnapshots
from monitor.requests import ITEM_MEASURES, impression_measures
from monitor.rules import summed_dimensions
from monitor.slices import Projections
from monitor.snapshots import STORED_VERSION, Kind, PaneSnapshot, check_version
from monitor.store import Store, decode_sums, encode_sums, spread
from monitor.sums import CellRows, Ints, Layout, Sparse, difference
from monitor.windows import PaneSeries, SlidingWindow


class WindowViews(NamedTuple):
    """The running windows of one window specification."""

    spec: WindowSpec
    live: SlidingWindow
    """Up to and with the pane that is filling; for panels."""
    closed: SlidingWindow
    """Closed panes only; exposure rules are judged on it."""
    matured: SlidingWindow | None
    """Panes whose attribution window is over; engagement is judged on it."""


def measure_places(config: Config) -> dict[Kind, Ints]:
    """Which measures of the layout those of each kind of snapshot are: rankings stand behind the actions."""
    actions = len(config.engagement.actions)
    place = np.arange(impression_measures(config) + actions)
    engaged = place[ITEM_MEASURES : ITEM_MEASURES + actions]
    return {Kind.IMPRESSIONS: np.setdiff1d(place, engaged), Kind.ENGAGEMENTS: engaged}


class SurfacePanes:
    """Panes and windows of one surface."""

    def __init__(self, config: Config, surface: str, store: Store) -> None:
        """Empty; :meth:`load` brings back what the store remembers."""
        self.surface = surface
        self._places = measure_places(config)
        self.layout = Layout(config.limits.buckets, sum(map(len, self._places.values())))
        self.rows = CellRows(4 * config.limits.max_cells, other_cell(config))
        self.attributes = cell_attributes(config)
        self.sealed_through = dict.fromkeys(Kind, 0)
        self.beginnings = Beginnings(config.windows)
        self._config = config
        self._store = store
        self._meaning = meaning_sha256(config)
        self._kinds = [Kind.IMPRESSIONS, *([Kind.ENGAGEMENTS] if config.engagement.actions else [])]
        dimensions = summed_dimensions(config, surface)
        self.projections = Projections(
            dimensions, self.attributes, self.rows, self.layout, config.limits.max_series
        )
        self._raw = RawSnapshots(surface, store, self._meaning)
        self._base = {kind: PaneSeries(pane_clock(config, kind).pane_ms, 0) for kind in self._kinds}
        self._levels = {spec.slide: PaneSeries(spec.slide, len(dimensions)) for spec in config.windows}
        self._complete: set[tuple[int, int]] = set()  # (slide, start) of coarse panes in the store
        self._chunks: dict[str, int] = {}  # records that hold the sums under a key
        self.views = [self._views(spec) for spec in config.windows]

    def _views(self, spec: WindowSpec) -> WindowViews:
        series = self._levels[spec.slide]
        return WindowViews(
            spec,
            SlidingWindow(series, spec.length),
            SlidingWindow(series, spec.length),
            SlidingWindow(series, spec.length) if self._takes(spec.slide, Kind.ENGAGEMENTS) else None,
        )

    def _takes(self, slide_ms: int, kind: Kind) -> bool:
        """Whether panes of the kind fit into panes of this slide."""
        return kind in self._base and slide_ms % self._base[kind].slide_ms == 0

    # --- snapshots in ------------------------------------------------------------------

    def apply(self, kind: Kind, snapshots: Iterable[tuple[int, PaneSnapshot]]) -> list[Applied]:
        """Take snapshots, each with its source partition: store them, and correct panes and windows.

        Those of one pane correct it together: numpy's calls cost no less for few entries.
        """
        fresh: dict[int, dict[RawKey, PaneSnapshot]] = {}
        applied = []
        for partition, snapshot in snapshots:
            start = snapshot.pane_start_ms
            if kind not in self._base or self._is_sealed(kind, start):
                applied.append(Applied.SEALED)
                continue
            key = (kind, partition, start, snapshot.part)
            applied.append(self._raw.take(key, snapshot))
            if applied[-1] is Applied.APPLIED:
                fresh.setdefault(start, {})[key] = snapshot
        for start, of_pane in fresh.items():
            self._hold(kind, start, of_pane)
        return applied

    def _hold(self, kind: Kind, start: int, snapshots: Mapping[RawKey, PaneSnapshot]) -> None:
        """Put snapshots of one pane into the panes of all series that take it."""
        places = self._places[kind]
        self._replace(
            kind,
            start,
            {
                key: spread(each.cells, each.index, each.values, self.rows, self.layout, places)
                for key, each in snapshots.items()
            },
        )

    def _replace(self, kind: Kind, start: int, parts: Mapping[Hashable, Sparse]) -> None:
        """Set parts of one pane in all series that take it; they all hold the same ones."""
        change = self.projections.project(difference(parts.values(), self._base[kind].held(start, parts)))
        for series in self._series_of(kind, start):
            series.replace(start, parts, change)

    def _series_of(self, kind: Kind, start_ms: int) -> list[PaneSeries]:
        """The base panes of the kind, and every coarser level that is not complete at that time."""
        coarser = [
            series
            for slide, series in self._levels.items()
            if self._takes(slide, kind)
            and (slide, series.start(start_ms)) not in self._complete
            and series.start(start_ms) >= self.beginnings.slide(slide)
        ]
        return [self._base[kind], *coarser]

    # --- time moves on -----------------------------------------------------------------

    def show_through(self, progress: Progress) -> None:
        """Move the live windows to what event time allows."""
        watermark = progress.watermark_ms(Kind.IMPRESSIONS)
        for view in self.views:
            if watermark:
                view.live.advance(watermark - watermark % view.spec.slide + view.spec.slide)

    def seal(self, progress: Progress) -> int:
        """Merge panes that can no longer change, and forget what no window needs. Returns panes sealed."""
        horizon = self._config.time.correction_horizon
        sealed = 0
        for kind in self._kinds:
            base = self._base[kind]
            through = progress.complete_through(kind) - horizon
            through -= through % base.slide_ms
            if through > self.sealed_through[kind]:
                sealed += self._seal_base(kind, through)
        if sealed:
            self._seal_levels()
            self._forget()
        return sealed

    def _seal_base(self, kind: Kind, through: int) -> int:
        base = self._base[kind]
        ripe = sorted(s for s in base.panes if self.sealed_through[kind] < s + base.slide_ms <= through)
        for start in ripe:
            merged = base.panes[start].entries()
            keys = list(base.panes[start].parts)
            for series in self._series_of(kind, start):
                series.fold(start, keys, (kind, start), merged)
            self._write_sums(f"base|{self.surface}|{kind}|{start}", merged)
        self.sealed_through[kind] = through
        state = {k.value: v for k, v in self.sealed_through.items()}
        self._remember("sealed", state)
        self._raw.forget(kind, through)
        return len(ripe)

    def _write_sums(self, key: str, entries: Sparse) -> None:
        chunks = encode_sums(entries, self.rows, self.layout, self._meaning)
        self._chunks[key] = len(chunks)
        for chunk, data in enumerate(chunks):
            self._store.put(f"{key}|{chunk}", data)

    def _seal_levels(self) -> None:
        for slide, series in self._levels.items():
            through = min(self.sealed_through[kind] for kind in self._kinds if self._takes(slide, kind))
            for start in sorted(series.panes):
                if start + slide <= through and (slide, start) not in self._complete:
                    pane = series.panes[start]
                    merged = pane.entries()
                    series.fold(start, list(pane.parts), slide, merged)
                    self._write_sums(f"level|{self.surface}|{int(slide)}|{start}", merged)
                    self._complete.add((slide, start))

    def _forget(self) -> None:
        """Drop base panes that every coarser level has taken over, and coarse panes no window holds."""
        for kind, base in self._base.items():
            needed = [
                self._first_incomplete(series)
                for slide, series in self._levels.items()
                if self._takes(slide, kind)
            ]
            before = min([self.sealed_through[kind], *needed])
            for start in base.drop_before(before - before % base.slide_ms):
                self._delete_sums(f"base|{self.surface}|{kind}|{start}")
        for slide, series in self._levels.items():
            oldest = min(window.span.start_ms for window in series.windows)
            for start in series.drop_before(min(oldest, self._first_incomplete(series))):
                self._complete.discard((slide, start))
                self._delete_sums(f"level|{self.surface}|{int(slide)}|{start}")

    def _first_incomplete(self, series: PaneSeries) -> int:
        slide = series.slide_ms
        waiting = [start for start in series.panes if (slide, start) not in self._complete]
        return min(waiting, default=1 << 62)

    def _delete_sums(self, key: str) -> None:
        for chunk in range(self._chunks.pop(key, 0)):
            self._store.delete(f"{key}|{chunk}")

    # --- restart -----------------------------------------------------------------------

    def load(self) -> None:
        """Bring back what the store remembers of this surface; drop what has another meaning."""
        sums: dict[str, list[tuple[str, bytes]]] = {}
        raws: list[tuple[str, bytes]] = []
        begun: dict[str, int] | None = None
        for key, value in self._store.items():
            what, surface, *_ = key.split("|")
            if surface != self.surface:
                continue
            if what in ("base", "level"):
                sums.setdefault(key.rpartition("|")[0], []).append((key, value))
            elif what == "raw":
                raws.append((key, value))
            elif what == "sealed":
                state = self._own(value)
                self.sealed_through.update({Kind(k): v for k, v in state.items() if Kind(k) in self._kinds})
            elif what == "begun":
                begun = self._own(value)
        self._begin(begun, list(sums))
        for key in sorted(sums, reverse=True):  # "level" before "base": complete levels take no base panes
            self._load_sums(key, sums[key])
        for raw_key, snapshot in self._raw.load(
            raws, {kind: self.sealed_through[kind] for kind in self._kinds}
        ):
            self._hold(raw_key[0], snapshot.pane_start_ms, {raw_key: snapshot})

    def _remember(self, what: str, state: dict[str, int]) -> None:
        """Store a mark, with its meaning."""
        mark = (STORED_VERSION, self._meaning, state)
        self._store.put(f"{what}|{self.surface}", msgspec.msgpack.encode(mark))

    def _own(self, value: bytes) -> dict[str, int]:
        """A remembered mark; empty if it has another meaning."""
        version, meaning, state = msgspec.msgpack.decode(value)
        check_version(version)
        found: dict[str, int] = state if meaning == self._meaning else {}
        return found

    def _begin(self, begun: dict[str, int] | None, keys: list[str]) -> None:
        """Say where windows begin that were not there before, and remember it."""
        oldest: dict[int, int] = {}
        for what, _, slide, start in (key.split("|") for key in keys):
            if what == "level":
                oldest[int(slide)] = min(int(start), oldest.get(int(slide), int(start)))
        if begun is not None:
            self.beginnings.restore(begun, max(self.sealed_through.values()), oldest)
        for view in self.views:
            for window in (view.live, view.closed, *([view.matured] if view.matured else [])):
                window.begin_ms = self.beginnings.window(view.spec)
        if begun != self.beginnings.starts:
            self._remember("begun", self.beginnings.starts)

    def _load_sums(self, key: str, chunks: list[tuple[str, bytes]]) -> None:
        what, _, series_name, start_text = key.split("|")
        start = int(start_text)
        entries = decode_sums([value for _, value in chunks], self.rows, self.layout, self._meaning)
        known = (
            series_name in self._kinds and self._is_sealed(Kind(series_name), start)
            if what == "base"
            else int(series_name) in self._levels and start >= self.beginnings.slide(int(series_name))
        )
        if entries is None or not known:
            for name, _ in chunks:
                self._store.delete(name)
            return
        self._chunks[key] = len(chunks)
        if what == "level":
            slide = Duration(int(series_name))
            self._levels[slide].replace(start, {slide: entries}, self.projections.project(entries))
            self._complete.add((slide, start))
        else:
            self._replace(Kind(series_name), start, {(Kind(series_name), start): entries})

    def _is_sealed(self, kind: Kind, start_ms: int) -> bool:
        """Whether a base pane of the kind can no longer change."""
        return start_ms + self._base[kind].slide_ms <= self.sealed_through[kind]
