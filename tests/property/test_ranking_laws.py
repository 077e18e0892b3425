"""Laws of per-request metrics: decoder, definitions and recount agree; batches change nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.columns import Columns
from monitor.config import Attribute, Attributes, Config, Exposure, Ranking, WindowSpec
from monitor.config.rankings import ranking_targets
from monitor.decoding import ImpressionDecoder
from monitor.exposure import position_weights
from monitor.metrics.rankings import div_at_k, infeasible_index, ndkl, order_rankings, ranking_awrf
from streams.verify import recount_rankings
from streams.verify.recount import LogRecord, recount
from tests.support.strategies import START_MS, seconds

pytestmark = pytest.mark.property

VALUES = ["a", "b", "c", "d"]
Items = list[tuple[str, int | None]]
"""Value and position of each item."""

items = st.lists(st.tuples(st.sampled_from([*VALUES, "", "x"]), st.none() | st.integers(1, 12)), min_size=1)
batches = st.lists(items, min_size=1, max_size=8)


@st.composite
def ranked_configs(draw: st.DrawFn) -> Config:
    """Return a configuration with one or two rankings, by targets or equal shares."""
    parts = draw(st.lists(st.integers(1, 9), min_size=2, max_size=4))
    targets = {value: part / sum(parts) for value, part in zip(VALUES, parts, strict=False)}
    tone = Ranking(dimension="item.tone", targets=targets, k=draw(st.integers(1, 6)))
    return Config(
        surfaces=["home"],
        windows=[WindowSpec(length=seconds(60), slide=seconds(10))],
        attributes=Attributes(
            item={"shape": Attribute(values=["x", "a", "b"]), "tone": Attribute()},
            viewer={"gender": Attribute()},
        ),
        exposure=Exposure(k=draw(st.integers(1, 4))),
        rankings=[tone, *draw(st.sampled_from([[], [Ranking(dimension="item.shape", k=2)]]))],
    )


def encoded(shown: Items, viewer: int) -> bytes:
    """Return an impression of these items."""
    event = {
        "ts": START_MS,
        "request_id": "r",
        "viewer_id": f"u{viewer}",
        "surface": "home",
        "viewer": {"gender": "fm"[viewer % 2]},
        "items": [
            {"id": "p", "attrs": {"tone": value, "shape": value}}
            | ({} if position is None else {"position": position})
            for value, position in shown
        ],
    }
    return json.dumps(event).encode()


def contributions(columns: Columns) -> list[tuple[object, ...]]:
    """Return all that is added, in order, by the names of cells."""
    return [
        (columns.names[cell], bucket, tuple(measure))
        for cell, bucket, measure in zip(
            columns.cell.tolist(), columns.bucket.tolist(), columns.measure.tolist(), strict=True
        )
    ]


@settings(max_examples=150)
@given(ranked_configs(), batches)
def test_what_requests_add_is_the_recount(config: Config, shown: list[Items]) -> None:
    """Item by item and request by request, to the last millionth and in the same order."""
    values = [encoded(each, viewer) for viewer, each in enumerate(shown)]
    log = [LogRecord("impressions", 0, i, -1, value) for i, value in enumerate(values)]
    expected = [
        (c.cell, c.bucket, c.measures) for judged in recount(config, log) for c in judged.contributions
    ]
    assert contributions(ImpressionDecoder(config).decode(values)) == expected


@settings(max_examples=100)
@given(ranked_configs(), batches, st.data())
def test_a_request_adds_the_same_whatever_the_batch(
    config: Config, shown: list[Items], data: st.DataObject
) -> None:
    """Any split of a batch gives the same contributions, to the last millionth."""
    values = [encoded(each, viewer) for viewer, each in enumerate(shown)]
    decoder = ImpressionDecoder(config)
    cut = data.draw(st.integers(0, len(values)))
    parts = [decoder.decode(values[:cut]), ImpressionDecoder(config).decode(values[cut:])]
    assert [c for part in parts for c in contributions(part)] == contributions(decoder.decode(values))


@settings(max_examples=150)
@given(ranked_configs(), batches)
def test_what_requests_add_is_the_definition_in_millionths(config: Config, shown: list[Items]) -> None:
    """Each request by itself, without its items that have no target, by the functions of the definitions."""
    columns = ImpressionDecoder(config).decode([encoded(each, v) for v, each in enumerate(shown)])
    found = dict(zip(columns.event[columns.beside].tolist(), columns.measure[columns.beside], strict=True))
    target = ranking_targets(config, config.rankings[0])
    shares, k = np.array(list(target.values())), config.rankings[0].k
    weights = position_weights(config.exposure)[1:].astype(np.float64)
    for number, each in enumerate(shown):
        known = [
            (list(target).index(value), position or place)
            for place, (value, position) in enumerate(each, 1)
            if value in target
        ]
        if not known:
            assert number not in found or not found[number][3:8].any()
            continue
        group, position = np.array(known).T
        one = order_rankings(np.zeros_like(group), position, group, len(target))
        values = (
            ndkl(one, shares),
            ranking_awrf(one, weights, shares),
            div_at_k(one, k),
            infeasible_index(one, shares, k),
        )
        assert found[number][3:8].tolist() == [1, *(round(float(value[0]) * 1e6) for value in values)]


@settings(max_examples=100)
@given(st.lists(st.sampled_from(VALUES), min_size=1, max_size=12), st.permutations([0, 1, 2, 3]))
def test_values_stay_within_their_bounds(shown: list[str], names: list[int]) -> None:
    """NDKL at least 0, AWRF and DIV@k from 0 to 1, at most one prefix a rank, whatever groups are called."""
    rank = np.arange(1, len(shown) + 1)
    results = []
    for order in ([0, 1, 2, 3], names):
        group = np.array([order[VALUES.index(value)] for value in shown])
        one = order_rankings(np.zeros_like(rank), rank, group, 4)
        shares = np.full(4, 0.25)
        weights = position_weights(Exposure())[1:].astype(np.float64)
        figures = (
            ndkl(one, shares)[0],
            ranking_awrf(one, weights, shares)[0],
            div_at_k(one, 5)[0],
            infeasible_index(one, shares, 5)[0],
        )
        results.append(figures)
        assert figures[0] >= -1e-12
        assert 0 <= figures[1] <= 1 + 1e-12
        assert figures[2] in {0, 1}
        assert 0 <= figures[3] <= min(5, len(shown))
    assert results[0] == pytest.approx(results[1])


@settings(max_examples=100)
@given(ranked_configs(), st.lists(st.lists(st.sampled_from(VALUES), min_size=1), min_size=1, max_size=20))
def test_definitions_have_the_bits_of_plain_python(config: Config, shown: list[list[str]]) -> None:
    """Not only the same millionths: rounding could else differ from one processor to the next."""
    target = ranking_targets(config, config.rankings[0])
    groups = list(target)
    shown = [[value for value in each if value in target] or groups for each in shown]
    request, group = np.array([(r, groups.index(v)) for r, each in enumerate(shown) for v in each]).T
    batch = order_rankings(request, np.arange(len(request)), group, len(groups))
    shares = np.array(list(target.values()))
    weights = position_weights(config.exposure)[1:].astype(np.float64)
    assert ndkl(batch, shares).tolist() == [recount_rankings.ndkl(each, target) for each in shown]
    assert ranking_awrf(batch, weights, shares).tolist() == [
        recount_rankings.awrf(each, target, lambda place: int(weights[place - 1])) for each in shown
    ]
