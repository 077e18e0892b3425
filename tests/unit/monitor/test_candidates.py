"""Candidates: what requests could have shown, as what shares are held against."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from monitor.config import Config, parse_config
from monitor.decoding import ImpressionDecoder
from monitor.detectors.bank import DAY_MS, SHARE_SUPER_IMPRESSIONS, Limits, State, take_pane
from monitor.detectors.scores import candidate_scores
from monitor.panels import SurfacePanels
from monitor.rejections import Reason
from monitor.requests import candidates_measure, impression_measures
from monitor.verdicts import Direction, Outcome, Verdict
from tests.support.core import Feed

Floats = NDArray[np.float64]

T = 1_700_000_000_000 // 3_600_000 * 3_600_000
MINUTE_MS = 60_000


def a_config(
    detectors: list[dict[str, Any]] | None = None, reference: dict[str, Any] | None = None, **more: Any
) -> Config:
    """Return a configuration with one rule on exposure against candidates."""
    rule = {
        "name": "tone",
        "metric": "exposure_share",
        "dimension": "item.tone",
        "window": "1m",
        "compare": "reference",
        "reference": reference or {"candidates": True},
        "min_support": 1,
        **({"detectors": detectors} if detectors else {}),
    }
    document = {
        "surfaces": ["home"],
        "windows": [{"length": "1m", "slide": "1m"}],
        "attributes": {"item": {"tone": {}}},
        "time": {"pane": "1m", "allowed_lateness": "0s"},
        "exposure": {"curve": "table", "table": [1.0, 1.0, 1.0, 1.0]},
        "limits": {"buckets": 16, "suppress_below": 0, "min_viewers": 0},
        "candidates": True,
        "rules": [rule],
        **more,
    }
    return parse_config(yaml.safe_dump(document))


def impression(items: list[str], candidates: object = None, viewer: int = 0) -> dict[str, Any]:
    """Return an event that shows items of these tones."""
    event: dict[str, Any] = {"ts": T, "request_id": "r", "viewer_id": f"u{viewer}", "surface": "home"}
    event["items"] = [{"id": "p", "attrs": {"tone": tone}} for tone in items]
    return event if candidates is None else event | {"candidates": candidates}


def counts(**tones: int) -> list[dict[str, Any]]:
    """Return candidates, so many of each tone."""
    return [{"attrs": {"tone": tone}, "count": count} for tone, count in tones.items()]


def encoded(*events: Mapping[str, Any]) -> list[bytes | None]:
    """Return records."""
    return [json.dumps(event).encode() for event in events]


# ---------------------------------------------------------------- decoding


def test_candidates_are_counted_beside_the_items() -> None:
    """After their request's items, with its viewer, in the last measure; one by default; null is none."""
    config = a_config()
    columns = ImpressionDecoder(config).decode(
        encoded(
            impression(["a", "b"], [*counts(a=3), {"attrs": {"tone": "b"}}, {}], viewer=1),
            impression(["a"], []),
            impression(["a"], viewer=2),
            impression(["b"], counts(b=7), viewer=2),
        )
    )
    assert columns.event.tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 3]
    assert columns.beside.tolist() == [2, 3, 4, 8]
    assert columns.measure[:, -1].tolist() == [0, 0, 3, 1, 1, 0, 0, 0, 7]
    assert not columns.measure[columns.beside, :-1].any()
    names = [columns.names[cell] for cell in columns.cell.tolist()]
    assert names == [("a",), ("b",), ("a",), ("b",), ("unknown",), ("a",), ("a",), ("b",), ("b",)]
    assert len(set(columns.bucket[:5].tolist())) == 1
    assert impression_measures(config) == 4
    assert candidates_measure(config) == 3


@pytest.mark.parametrize("wrong", [7, "all", [3], [{"count": 0}], [{"count": 1.5}], [{"attrs": {"tone": 4}}]])
def test_bad_candidates_are_rejected_only_where_they_count(wrong: object) -> None:
    """A record whose candidates break the contract is invalid; where nobody counts them, nobody looks."""
    values = encoded(impression(["a"], wrong), impression(["b"]))
    [rejected] = ImpressionDecoder(a_config()).decode(values).rejected
    assert (rejected.index, rejected.reason) == (0, Reason.INVALID)
    without = a_config(candidates=False, rules=[])
    columns = ImpressionDecoder(without).decode(values)
    assert not columns.rejected
    assert columns.measure.shape[1] == impression_measures(without) == 3


def test_rankings_and_candidates_stand_beside_each_other() -> None:
    """Each request's own cell comes first; measures of rankings are those without candidates."""
    ranking = [{"dimension": "item.tone", "targets": {"a": 0.5, "b": 0.5}}]
    both, ranked = a_config(rankings=ranking), a_config(rankings=ranking, candidates=False, rules=[])
    values = encoded(impression(["a", "b"], counts(a=2, b=5)), impression(["b"], counts(b=1)))
    columns, plain = (ImpressionDecoder(config).decode(values) for config in (both, ranked))
    assert columns.measure.shape[1] == plain.measure.shape[1] + 1
    assert columns.measure[:, -1].tolist() == [0, 0, 0, 2, 5, 0, 0, 1]
    assert columns.measure[columns.measure[:, -1] == 0, :-1].tolist() == plain.measure.tolist()


