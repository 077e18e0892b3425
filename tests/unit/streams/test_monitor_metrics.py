"""The monitor's page of metrics, from a monitor that was fed by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from monitor.config import parse_config
from streams.metrics import FairnessCollector
from tests.support.core import Feed

T = 1_700_000_000_000

CONFIG = """\
surfaces: [home]
windows: [{length: 1m, slide: 10s}]
attributes: {item: {tone: {}}, viewer: {gender: {}}}
dimensions: [viewer.gender]
rankings: [{dimension: item.tone, targets: {a: 0.5, b: 0.5}}]
time: {pane: 10s, allowed_lateness: 0s}
engagement: {actions: [save], attribution_window: 10s, pane: 10s}
limits: {buckets: 8, suppress_below: 20, min_viewers: 4}
rules:
- {name: share, metric: exposure_share, dimension: item.tone, window: 1m, compare: reference,
   min_support: 1, reference: {targets: {a: 0.5, b: 0.3, secret: 0.1, beside: 0.1}}}
- {name: placed, metric: exposure_rate, dimension: item.tone, window: 1m, min_support: 1}
- {name: saved, metric: engagement_rate, action: save, dimension: item.tone, window: 1m, min_support: 1}
- {name: skew, metric: skew_at_k, dimension: item.tone, window: 1m, compare: reference, min_support: 1,
   tolerance: {low: -0.2}, reference: {targets: {a: 0.5, b: 0.3, secret: 0.1, beside: 0.1}}}
"""


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Return the page of a monitor that saw 300 of `a`, 180 of `b`, 40 of `beside` and 2 of `secret`."""
    feed = Feed(parse_config(CONFIG))
    for tone, count in (("a", 300), ("b", 180), ("beside", 40), ("secret", 2)):
        for viewer in range(count):
            feed.show(T, [{"tone": tone}], viewer)
            if viewer % 5 == 0:
                feed.act(T, {"tone": tone}, "save", viewer)
    feed.show(T + 35_000, [{"tone": "a"}])
    feed.beat(idle=True)
    registry = CollectorRegistry()
    watching = SimpleNamespace(progress=feed.listener.progress, surfaces={"home": feed.watch})
    registry.register(FairnessCollector(feed.config, {0: watching}, dict))
    page = generate_latest(registry).decode()
    return [s for family in text_string_to_metric_families(page) for s in family.samples]


def test_no_sample_is_of_a_hidden_slice(samples: list[Sample]) -> None:
    """Neither of the small one nor of the one beside it, whatever the metric or rule; the others have all."""
    shown: dict[str, set[str]] = {}
    for sample in samples:
        if sample.labels.get("dimension") != "viewer.gender":
            shown.setdefault(sample.name, set()).add(sample.labels.get("slice", ""))
    for name in ("fairness_impressions", "fairness_exposure_share", "fairness_engagement_rate"):
        assert shown[name] == {"a", "b"}
    for name in ("fairness_disparity", "fairness_reference", "fairness_evidence"):
        assert shown[name] == {"a", "b"}
    assert not {"secret", "beside"} & set().union(*shown.values())


def test_metrics_of_dimensions_are_exported_with_their_intervals(samples: list[Sample]) -> None:
    """Smooth ones have both ends; Gini and the like none; no sample is NaN."""
    found = {s.labels["metric"]: s.value for s in samples if s.name == "fairness_dimension_metric"}
    upper = {s.labels["metric"]: s.value for s in samples if s.name == "fairness_dimension_metric_upper"}
    lower = {s.labels["metric"]: s.value for s in samples if s.name == "fairness_dimension_metric_lower"}
    bare = {"gini", "equity_of_attention", "min_skew", "max_skew"}
    assert set(found) >= bare | {"awrf", "kl_divergence", "theil"}
    assert set(upper) == set(lower) == set(found) - bare
    assert all(lower[name] <= upper[name] for name in upper)
    assert not [s for s in samples if s.value != s.value]


def test_rates_are_exported_with_their_intervals(samples: list[Sample]) -> None:
    """A fifth was saved."""
    ends = {
        s.name.removeprefix("fairness_engagement_rate"): s.value
        for s in samples
        if s.name.startswith("fairness_engagement_rate") and s.labels["slice"] == "b"
    }
    assert ends[""] == pytest.approx(0.2)
    assert 0 < ends["_lower"] < 0.2 < ends["_upper"] < 1


def test_rankings_are_exported_with_their_intervals(samples: list[Sample]) -> None:
    """481 requests showed one known item each: all of one group. A mean of 0 has no interval."""
    labels = {"surface": "home", "window": "1m", "dimension": "item.tone"}
    found = {
        (s.name.removeprefix("fairness_ranking"), s.labels.get("metric")): s.value
        for s in samples
        if s.name.startswith("fairness_ranking") and not s.name.startswith("fairness_ranking_slice")
        if labels.items() <= s.labels.items()
    }
    assert found["_requests", None] == 481
    assert found["", "ndkl"] == pytest.approx(math.log(2), abs=1e-6)
    assert (found["", "div_at_k"], found["", "infeasible_index"]) == (0, 0)
    assert {metric for suffix, metric in found if suffix == "_lower"} == {"ndkl", "awrf"}
    assert {metric for suffix, metric in found if suffix == "_upper"} == {"ndkl", "awrf"}


def test_rankings_are_exported_by_slice_of_viewers(samples: list[Sample]) -> None:
    """Here all viewers are in one."""
    by_slice = [s for s in samples if s.name.startswith("fairness_ranking_slice")]
    assert {(s.labels["by"], s.labels["slice"]) for s in by_slice} == {("viewer.gender", "unknown")}
    assert [s.value for s in by_slice if s.name == "fairness_ranking_slice_requests"] == [481]
