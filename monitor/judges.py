"""All rules that judge the same panes, asked together."""

from collections.abc import Sequence

from monitor.detectors import EDetector, Together
from monitor.judge import ClosedPane, RuleJudge, Seen
from monitor.verdicts import Verdict


class Judges:
    """The rules of one surface, window and kind of snapshot."""

    def __init__(self) -> None:
        """No rules yet."""
        self.judges: list[RuleJudge] = []
        self._together = Together()

    def judge(self, closed: Sequence[ClosedPane]) -> list[Verdict]:
        """Verdicts of a closed pane, as each rule sees it."""
        seen = [judge.look(each) for judge, each in zip(self.judges, closed, strict=True)]
        bets = [
            (detector, each.block)
            for judge, each in zip(self.judges, seen, strict=True)
            if isinstance(each, Seen)
            for detector in judge.detectors
            if isinstance(detector, EDetector)
        ]
        answers = iter(self._together.update(bets))
        verdicts: list[Verdict] = []
        for judge, each in zip(self.judges, seen, strict=True):
            if isinstance(each, Seen):
                verdicts += judge.conclude(
                    each,
                    [
                        next(answers) if isinstance(x, EDetector) else x.update(each.block, each.ratios)
                        for x in judge.detectors
                    ],
                )
            else:
                verdicts += each
        return verdicts
