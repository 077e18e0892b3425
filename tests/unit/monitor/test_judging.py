"""Rules on closed panes: references, baselines, too little data, and what a verdict says."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from monitor.config import Config, ConfigError, parse_config
from monitor.estimates import t_quantile
from monitor.judge import ClosedPane, RuleJudge
from monitor.verdicts import Direction, Outcome, UnknownVersionError, Verdict, decode_verdict, encode_verdict
from tests.support.core import Feed

Ints = NDArray[np.int64]
BUCKETS = 8
HOUR_MS = 3_600_000
T = 1_700_000_000_000 // HOUR_MS * HOUR_MS


def a_config(**rule: Any) -> Config:
    """Return a configuration with one rule."""
    chosen = {
        "name": "r",
        "metric": "impression_share",
        "dimension": "item.tone",
        "window": "4h",
        "compare": "reference",
        "min_support": 50,
        **rule,
    }
    return parse_config(
        yaml.safe_dump(
            {
                "surfaces": ["home"],
                "windows": [{"length": "4h", "slide": "1h"}],
                "attributes": {"item": {"tone": {}, "hair": {"values": ["straight", "curly"]}}},
                "time": {"pane": "1h"},
                "exposure": {"curve": "table", "table": [1.0, 0.8, 0.0], "k": 1},
                "engagement": {"actions": ["save"], "pane": "1h"},
                "limits": {"buckets": BUCKETS, "suppress_below": 0, "min_viewers": 0},
                "rules": [{name: value for name, value in chosen.items() if value is not None}],
            }
        )
    )


def a_judge(**rule: Any) -> RuleJudge:
    """Return the judge of one rule."""
    config = a_config(**rule)
    return RuleJudge(config, config.rules[0], "home")


def sums(**counts: int | tuple[int, int, int, int]) -> tuple[list[str], Ints]:
    """Return slices with their impressions (or all four measures) spread evenly over the buckets."""
    rows = []
    for count in counts.values():
        measures = (count, count * 1_000_000, count, 0) if isinstance(count, int) else count
        rows.append([[m * (b + 1) // BUCKETS - m * b // BUCKETS for m in measures] for b in range(BUCKETS)])
    return list(counts), np.array(rows, dtype=np.int64).reshape(len(rows), BUCKETS, 4)


def closed(
    hour: int, pane: tuple[list[str], Ints], window: tuple[list[str], Ints] | None = None
) -> ClosedPane:
    """Return a closed pane, by default in a window that holds only it."""
    slices, array = window or pane
    return ClosedPane(T + hour * HOUR_MS, T + (hour + 1) * HOUR_MS, slices, pane[1], array)


def by_slice(verdicts: list[Verdict]) -> dict[str, Verdict]:
    """Return verdicts by their slice, each once."""
    found = {v.slice_: v for v in verdicts}
    assert len(found) == len(verdicts)
    return found


# ---------------------------------------------------------------- references


def test_targets_name_slices_that_the_data_do_not_have() -> None:
    """A slice in the reference and absent from the data has share 0, and is judged low."""
    judge = a_judge(reference={"targets": {"a": 0.5, "b": 0.3, "gone": 0.2}})
    found = by_slice(judge.judge(closed(0, sums(a=700, b=300))))
    assert set(found) == {"a", "b", "gone"}
    gone = found["gone"]
    assert (gone.verdict, gone.direction) == (Outcome.BREACH, Direction.LOW)
    assert (gone.share, gone.reference, gone.estimate.value, gone.estimate.support) == (0.0, 0.2, 0.0, 0)
    assert gone.estimate.upper is not None
    assert gone.estimate.upper < 0.8
    assert found["a"].estimate.value == pytest.approx(1.4)
    assert (found["a"].verdict, found["a"].direction) == (Outcome.BREACH, Direction.HIGH)
    assert found["b"].verdict is Outcome.OK


def test_a_slice_without_a_target_is_insufficient() -> None:
    """What the reference does not name is counted in the totals and compared with nothing."""
    judge = a_judge(reference={"targets": {"a": 0.5, "b": 0.5}})
    found = by_slice(judge.judge(closed(0, sums(a=500, b=500, unknown=1000))))
    assert found["unknown"].verdict is Outcome.INSUFFICIENT
    assert found["a"].share == pytest.approx(0.25)


def test_uniform_divides_among_declared_values() -> None:
    """Equal shares among what is declared; `unknown` and `other` have none."""
    judge = a_judge(dimension="item.hair", reference={"uniform": True})
    found = by_slice(judge.judge(closed(0, sums(straight=900, unknown=100))))
    assert found["curly"].reference == found["straight"].reference == 0.5
    assert (found["curly"].verdict, found["curly"].share) == (Outcome.BREACH, 0.0)
    assert found["unknown"].verdict is Outcome.INSUFFICIENT


def test_uniform_without_declared_values_divides_among_the_seen() -> None:
    """Equal shares among the slices seen so far; one that vanishes is still expected."""
    judge = a_judge(reference={"uniform": True})
    found = by_slice(judge.judge(closed(0, sums(a=300, b=300, c=300))))
    assert [v.reference for v in found.values()] == pytest.approx([1 / 3] * 3)
    found = by_slice(judge.judge(closed(1, sums(a=300, b=300))))
    assert (found["c"].verdict, found["c"].direction) == (Outcome.BREACH, Direction.LOW)


def test_only_wanted_slices_are_answered_for() -> None:
    """`slices` limits the verdicts, not the totals, and names what may be absent."""
    judge = a_judge(reference={"targets": {"a": 0.5, "b": 0.5}}, slices=["b", "never"])
    found = by_slice(judge.judge(closed(0, sums(a=500, b=500))))
    assert set(found) == {"b", "never"}
    assert found["b"].share == 0.5
    assert found["never"].verdict is Outcome.INSUFFICIENT


# ---------------------------------------------------------------- baselines


def test_a_baseline_is_learnt_from_the_first_stretch() -> None:
    """While it is learnt every answer is `insufficient`, with no number; then shares are held against it."""
    judge = a_judge(reference={"baseline": {"first": "3h"}})
    for hour in range(2):
        learning = by_slice(judge.judge(closed(hour, sums(a=600, b=400))))
        assert {v.verdict for v in learning.values()} == {Outcome.INSUFFICIENT}
        assert {v.reason for v in learning.values()} == {"learning the baseline"}
        assert {v.estimate.value for v in learning.values()} == {None}
        assert learning["a"].estimate.support == 600
    found = by_slice(judge.judge(closed(2, sums(a=600, b=400))))
    assert {v.verdict for v in found.values()} == {Outcome.OK}
    found = by_slice(judge.judge(closed(3, sums(a=1000))))
    assert found["a"].reference == pytest.approx(0.6)
    assert found["b"].reference == pytest.approx(0.4)
    assert (found["b"].verdict, found["b"].direction) == (Outcome.BREACH, Direction.LOW)


def test_a_baseline_begins_with_the_data() -> None:
    """Empty panes before the first impression are not part of it."""
    judge = a_judge(reference={"baseline": {"first": "2h"}})
    for hour in range(3):
        judge.judge(closed(hour, sums(a=0, b=0)))
    for hour in (3, 4):
        judge.judge(closed(hour, sums(a=500, b=500)))
    assert judge.judge(closed(5, sums(a=500, b=500)))[0].reference == pytest.approx(0.5)


def test_a_baseline_from_to_takes_that_stretch_only() -> None:
    """Panes wholly inside it, whatever came before and after; nothing is judged until it has passed."""
    judge = a_judge(
        reference={"baseline": {"start": "2023-11-14T23:00:00Z", "end": "2023-11-15T01:00:00+00:00"}}
    )
    hours = {
        0: {"a": 900, "b": 100},
        1: {"a": 500, "b": 500},
        2: {"a": 500, "b": 500},
        3: {"a": 900, "b": 100},
    }
    outcomes = [judge.judge(closed(hour, sums(**counts)))[0] for hour, counts in hours.items()]
    assert [v.reason for v in outcomes[:2]] == ["learning the baseline"] * 2
    assert outcomes[2].reference == outcomes[3].reference == pytest.approx(0.5)
    assert outcomes[3].direction is Direction.HIGH


def test_a_baseline_of_nothing_gives_no_number() -> None:
    """When its stretch had no data there is nothing to compare with, ever."""
    judge = a_judge(reference={"baseline": {"start": "2023-11-01T00:00:00Z", "end": "2023-11-02T00:00:00Z"}})
    [verdict] = judge.judge(closed(0, sums(a=1000)))
    assert verdict.verdict is Outcome.INSUFFICIENT
    assert verdict.estimate.value is None


def test_a_learnt_baseline_survives_a_restart() -> None:
    """The reference and the last pane are remembered together; what was judged is not judged again."""
    judge, revived = (
        a_judge(reference={"baseline": {"first": "2h"}}),
        a_judge(reference={"baseline": {"first": "2h"}}),
    )
    for hour in range(2):
        judge.judge(closed(hour, sums(a=600, b=400)))
    revived.restore(judge.dump())
    assert revived.judge(closed(1, sums(a=1, b=999))) == []
    assert by_slice(revived.judge(closed(2, sums(b=1000)))) == by_slice(judge.judge(closed(2, sums(b=1000))))


def test_the_memory_of_another_rule_or_a_newer_program_is_not_taken() -> None:
    """Another metric, window or reference starts anew; a newer version is refused."""
    judge = a_judge(reference={"baseline": {"first": "2h"}})
    for hour in range(2):
        judge.judge(closed(hour, sums(a=600, b=400)))
    dump = judge.dump()
    other = a_judge(reference={"baseline": {"first": "1h"}})
    assert not other.restore(dump)
    assert other.judge(closed(1, sums(a=600, b=400))) == [], "no pane is judged twice"
    assert by_slice(other.judge(closed(2, sums(a=600, b=400))))
    stricter = a_judge(reference={"baseline": {"first": "2h"}}, min_support=999, tolerance={"low": 0.5})
    assert stricter.restore(dump)
    assert stricter.last_end_ms == T + 2 * HOUR_MS
    with pytest.raises(UnknownVersionError):
        other.restore(dump.replace(b"version\x01", b"version\x02"))


BASELINE: dict[str, Any] = {"reference": {"baseline": {"first": "2h"}}}
BY_DATE: dict[str, Any] = {
    "reference": {"baseline": {"start": "2023-11-14T22:00:00Z", "end": "2023-11-15T00:00:00Z"}}
}
RELEARN: dict[str, Any] = {"reference": {"baseline": {"first": "2h", "relearn": "2024-02-01"}}}


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({**BASELINE, "detectors": [{"kind": "adwin"}]}, True),
        ({"reference": {"baseline": {"first": "3h"}}}, True),
        (BY_DATE, True),
        (RELEARN, False),
        ({**BASELINE, "metric": "exposure_share"}, False),
        ({**BASELINE, "dimension": "item.hair"}, False),
    ],
)
def test_a_baseline_is_learnt_anew_only_on_command_or_for_something_else(
    changed: dict[str, Any], kept: bool
) -> None:
    """Another detector or another stretch keeps what was learnt; `relearn`, metric and dimension do not."""
    judge = a_judge(**BASELINE)
    for hour in range(3):
        judge.judge(closed(hour, sums(a=600, b=400)))
    other = a_judge(**changed)
    other.restore(judge.dump())
    shares = other.shares_of(["a"], sums(a=0)[1])
    assert (shares is not None) == kept
    if shares is not None:
        assert shares.shares == pytest.approx([0.6])


def test_another_surface_does_not_relearn() -> None:
    """A change that starts the windows anew leaves baselines alone."""
    config = a_config(**BASELINE)
    wider = msgspec.structs.replace(config, surfaces=["home", "search"])
    judge, other = (RuleJudge(c, c.rules[0], "home") for c in (config, wider))
    for hour in range(2):
        judge.judge(closed(hour, sums(a=600, b=400)))
    assert not other.restore(judge.dump())
    assert by_slice(other.judge(closed(2, sums(a=1_000))))["b"].reference == pytest.approx(0.4)


def test_panes_are_learnt_once_also_when_they_are_judged_again() -> None:
    """A rule that begins anew in the middle of learning does not count the first half twice."""
    judge, other = a_judge(**BASELINE), a_judge(**BASELINE, detectors=[{"kind": "adwin"}])
    judge.judge(closed(0, sums(a=900, b=100)))
    other.restore(judge.dump())
    for hour, counts in enumerate(({"a": 900, "b": 100}, {"a": 100, "b": 900})):
        other.judge(closed(hour, sums(**counts)))
    shares = other.shares_of(["a"], sums(a=0)[1])
    assert shares is not None
    assert shares.shares == pytest.approx([0.5])


# ---------------------------------------------------------------- too little data


@pytest.mark.parametrize(
    ("rule", "counts", "enough"),
    [
        ({"reference": {"targets": {"a": 0.5, "b": 0.5}}}, {"a": 5, "b": 95}, True),
        ({"reference": {"targets": {"a": 0.5, "b": 0.5}}}, {"a": 5, "b": 94}, False),
        ({"reference": {"targets": {"a": 0.05, "b": 0.95}}}, {"a": 500, "b": 499}, False),
        ({"metric": "exposure_rate", "compare": "rest"}, {"a": 50, "b": 900}, True),
        ({"metric": "exposure_rate", "compare": "rest"}, {"a": 49, "b": 900}, False),
    ],
)
def test_too_little_is_an_answer_and_never_a_number(
    rule: dict[str, Any], counts: dict[str, int], enough: bool
) -> None:
    """Shares need the expected impressions, rates the seen ones; below `min_support` nothing is said."""
    verdict = by_slice(a_judge(**rule).judge(closed(0, sums(**counts))))["a"]
    if enough:
        assert verdict.verdict is not Outcome.INSUFFICIENT
        return
    assert (verdict.verdict, verdict.reason) == (Outcome.INSUFFICIENT, "too few impressions")
    assert (verdict.estimate.value, verdict.estimate.lower, verdict.estimate.upper) == (None, None, None)
    assert (verdict.share, verdict.direction, verdict.evidence) == (None, Direction.NONE, 0.0)
    assert verdict.estimate.support == counts["a"]


def test_a_rate_without_anyone_else_is_insufficient() -> None:
    """A slice cannot be compared with a rest that is empty or has never engaged."""
    judge = a_judge(metric="engagement_rate", action="save", compare="rest")
    [alone] = judge.judge(closed(0, sums(a=(900, 0, 0, 90))))
    assert alone.verdict is Outcome.INSUFFICIENT
    found = by_slice(judge.judge(closed(1, sums(a=(900, 0, 0, 90), b=(900, 0, 0, 0)))))
    assert found["a"].verdict is Outcome.INSUFFICIENT
    assert (found["b"].verdict, found["b"].estimate.value) == (Outcome.BREACH, 0.0)


# ---------------------------------------------------------------- metrics


def test_each_metric_reads_its_measure() -> None:
    """Impressions, exposure, the top k and engagements are told apart."""
    both = {"a": (1000, 800_000_000, 500, 100), "b": (1000, 200_000_000, 1500, 50)}
    expected = {
        "impression_share": 0.5,
        "exposure_share": 0.8,
        "top_k_share": 0.25,
        "exposure_rate": 800_000.0,
        "engagement_rate": 0.1,
    }
    for metric, level in expected.items():
        shares = metric.endswith("_share")
        judge = a_judge(
            metric=metric,
            compare="reference" if shares else "rest",
            reference={"targets": {"a": 0.5, "b": 0.5}} if shares else None,
            action="save" if metric == "engagement_rate" else None,
        )
        verdict = by_slice(judge.judge(closed(0, sums(**both))))["a"]
        assert verdict.share == pytest.approx(level), metric
        assert verdict.metric == metric
        reference = {"exposure_rate": 200_000.0, "engagement_rate": 0.05}.get(metric, 0.5)
        assert verdict.reference == pytest.approx(reference)
        assert verdict.estimate.value == pytest.approx(level / reference)


def test_never_in_the_top_is_the_worst_and_not_insufficient() -> None:
    """A slice shown a thousand times, always below the top k, is a breach on the low side."""
    for metric, compare in (
        ("top_k_share", "reference"),
        ("exposure_share", "reference"),
        ("exposure_rate", "rest"),
    ):
        reference = {"targets": {"a": 0.5, "b": 0.5}} if compare == "reference" else None
        judge = a_judge(metric=metric, compare=compare, reference=reference)
        found = by_slice(judge.judge(closed(0, sums(a=(1000, 0, 0, 0), b=(1000, 10**9, 1000, 0)))))
        assert (found["a"].verdict, found["a"].direction) == (Outcome.BREACH, Direction.LOW), metric
        assert found["a"].estimate.value == 0.0


def test_verdicts_stay_readable_when_positions_never_vary() -> None:
    """Buckets that agree to the last bit, exactly at the tolerance, still give a record that decodes."""
    judge = a_judge(metric="exposure_rate", compare="rest", tolerance={"low": 0.8})
    verdicts = judge.judge(closed(0, sums(a=(800, 640_000_000, 0, 0), b=(800, 800_000_000, 800, 0))))
    assert by_slice(verdicts)["a"].estimate.value == 0.8
    for verdict in verdicts:
        assert decode_verdict(encode_verdict(verdict)) == verdict
        assert verdict.verdict is Outcome.OK


def test_the_contracts_verdict_record() -> None:
    """Names on the wire are the contract's."""
    judge = a_judge(reference={"targets": {"a": 0.5, "b": 0.5}})
    record = yaml.safe_load(encode_verdict(judge.judge(closed(0, sums(a=500, b=500)))[0]))
    assert {"rule", "surface", "dimension", "slice", "metric", "window", "pane_end_ms", "verdict"} <= set(
        record
    )
    assert set(record["estimate"]) == {"value", "lower", "upper", "support"}
    assert {"tolerance", "evidence", "detector"} <= set(record)
    assert record["pane_end_ms"] == T + HOUR_MS
    assert record["tolerance"] == {"low": 0.8, "high": 1.25}


