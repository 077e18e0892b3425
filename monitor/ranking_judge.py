"""Rules on per-request metrics: a mean over all requests of a window, held against the tolerance."""

import numpy as np

from monitor.conclusions import Finding, band, finite
from monitor.config import Config, Rule
from monitor.detectors.tolerance import ToleranceDetector, hold_against
from monitor.estimates import Ratios, t_quantile
from monitor.judge import ClosedPane, RuleJudge
from monitor.ranking_means import judged_means, viewers_needed
from monitor.requests import METRICS, ranking_measures
from monitor.slices import ALL
from monitor.suppression import hidden_slices
from monitor.verdicts import Verdict


class RankingJudge(RuleJudge):
    """One rule on one surface. Its only series has the slice ``*``; its support are requests.

    Where nearly all lists are as they should be there may be no interval: the answer is ok, with a bare mean.
    """

    def __init__(self, config: Config, rule: Rule, surface: str) -> None:
        """By the ranking of the rule's dimension."""
        super().__init__(config, rule, surface)
        ranking = next(each for each in config.rankings if each.dimension == rule.dimension)
        self._measures = ranking_measures(config, ranking)
        self._metric = METRICS.index(rule.metric)
        self._needed = viewers_needed(config, ranking)
        self._band = band(rule.tolerance)

    def look(self, closed: ClosedPane) -> list[Verdict]:
        """The verdict of a closed pane in the dimension ``*``; a pane judged before gives none."""
        if closed.end_ms <= self.last_end_ms:
            return []
        self.last_end_ms = closed.end_ms
        self.latest = [self._conclusions.conclude(closed.end_ms, self._find(closed))]
        return self.latest

    def _find(self, closed: ClosedPane) -> Finding:
        sums = closed.window.sum(axis=0, keepdims=True)[:, :, self._measures]  # zeros before any request
        support = sums[:, :, 0].sum(axis=1)
        enough = support >= self.rule.min_support
        found, seen = judged_means(sums, self._metric, self._needed, self._confidence)
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = np.log(found.upper) - np.log(found.lower)
        ratios = Ratios(*found, np.asarray(reach / 2 / t_quantile(self._confidence, sums.shape[1])))
        answer = hold_against(self._band, enough & seen, ratios)
        value, lower, upper = (each[0] for each in finite(*found))
        return Finding(
            ALL,
            int(support[0]),
            bool(enough[0]),
            bool(hidden_slices(sums[:, :, 0], self._config.limits)[0]),
            bool(np.isfinite(found.value[0])),
            int(answer.status[0]),
            ToleranceDetector.name,
            int(answer.direction[0]),
            float(answer.evidence[0]),
            value,
            lower,
            upper,
            share=None,
            reference=None,
        )