# ---------------------------------------------------------------- judging


def run(config: Config, minutes: int, **kinds: Any) -> tuple[Feed, list[dict[str, Verdict]]]:
    """Return verdicts minute by minute of drawn traffic; see :func:`requests`."""
    feed, found = Feed(config), []
    chance = np.random.default_rng(kinds.pop("seed", 1))
    for minute in range(minutes):
        options = {name: kind(minute) if callable(kind) else kind for name, kind in kinds.items()}
        requests(feed, chance, T + minute * MINUTE_MS, **options)
        found.append({verdict.slice_: verdict for verdict in feed.beat()})
    return feed, found


def requests(
    feed: Feed,
    chance: np.random.Generator,
    ts_ms: int,
    *,
    supply: float = 0.3,
    factor: float = 1.0,
    viewers: int = 60,
    telling: bool = True,
) -> None:
    """Requests of 20 candidates each, of which viewers see four: of tone a ``factor`` times as often.

    Viewers differ in their supply, by a beta distribution around ``supply``.
    """
    for _ in range(viewers):
        viewer = int(chance.integers(10_000))
        mine = chance.beta(8 * supply, 8 * (1 - supply))
        of_a = int(chance.binomial(20, mine))
        odds = factor * of_a / 20
        shown = ["a" if chance.random() < odds else "b" for _ in range(4)]
        known = {tone: count for tone, count in (("a", of_a), ("b", 20 - of_a)) if count and telling}
        feed.show(ts_ms, tones(*shown), viewer, candidates=counts(**known))


def tones(*names: str) -> list[dict[str, str]]:
    """Return the attributes of items of these tones."""
    return [{"tone": name} for name in names]


def after_a_minute(shown: str, **candidates: int) -> dict[str, Verdict]:
    """Return verdicts when forty viewers were shown the same for a minute."""
    feed = Feed(a_config())
    for viewer in range(40):
        feed.show(T, tones(*shown), viewer, candidates=counts(**candidates))
    feed.show(T + MINUTE_MS, tones("b"), 1)
    return {verdict.slice_: verdict for verdict in feed.beat()}


def test_shares_are_held_against_the_candidates_of_the_window() -> None:
    """The reference is the slice's share of the candidates; nobody declares it."""
    found = after_a_minute("aaab", a=10, b=10)
    assert (found["a"].share, found["a"].reference) == (0.75, 0.5)
    assert found["a"].estimate.value == pytest.approx(1.5)
    assert found["b"].estimate.value == pytest.approx(0.5)
    assert (found["b"].verdict, found["b"].direction) == (Outcome.BREACH, Direction.LOW)
    assert found["a"].estimate.support == 120


def test_a_slice_that_is_never_shown_is_known_by_its_candidates() -> None:
    """It has no impression at all, and is judged all the same: that is the worst disparity."""
    found = after_a_minute("bbbb", a=10, b=10)
    assert (found["a"].share, found["a"].reference, found["a"].estimate.value) == (0.0, 0.5, 0.0)
    assert (found["a"].verdict, found["a"].direction) == (Outcome.BREACH, Direction.LOW)


def test_without_candidates_there_is_nothing_to_say() -> None:
    """A window whose requests tell no candidates gives no estimate, and says why."""
    _, found = run(a_config(), 3, telling=False)
    assert {(v.verdict, v.reason) for v in found[-1].values()} == {(Outcome.INSUFFICIENT, "no candidates")}


@pytest.mark.parametrize("reference", [{"candidates": True}, {"uniform": True}])
def test_candidates_of_few_viewers_are_hidden(reference: dict[str, Any]) -> None:
    """A slice that one viewer could have seen and nobody saw tells no number, not even its reference."""
    limits = {"buckets": 16, "suppress_below": 20, "min_viewers": 5}
    feed = Feed(a_config(reference=reference, limits=limits))
    for viewer in range(80):
        rare = {"c": 3} if viewer == 7 else {}
        feed.show(T, tones("a", "b", "b", "d"), viewer, candidates=counts(a=40, b=80, d=20, **rare))
    feed.beat()
    shown = {share.slice for share in SurfacePanels(feed.config, feed.watch).shares()}
    assert shown == {"a", "b"}
    feed.show(T + MINUTE_MS, tones("b"), 1)
    found = {verdict.slice_: verdict for verdict in feed.beat()}
    assert found["a"].share == 0.25
    assert found["b"].reference == pytest.approx(0.5710 if "candidates" in reference else 0.25, abs=1e-3)
    for hidden in ("c", "d"):  # d is the smallest of the others, and would give c away
        assert (found[hidden].share, found[hidden].reference, found[hidden].estimate.value) == (
            None,
            None,
            None,
        )


def test_panels_know_the_candidates() -> None:
    """Skew and divergence from the reference are shown for the rule's dimension."""
    feed, _ = run(a_config(), 3)
    shown = {
        whole.metric.name: whole.metric.value for whole in SurfacePanels(feed.config, feed.watch).wholes()
    }
    assert shown["awrf"] == pytest.approx(1, abs=0.01)
    assert shown.keys() >= {"kl_divergence", "equity_of_attention"}


