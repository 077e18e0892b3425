"""Baselines that move along: sliding ones, and of the same hours of past days."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from monitor.baselines import MovingBaseline
from monitor.config import BaselineReference, ConfigError, Duration, parse_config
from monitor.judge import ClosedPane, RuleJudge
from monitor.rule_memory import rule_identity
from monitor.verdicts import Direction, Outcome, Verdict

Ints = NDArray[np.int64]
HOUR_MS = 3_600_000
T = 1_700_000_000_000 // (24 * HOUR_MS) * 24 * HOUR_MS
BUCKETS = 4
NO_SUMS = np.zeros((0, BUCKETS, 3), dtype=np.int64)
"""Baselines do not look at the sums of the time itself."""
SLICES = ["a", "b", "c"]


def hours(count: int) -> Duration:
    """Return so many hours."""
    return Duration(count * HOUR_MS)


def document(**baseline: Any) -> str:
    """Return a configuration with one rule on windows of two hours."""
    rule = {
        "name": "r",
        "metric": "impression_share",
        "dimension": "item.tone",
        "window": "2h",
        "compare": "reference",
        "reference": {"baseline": baseline},
    }
    return yaml.safe_dump(
        {
            "surfaces": ["home"],
            "windows": [{"length": "2h", "slide": "1h"}],
            "attributes": {"item": {"tone": {}}},
            "time": {"pane": "1h"},
            "limits": {"buckets": BUCKETS, "suppress_below": 0, "min_viewers": 0},
            "rules": [rule],
        }
    )


def a_judge(**baseline: Any) -> RuleJudge:
    """Return the judge of that rule."""
    config = parse_config(document(**baseline))
    return RuleJudge(config, config.rules[0], "home")


def judged(judge: RuleJudge, shares: list[float], first_hour: int = 0) -> list[Verdict]:
    """Return the verdicts on slice `a`, whose share in each hour is given; windows hold two hours."""
    found, before = [], None
    for hour, share in enumerate(shares, first_hour):
        counts = [round(4_000 * share), 4_000 - round(4_000 * share)]
        pane = np.zeros((2, BUCKETS, 3), dtype=np.int64)
        pane[:, :, 0] = np.array(counts)[:, None] // BUCKETS
        window = pane if before is None else pane + before
        start_ms = T + hour * HOUR_MS
        verdicts = judge.judge(ClosedPane(start_ms, start_ms + HOUR_MS, ["a", "b"], pane, window))
        found += [verdict for verdict in verdicts if verdict.slice_ == "a"]
        before = pane
    return found


def by_day(hour: int) -> float:
    """Return a share that is 0.6 by day and 0.3 by night."""
    return 0.6 if 8 <= hour % 24 < 20 else 0.3


# ---------------------------------------------------------------- what they take


@pytest.mark.parametrize(
    "spec",
    [
        BaselineReference(sliding=hours(4), lag=hours(3), bin=hours(2)),
        BaselineReference(sliding=hours(3), lag=hours(2), bin=hours(1)),
        BaselineReference(every=hours(6), periods=2, bin=hours(2)),
        BaselineReference(every=hours(4), periods=3, bin=hours(1)),
    ],
)
@given(data=st.data())
def test_the_reference_is_the_sum_of_the_right_panes(spec: BaselineReference, data: st.DataObject) -> None:
    """Against a list of all panes, pane by pane, some of them missing, with restarts in between."""
    window = hours(2)
    moving, kept = MovingBaseline(spec, window, BUCKETS), dict[int, bytes]()
    panes: list[tuple[int, Ints]] = []
    for hour in sorted(data.draw(st.sets(st.integers(0, 40), min_size=1))):
        sums = np.array(data.draw(st.lists(st.integers(0, 3), min_size=12, max_size=12))).reshape(3, BUCKETS)
        moving.observe(SLICES, sums, hour * HOUR_MS, (hour + 1) * HOUR_MS)
        panes.append((hour, sums))
        filled, dropped = moving.changes()
        kept |= filled
        for start in dropped:
            kept.pop(start, None)
        if data.draw(st.booleans()):
            dump, moving = moving.dump(), MovingBaseline(spec, window, BUCKETS)
            moving.restore(dump)
            moving.take_bins(kept.items())
        found = moving.of(SLICES, NO_SUMS)
        expected = plain_reference(spec, panes)
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            assert found.part.tolist() == expected.tolist()
            assert found.whole.tolist() == expected.sum(axis=0).tolist()
            assert set(moving.names()) == {s for s, row in zip(SLICES, expected, strict=True) if row.any()}


def plain_reference(spec: BaselineReference, panes: list[tuple[int, Ints]]) -> Ints | None:
    """Return the sums (S, B) that the last of the panes is held against, looked up hour by hour."""
    end = panes[-1][0] + 1
    bin_ = spec.bin // HOUR_MS
    if spec.sliding is not None:
        last = (end - spec.lag // HOUR_MS) // bin_ * bin_
        wanted = set(range(last - spec.sliding // HOUR_MS, last))
    else:
        every = (spec.every or 0) // HOUR_MS
        now = {hour // bin_ for hour in range(end - 2, end)}
        own = {number * bin_ + step for number in now for step in range(bin_)}
        wanted = {hour - back * every for hour in own for back in range(1, spec.periods + 1)}
    begun = [hour for hour, sums in panes if sums.any()]
    if not begun or min(wanted) < begun[0]:
        return None
    rows = [sums for hour, sums in panes if hour in wanted]
    total: Ints = np.sum(rows, axis=0) if rows else np.zeros((3, BUCKETS), dtype=np.int64)
    return total if total.any() else None


# ---------------------------------------------------------------- what they are for


def test_a_daily_cycle_is_no_disparity_to_the_same_hours_of_past_days() -> None:
    """A frozen baseline calls every night a breach; this one is silent, and sees a drop within the cycle."""
    shares = [by_day(hour) for hour in range(24 * 8)]
    frozen = judged(a_judge(first="1d"), shares)
    assert any(verdict.verdict is Outcome.BREACH for verdict in frozen)
    judge = a_judge(every="1d", periods=3)
    seasonal = judged(judge, shares)
    assert {verdict.verdict for verdict in seasonal[: 3 * 24]} == {Outcome.INSUFFICIENT}
    assert {verdict.verdict for verdict in seasonal[4 * 24 :]} == {Outcome.OK}
    dropped = judged(judge, [0.6 * by_day(hour) for hour in range(24)], first_hour=len(shares))
    assert {(v.verdict, v.direction) for v in dropped[2:]} == {(Outcome.BREACH, Direction.LOW)}


def test_a_pane_is_held_against_its_own_hours() -> None:
    """Not against those of the whole window: detectors would take the cycle inside of it for a change."""
    moving = MovingBaseline(BaselineReference(every=hours(24), periods=2), hours(12), BUCKETS)
    for hour in range(24 * 3 + 14):
        sums = np.full((2, BUCKETS), [[round(100 * by_day(hour))], [100 - round(100 * by_day(hour))]])
        moving.observe(["a", "b"], sums, hour * HOUR_MS, (hour + 1) * HOUR_MS)
    window, pane = moving.of(["a", "b"], NO_SUMS), moving.of_pane(["a", "b"], NO_SUMS, HOUR_MS)
    assert window is not None
    assert window.shares == pytest.approx([0.45, 0.55])
    assert pane.shares == pytest.approx([0.6, 0.4])
    assert np.isnan(
        MovingBaseline(BaselineReference(every=hours(24)), hours(12), BUCKETS)
        .of_pane(["a"], NO_SUMS, 1)
        .shares
    )


def test_frozen_baselines_keep_the_identity_that_they_had() -> None:
    """Rules from before there were moving ones forget nothing."""
    config = parse_config(document(first="1d"))
    frozen = (
        '"reference",null,{"targets":null,"uniform":false,"baseline":{"first":"24h","start":null,"end":null,'
    )
    assert frozen + '"relearn":""}}' in rule_identity(config, config.rules[0])


def test_what_lasts_enters_a_sliding_baseline() -> None:
    """A drop is a breach until lag and stretch have passed: then it is what shares are."""
    judge = a_judge(sliding="12h", lag="6h")
    verdicts = [v.verdict for v in judged(judge, [0.5] * 24 + [0.3] * 30)]
    assert verdicts[:17] == [Outcome.INSUFFICIENT] * 17
    assert verdicts[18:24] == [Outcome.OK] * 6
    assert verdicts[26:34] == [Outcome.BREACH] * 8
    assert verdicts[-12:] == [Outcome.OK] * 12


def test_another_stretch_uses_the_bins_that_there_are() -> None:
    """Only `relearn`, other bins or another measure begin anew; a longer stretch waits for what it lacks."""
    judge = a_judge(sliding="4h", lag="2h")
    judged(judge, [0.5] * 24)
    assert judge.moving is not None
    kept = judge.moving.changes()[0]
    for changed, there in (
        ({"sliding": "4h", "lag": "2h"}, True),
        ({"sliding": "3h", "lag": "3h"}, True),
        ({"sliding": "8h", "lag": "2h"}, False),
        ({"sliding": "4h", "lag": "2h", "relearn": "now"}, False),
        ({"sliding": "4h", "lag": "2h", "bin": "2h"}, False),
    ):
        other = a_judge(**changed)
        other.restore(judge.dump())
        assert other.moving is not None
        other.moving.take_bins(kept.items())
        assert (other.shares_of(["a"], NO_SUMS) is not None) == there, changed


# ---------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("baseline", "field", "right"),
    [
        ({"sliding": "7d", "first": "1d"}, "", "one of"),
        ({"sliding": "7d", "every": "1d"}, "", "one of"),
        ({}, "", "one of"),
        ({"start": "2023-11-14T22:00:00Z"}, "", "one of"),
        ({"sliding": "7d", "lag": "1h"}, ".lag", "at least 2h"),
        ({"sliding": "90m", "lag": "2h"}, ".sliding", "1h, 2h"),
        ({"sliding": "7d", "bin": "90m"}, ".bin", "such as 1h"),
        ({"sliding": "7d", "bin": "0s"}, ".bin", "such as 1h"),
        ({"every": "2h"}, ".every", "at least 3h"),
        ({"every": "1d", "bin": "5h"}, ".every", "5h, 10h"),
        ({"every": "1d", "periods": 0}, ".periods", ">= 1"),
        ({"every": "1d", "of": 7}, ".of", "periods"),
    ],
)
def test_a_bad_baseline_is_told_precisely(baseline: dict[str, Any], field: str, right: str) -> None:
    """A window must not be its own reference, and bins are whole."""
    with pytest.raises(ConfigError) as caught:
        parse_config(document(**baseline), "fair.yaml")
    [problem] = caught.value.problems
    assert problem.field == f"rules[0].reference.baseline{field}"
    assert right in str(problem)