def test_the_first_detector_that_breaches_decides() -> None:
    """A rule is breached when any of its detectors says so; a warming-up one does not silence the others."""
    judge = a_judge(
        reference={"targets": {"a": 0.5, "b": 0.5}}, detectors=[{"kind": "adwin"}, {"kind": "tolerance"}]
    )
    even, skewed = (
        by_slice(judge.judge(closed(h, sums(a=n, b=1000 - n))))["a"] for h, n in ((0, 500), (1, 200))
    )
    assert (even.verdict, even.detector) == (Outcome.OK, "tolerance")
    assert (skewed.verdict, skewed.detector, skewed.direction) == (Outcome.BREACH, "tolerance", Direction.LOW)


# ---------------------------------------------------------------- through the whole core


def test_slices_come_and_go_with_the_window() -> None:
    """A slice is answered for from its first closed pane on, also when it has left the window."""
    feed = Feed(a_config(reference={"uniform": True}, min_support=1))
    for hour in range(9):
        tones = ["a", "b", "late"] if hour == 2 else ["a", "b"]
        for viewer in range(20):
            feed.show(T + hour * HOUR_MS, [{"tone": tone} for tone in tones], viewer)
    feed.show(T + 9 * HOUR_MS, [{"tone": "early"}])
    feed.beat()
    slices: dict[int, set[str]] = {}
    for verdict in feed.listener.verdicts:
        slices.setdefault((verdict.pane_end_ms - T) // HOUR_MS, set()).add(verdict.slice_)
    assert slices[2] == {"a", "b"}
    assert slices[3] == slices[8] == {"a", "b", "late"}
    assert "early" not in slices[8]


def test_a_top_k_share_is_as_unsure_as_its_few_places() -> None:
    """What counts is how often a slice was in the top k, not how often it was shown."""
    judge = a_judge(metric="top_k_share", reference={"targets": {"a": 0.01, "b": 0.99}}, min_support=1)
    estimate = by_slice(judge.judge(closed(0, sums(a=(5000, 0, 8, 0), b=(5000, 0, 792, 0)))))["a"].estimate
    assert estimate.value == pytest.approx(1.0)
    assert estimate.upper == pytest.approx(np.exp(t_quantile(0.95, BUCKETS) * np.sqrt(0.99 / 8.5)))


# ---------------------------------------------------------------- where 0 is parity


def test_skew_is_the_logarithm_of_a_top_k_share_over_its_reference() -> None:
    """The same answers as the ratio has at the tolerance's exponential; numbers on the scale of the skew."""
    reference = {"targets": {"a": 0.5, "b": 0.3, "c": 0.2}}
    counts = sums(a=700, b=200, c=(100, 0, 0, 0))
    skews = by_slice(
        a_judge(metric="skew_at_k", reference=reference, tolerance={"low": -0.2, "high": 0.2}).judge(
            closed(0, counts)
        )
    )
    ratios = by_slice(
        a_judge(
            metric="top_k_share",
            reference=reference,
            tolerance={"low": math.exp(-0.2), "high": math.exp(0.2)},
        ).judge(closed(0, counts))
    )
    for slice_ in "ab":
        skew, ratio = skews[slice_], ratios[slice_]
        assert (skew.verdict, skew.direction) == (ratio.verdict, ratio.direction)
        assert skew.evidence == pytest.approx(ratio.evidence)
        for end in ("value", "lower", "upper"):
            assert getattr(skew.estimate, end) == pytest.approx(math.log(getattr(ratio.estimate, end)))
        assert (skew.tolerance.low, skew.tolerance.high) == (-0.2, 0.2)
    gone = skews["c"]
    assert (gone.verdict, gone.direction) == (Outcome.BREACH, Direction.LOW)
    assert (gone.estimate.value, gone.estimate.lower, gone.reason) == (None, None, "it has none at all")
    assert gone.estimate.upper is not None
    assert gone.estimate.upper < -0.2
    assert decode_verdict(encode_verdict(gone)) == gone


def test_a_rate_difference_is_breached_when_its_whole_interval_is_beyond() -> None:
    """4 % against 10 %: 6 points apart; tolerated are 2, or 10."""
    rule = {"metric": "engagement_rate_difference", "action": "save", "compare": "rest"}
    counts = sums(a=(5_005, 0, 0, 203), b=(5_000, 0, 0, 500))
    for low, outcome in ((-0.02, Outcome.BREACH), (-0.1, Outcome.OK)):
        found = by_slice(a_judge(**rule, tolerance={"low": low}).judge(closed(0, counts)))["a"]
        assert found.verdict is outcome
        value, lower, upper = (found.estimate.value, found.estimate.lower, found.estimate.upper)
        assert value == pytest.approx(203 / 5_005 - 0.1)
        assert lower is not None
        assert value is not None
        assert upper is not None
        assert lower < value < upper < 0
        assert found.share == pytest.approx(203 / 5_005)
        assert found.reference == pytest.approx(0.1)


def test_a_rate_difference_needs_expected_events() -> None:
    """Where no interval holds there is no verdict."""
    rule = {
        "metric": "engagement_rate_difference",
        "action": "save",
        "compare": "rest",
        "tolerance": {"low": -0.02},
    }
    found = by_slice(a_judge(**rule).judge(closed(0, sums(a=(100, 0, 0, 0), b=(900, 0, 0, 9)))))
    assert {v.verdict for v in found.values()} == {Outcome.INSUFFICIENT}


@pytest.mark.parametrize("tolerance", [{"low": 0.8}, {"high": -0.1}, {"low": -0.2, "clear_low": -0.3}])
def test_where_0_is_parity_a_tolerance_has_it_inside(tolerance: dict[str, float]) -> None:
    """A ratio's limits, or one on the wrong side, are told."""
    with pytest.raises(ConfigError, match="a difference"):
        a_config(metric="skew_at_k", reference={"targets": {"a": 1.0}}, tolerance=tolerance)
