"""Per-request metrics on their way through the measuring core: by hand, on the page, under caps."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from monitor.cells import NO_VALUE
from monitor.config import parse_config
from monitor.decoding import ImpressionDecoder
from monitor.panels import SurfacePanels
from monitor.partition import Batch, SourcePartition
from monitor.ranking_panels import Ranked, RankingPanels
from monitor.requests import METRICS
from monitor.snapshots import Kind
from tests.support.core import Feed

T = 1_700_000_000_000

CONFIG = """\
surfaces: [home]
windows: [{length: 1m, slide: 10s}]
attributes: {item: {tone: {values: [a, b]}, shape: {}}, viewer: {gender: {}}}
time: {pane: 10s, allowed_lateness: 0s}
dimensions: [viewer.gender, item.tone, viewer.gender*item.shape]
limits: {buckets: 8, suppress_below: 5, min_viewers: 2}
"""
RANKED = CONFIG + "rankings: [{dimension: item.tone, k: 2}]\n"

SECOND = 1 / math.log2(3)
NDKL_A = math.log(2)
"""Of any number of `a` and nothing else, halves being due."""
NDKL_AB = math.log(2) / (1 + SECOND)
"""Of `ab`: the top 1 is all of one, the top 2 is even."""


def awrf(part: float) -> float:
    """Return AWRF of two groups with this share of exposure, halves being due."""
    middle = ((part + 0.5) / 2, (1.5 - part) / 2)
    terms = [p * math.log2(p / m) for p, m in zip((part, 1 - part), middle, strict=True) if p]
    terms += [0.5 * math.log2(0.5 / m) for m in middle]
    return 1 - sum(terms) / 2


def request(*items: dict[str, Any] | str, viewer: str = "u", **more: Any) -> bytes:
    """Return an impression; an item may be given by its tone alone."""
    shown = [{"id": "p", "attrs": {"tone": i}} if isinstance(i, str) else {"id": "p", **i} for i in items]
    event = {"ts": T, "request_id": "r", "viewer_id": viewer, "surface": "home", "items": shown}
    return json.dumps(event | more).encode()


def tone(value: str, position: int | None = None) -> dict[str, Any]:
    """Return an item with its position."""
    return {"attrs": {"tone": value}} | ({} if position is None else {"position": position})


def measured(*requests: bytes, config: str = RANKED) -> list[list[int]]:
    """Return the measures of each request that is counted."""
    columns = ImpressionDecoder(parse_config(config)).decode(requests)
    assert not columns.rejected
    assert np.flatnonzero(columns.measure[:, 3:].any(axis=1)).tolist() == columns.beside.tolist()
    assert not columns.measure[columns.beside, :3].any()
    found: list[list[int]] = columns.measure[columns.beside, 3:].tolist()
    return found


def micro(*values: float) -> list[int]:
    """Return one request and its metrics in millionths."""
    return [1, *(round(value * 1e6) for value in values)]


EVEN = micro(NDKL_AB, awrf(1 / (1 + SECOND)), 1, 0)
ONE_SIDED = micro(NDKL_A, awrf(1), 0, 1)


def test_what_a_request_adds_by_hand() -> None:
    """`ab` shows both; `aa` lacks the one `b` that is due in the top 2."""
    assert measured(request("a", "b"), request("a", "a"), request("b", "a")) == [EVEN, ONE_SIDED, EVEN]


def test_the_top_is_by_position_and_equal_positions_keep_their_order() -> None:
    """Positions may be absent, out of order, with gaps or twice; only the order counts."""
    aab, aba = measured(request("a", "a", "b"), request("a", "b", "a"))
    assert aab != aba
    for items in (
        [tone("b", 9), tone("a", 2), tone("a", 4)],
        [tone("a", 3), tone("a", 3), tone("b", 3)],
        [tone("a"), tone("a"), tone("b")],
        [tone("a"), tone("b", 3), tone("a", 2)],
        [tone("b", 2), tone("a", 1), tone("a", 1)],
    ):
        assert measured(request(*items)) == [aab], items
    assert measured(request(tone("a", 7), tone("b", 7), tone("a", 7))) == [aba]
    assert measured(request(tone("a", 2), tone("b", 2), tone("a", 1))) == [aab]


def test_items_without_a_target_are_left_out() -> None:
    """Unknown ones, undeclared ones; a request that has no others adds nothing, and has no cell."""
    assert measured(request("a", {}, "x", "b"), request("", "x", {}), request("a")) == [
        EVEN,
        micro(NDKL_A, awrf(1), 0, 0),
    ]


def test_each_ranking_has_its_measures() -> None:
    """In the order of the configuration; one that does not count adds zeros."""
    two = CONFIG + (
        "rankings: [{dimension: item.tone, k: 2}, {dimension: item.shape, targets: {x: 0.25, y: 0.75}}]\n"
    )
    [first, second] = measured(request("a", "b"), request({"attrs": {"shape": "y"}}), config=two)
    assert first == [*EVEN, 0, 0, 0, 0, 0]
    assert second[:5] == [0, 0, 0, 0, 0]
    assert second[5:7] == [1, round(math.log(1 / 0.75) * 1e6)]
    assert second[8:] == [0, 0]


def test_awrf_goes_by_the_configured_curve() -> None:
    """With equal attention to the top 2 and none below, `aba` is at parity."""
    curve = RANKED + "exposure: {curve: top_k, k: 2}\n"
    [found] = measured(request("a", "b", "a"), config=curve)
    assert found[2] == 1_000_000


def test_a_request_is_in_a_cell_of_its_own_after_its_items() -> None:
    """It has the viewer's values and bucket, and none of an item."""
    columns = ImpressionDecoder(parse_config(RANKED)).decode(
        [request({}, viewer="u-1"), request("a", "b", viewer="u-2", viewer_=1), request("b", viewer="u-3")]
    )
    assert columns.event.tolist() == [0, 1, 1, 1, 2, 2]
    assert columns.beside.tolist() == [3, 5]
    assert columns.names[columns.cell[3]] == ("unknown", NO_VALUE, NO_VALUE)
    assert columns.bucket[3] == columns.bucket[2] != columns.bucket[5]


