"""One surface watched: snapshots and progress in, verdicts out, state in a store."""

from collections import Counter
from collections.abc import Iterator, Sequence

from monitor.config import Config
from monitor.judge import ClosedPane, RuleJudge
from monitor.judges import Judges
from monitor.progress import Progress
from monitor.ranking_judge import RankingJudge
from monitor.raw_snapshots import Applied
from monitor.rules import judged_dimension, rules_of, strata_of, window_of
from monitor.snapshots import Kind, PaneSnapshot
from monitor.store import Store
from monitor.strata import by_stratum
from monitor.sums import Ints, Sums
from monitor.surface import SurfacePanes
from monitor.verdicts import Outcome, Verdict
from monitor.windows import Pane, SlidingWindow


class SurfaceWatch:
    """Panes, windows and rules of one surface. Deterministic: no clock, no input but its arguments."""

    def __init__(self, config: Config, surface: str, store: Store) -> None:
        """Bring back what the store remembers."""
        self.surface = surface
        self.panes = SurfacePanes(config, surface, store)
        self.judges = [
            (RankingJudge if rule.metric.of_requests else RuleJudge)(config, rule, surface)
            for rule in rules_of(config, surface)
        ]
        self.outcomes: Counter[Outcome] = Counter()
        self.panes_sealed = 0
        self._config = config
        self._store = store
        self.by_window: dict[tuple[str, Kind], Judges] = {}
        """Those that judge the same panes: of a window and a kind."""
        for judge in self.judges:
            kind = Kind.ENGAGEMENTS if judge.rule.metric.counts_engagements else Kind.IMPRESSIONS
            same = self.by_window.setdefault((window_of(config, judge.rule).name, kind), Judges())
            same.judges.append(judge)
        self._load()

    def _load(self) -> None:
        """Panes and rules as remembered. A rule that is new or has changed begins where the others stand.

        It is remembered at once, so that it is not taken for new after a crash.
        """
        self.panes.load()
        memory = {key: value for key, value in self._store.items() if key.startswith(f"rule|{self.surface}|")}
        bins = {key: value for key, value in self._store.items() if key.startswith(f"bin|{self.surface}|")}
        fresh = []
        for judge in self.judges:
            data = memory.pop(self._rule_key(judge), None)
            if data is None or not judge.restore(data):
                fresh.append(judge)
        stands_ms = max((judge.last_end_ms for judge in self.judges), default=0)
        for judge in fresh:
            judge.last_end_ms = stands_ms - stands_ms % window_of(self._config, judge.rule).slide
            self._store.put(self._rule_key(judge), judge.dump())
        for judge in self.judges:
            self._take_bins(judge, bins)
        for key in [*memory, *bins]:  # of rules that are gone, and bins that nobody takes
            self._store.delete(key)

    def _take_bins(self, judge: RuleJudge, bins: dict[str, bytes]) -> None:
        """Give a moving baseline its bins out of those that were kept."""
        if judge.moving is not None:
            prefix = f"{self._bin_key(judge)}|"
            mine = {int(key.removeprefix(prefix)): key for key in bins if key.startswith(prefix)}
            judge.moving.take_bins((start, bins[key]) for start, key in mine.items())
            for start in judge.moving.bins:
                del bins[mine[start]]

    def _bin_key(self, judge: RuleJudge) -> str:
        return f"bin|{self.surface}|{judge.rule.name}"

    def _rule_key(self, judge: RuleJudge) -> str:
        return f"rule|{self.surface}|{judge.rule.name}"

    def apply(self, kind: Kind, snapshots: Sequence[tuple[int, PaneSnapshot]]) -> list[Applied]:
        """Take snapshots, each with the number of its source partition; what became of each."""
        return self.panes.apply(kind, snapshots)

    def advance(self, progress: Progress) -> list[Verdict]:
        """Let event time move: judge every pane that has closed.

        The caller publishes the verdicts, then calls :meth:`remember`. Panes that can no longer
        change are sealed, and what no window needs is forgotten, first: with the windows where
        they were remembered, so that after a crash every pane can be judged again.
        """
        self.panes_sealed += self.panes.seal(progress)
        self.panes.show_through(progress)
        verdicts: list[Verdict] = []
        for view in self.panes.views:
            for kind, window in ((Kind.IMPRESSIONS, view.closed), (Kind.ENGAGEMENTS, view.matured)):
                if window is None:
                    continue
                judges = self.by_window.get((view.spec.name, kind))
                through = window.series.start(progress.complete_through(kind))
                if judges is not None:
                    for end_ms in self._closing(window, judges.judges, through):
                        verdicts += judges.judge([self._closed(window, j, end_ms) for j in judges.judges])
                else:
                    window.advance(through)
        self.outcomes.update(verdict.verdict for verdict in verdicts)
        return verdicts

    def remember(self) -> None:
        """Save each rule's last pane and detectors together; after the verdicts are published.

        Before it what its baseline has put into bins of their own: a crash in between fills them again.
        """
        for judge in self.judges:
            if judge.last_end_ms:
                filled, dropped = judge.moving.changes() if judge.moving is not None else ({}, [])
                for start, data in filled.items():
                    self._store.put(f"{self._bin_key(judge)}|{start}", data)
                self._store.put(self._rule_key(judge), judge.dump())
                for start in dropped:
                    self._store.delete(f"{self._bin_key(judge)}|{start}")

    def _closing(self, window: SlidingWindow, judges: list[RuleJudge], through: int) -> Iterator[int]:
        """Ends of the panes that closed since the last call, in order, the window moved to each.

        Long stretches without data are passed over.
        """
        series, slide = window.series, window.series.slide_ms
        end = max(window.end_ms, min(judge.last_end_ms for judge in judges))
        window.advance(end)  # after a restart: to where it was
        if end == 0:
            end = min((start for start, pane in series.panes.items() if self._shown(pane)), default=through)
        while end + slide <= through:
            end += slide
            window.advance(end)
            yield end
            if window.empty:
                coming = min((start for start in series.panes if start >= end), default=through)
                end = max(end, min(coming, through - slide))

    def _shown(self, pane: Pane) -> bool:
        """Whether a pane has impressions. Judging begins with the first that has, whatever came first.

        An engagement may be of an impression from before the log, and be heard of sooner or later.
        """
        return any(sums.flat[:: self.panes.layout.measures].any() for sums in pane.slices)

    def _closed(self, window: SlidingWindow, judge: RuleJudge, end_ms: int) -> ClosedPane:
        projections, layout = self.panes.projections, self.panes.layout
        dimension, strata = judged_dimension(judge.rule), strata_of(judge.rule)
        slices = projections.slices(dimension)
        start_ms = end_ms - window.series.slide_ms
        held = window.series.panes.get(start_ms)

        def pane(of: str) -> Ints:
            sums = held.slices[projections.places[of]] if held is not None else Sums()
            return sums.array(len(projections.slices(of)), layout)

        inside = None
        if strata is not None:
            parts = strata.count("*") - dimension.count("*")
            inside = by_stratum(slices, projections.slices(strata), pane(strata), parts)
        total = window.totals[projections.places[dimension]].array(len(slices), layout)
        return ClosedPane(start_ms, end_ms, slices, pane(dimension), total, inside)