def test_panels_show_what_is_never_shown() -> None:
    """A slice that has candidates and no impression has the share 0."""
    feed = Feed(a_config())
    for viewer in range(40):
        feed.show(T, tones("b", "b"), viewer, candidates=counts(a=10, b=10))
    feed.beat()
    assert [(s.slice, s.share) for s in SurfacePanels(feed.config, feed.watch).shares()] == [
        ("b", 1),
        ("a", 0),
    ]


def test_intervals_hold_the_truth_and_know_that_both_go_together() -> None:
    """Who has more candidates of a tone is shown more of it; against a fixed share intervals are wider."""
    target = {"targets": {"a": 0.3, "b": 0.7}}
    rule: dict[str, Any] = {"name": "tone", "metric": "exposure_share", "dimension": "item.tone"}
    rule |= {"window": "1m", "compare": "reference", "reference": target, "min_support": 1}

    def ends(config: Config) -> Floats:
        _, found = run(config, 150)
        estimates = [verdicts["a"].estimate for verdicts in found[2:]]
        return np.array([(each.lower, each.upper) for each in estimates])

    paired, fixed = ends(a_config()), ends(a_config(rules=[rule]))
    assert 0.9 <= np.mean((paired[:, 0] <= 1) & (paired[:, 1] >= 1)) <= 0.985
    assert np.median(np.log(paired[:, 1] / paired[:, 0])) < 0.85 * np.median(
        np.log(fixed[:, 1] / fixed[:, 0])
    )


# ---------------------------------------------------------------- detectors


E_DETECTOR = [{"kind": "e_detector"}]


def directions(found: list[dict[str, Verdict]], slice_: str = "a") -> list[Direction]:
    """Return the directions of a slice, minute by minute."""
    return [verdicts[slice_].direction for verdicts in found if slice_ in verdicts]


@pytest.mark.parametrize("detectors", [E_DETECTOR, [{"kind": "adwin"}]])
def test_a_change_of_supply_is_no_disparity(detectors: list[dict[str, Any]]) -> None:
    """When half as many candidates are of a tone, half as many are shown: no detector speaks."""
    config = a_config(detectors, false_alarm_budget="1 per 1d")
    _, found = run(config, 450, supply=lambda minute: 0.3 if minute < 300 else 0.15)
    assert set(directions(found)) == {Direction.NONE}


def test_pages_when_a_tone_is_shown_less_than_its_candidates() -> None:
    """The e-detector finds a loss of 40 % while supply swings, and says nothing before."""
    config = a_config(E_DETECTOR, false_alarm_budget="1 per 1d")
    swing = {"supply": lambda minute: 0.3 + 0.1 * np.sin(minute / 60)}
    _, found = run(config, 620, **swing, factor=lambda minute: 1.0 if minute < 300 else 0.6)
    assert set(directions(found)[:300]) == {Direction.NONE}
    assert directions(found)[-1] is Direction.LOW


def test_pages_stay_within_the_budget() -> None:
    """Against candidates that viewers have by their taste and that swing by day, without any disparity."""
    series, days, per_day, buckets, pane_ms = 80, 8, 0.5, 32, 10 * MINUTE_MS
    chance, state = np.random.default_rng(3), State(buckets)
    state.grow_to(series)
    limits = Limits(
        np.ones((series, 2)),
        np.full(series, per_day / 2),
        np.full(series, SHARE_SUPER_IMPRESSIONS),
        np.full(series, 7 * DAY_MS),
    )
    base, pages = chance.uniform(0.1, 0.5, series), 0
    for number in range(days * DAY_MS // pane_ms):
        hour = 2 * np.pi * number * pane_ms / DAY_MS
        viewers = np.repeat(np.arange(series), chance.poisson(30 * (1 + 0.7 * np.sin(hour)), series))
        mean = base[viewers] * (1 + 0.2 * np.sin(hour + 1))
        requests = chance.geometric(0.5, len(viewers))
        supply = chance.binomial(12 * requests, chance.beta(6 * mean, 6 * (1 - mean)))
        shown = chance.binomial(4 * requests, supply / (12 * requests))
        cell = viewers * buckets + chance.integers(0, buckets, len(viewers))
        part, whole, candidates, of_all = (
            np.bincount(cell, each, series * buckets).reshape(series, buckets).astype(np.float64)
            for each in (shown, 4 * requests, supply, 12 * requests)
        )
        share = candidates.sum(axis=1) / np.maximum(of_all.sum(axis=1), 1)
        before, start_ms = state.firing.copy(), T + number * pane_ms
        smaller = whole.sum(axis=1) * np.minimum(share, 1 - share)
        scores = candidate_scores(part, whole, candidates, of_all)
        take_pane(state, scores, smaller, start_ms, start_ms + pane_ms, limits)
        pages += int(np.count_nonzero(state.firing & ~before))
    assert state.warm.all()
    assert 0 < pages <= series * days * per_day