def test_groups_are_known_anew_when_numbers_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that has met too many values gives out their numbers anew."""
    monkeypatch.setattr("monitor.parsing.MOST_NUMBERS", 3)
    decoder = ImpressionDecoder(parse_config(RANKED))
    for tones in ("ab", "ba", "aa", "ab"):
        columns = decoder.decode([request(*({"attrs": {"tone": t, "shape": tones + t}} for t in tones))])
        expected = ONE_SIDED if tones == "aa" else EVEN
        assert columns.measure[columns.beside, 3:].tolist() == [expected]
        decoder.decode([request({"attrs": {"tone": "b", "shape": tones}}, {"attrs": {"shape": tones}})])


def test_without_rankings_nothing_is_added() -> None:
    """Three measures, one contribution for each item."""
    columns = ImpressionDecoder(parse_config(CONFIG)).decode([request("a", "b")])
    assert columns.measure.shape == (2, 3)
    assert len(columns.beside) == 0


def test_requests_are_no_items_and_respect_the_cap_on_cells() -> None:
    """They are not counted as contributions; beyond the cap they go to `other`, and are in no total twice."""
    config = parse_config(RANKED.replace("buckets: 8", "buckets: 8, max_cells: 2"))
    state = SourcePartition(config, Kind.IMPRESSIONS, ImpressionDecoder(config), 0)
    values: list[bytes | None] = [request("a", "b", viewer="u-1"), request("b", "a", viewer="u-2")]
    outcome = state.read(Batch(values, np.arange(2), np.full(2, -1)))
    assert (outcome.accepted, outcome.items, outcome.overflowed) == (2, 4, 2)
    [snapshot] = state.take_snapshots()["home"]
    assert snapshot.cells[-1] == ("other", "other", "other")
    index, amounts = snapshot.sums()
    assert amounts[index % 8 == 0].sum() == 4
    assert amounts[index % 8 == 3].sum() == 2


@pytest.fixture
def feed() -> Feed:
    """Return a monitor of 8 viewers of two genders with two requests each, and one who is unlike all others.

    `m` gets `ab` twice, `f` gets `ab` and `aa`.
    """
    feed = Feed(parse_config(RANKED))
    for viewer in range(8):
        gender = "f" if viewer % 2 else "m"
        feed.show(T, [{"tone": "a", "shape": "*"}, {"tone": "b"}], viewer, {"gender": gender})
        feed.show(T, [{"tone": "a"}, {"tone": "a" if gender == "f" else "b"}], viewer, {"gender": gender})
        feed.show(T, [{"shape": "x"}], viewer, {"gender": gender})
    feed.beat(idle=True)
    return feed


def means(ranked: Ranked) -> dict[str, float]:
    """Return the values of the metrics."""
    return {metric.name: metric.value for metric in ranked.metrics}


def test_means_of_a_window_and_of_slices_of_viewers(feed: Feed) -> None:
    """Those without a known item are in no mean; each slice has its own."""
    found = {(r.by, r.slice): r for r in RankingPanels(feed.config, feed.watch).figures()}
    assert set(found) == {("", ""), ("viewer.gender", "m"), ("viewer.gender", "f")}
    whole, m, f = found["", ""], found["viewer.gender", "m"], found["viewer.gender", "f"]
    assert (whole.window, whole.dimension, whole.requests, m.requests) == ("1m", "item.tone", 16, 8)
    assert tuple(means(whole)) == METRICS
    assert means(m) == pytest.approx(dict(zip(METRICS, np.array(EVEN[1:]) / 1e6, strict=True)))
    assert means(f)["div_at_k"] == 0.5
    assert means(whole)["div_at_k"] == 0.75
    assert means(whole)["infeasible_index"] == 0.25
    assert means(whole)["ndkl"] == pytest.approx((3 * NDKL_AB + NDKL_A) / 4, abs=1e-6)


def test_request_cells_are_no_slices(feed: Feed) -> None:
    """Of dimensions of items neither slice nor impression comes from them, also where an item has a `*`."""
    projections = feed.watch.panes.projections
    assert projections.slices("item.tone") == ["a", "b", "unknown"]
    assert set(projections.slices("viewer.gender*item.shape")) == {
        f"{gender}*{shape}" for gender in "fm" for shape in ("*", "unknown", "x")
    }
    plain = Feed(parse_config(CONFIG))
    for viewer in range(8):
        gender = "f" if viewer % 2 else "m"
        plain.show(T, [{"tone": "a", "shape": "*"}, {"tone": "b"}], viewer, {"gender": gender})
        plain.show(T, [{"tone": "a"}, {"tone": "a" if gender == "f" else "b"}], viewer, {"gender": gender})
        plain.show(T, [{"shape": "x"}], viewer, {"gender": gender})
    plain.beat(idle=True)
    shares = [list(SurfacePanels(each.config, each.watch).shares()) for each in (feed, plain)]
    assert len(shares[0]) > 4
    assert shares[0] == shares[1]


def test_small_slices_have_no_figures_nor_those_that_give_them_away() -> None:
    """A slice of one viewer is hidden with the next smallest; too few requests in all have none."""
    feed = Feed(parse_config(RANKED))
    for viewer in range(6):
        for _ in range(3):
            feed.show(T, [{"tone": "a"}], viewer, {"gender": "m"})
        feed.show(T, [{"tone": "a"}], viewer, {"gender": "f"})
    feed.show(T, [{"tone": "b"}], 7, {"gender": "x"})
    feed.beat(idle=True)
    shown = [(r.by, r.slice, r.requests) for r in RankingPanels(feed.config, feed.watch).figures()]
    assert shown == [("", "", 25), ("viewer.gender", "m", 18)]
    few = Feed(parse_config(RANKED))
    for viewer in range(4):
        few.show(T, [{"tone": "a"}] * 9, viewer)
    few.beat(idle=True)
    assert list(RankingPanels(few.config, few.watch).figures()) == []
