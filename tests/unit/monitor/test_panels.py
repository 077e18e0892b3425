from __future__ import annotations

import numpy as np
import pytest

from monitor.config import parse_config
from monitor.panels import SurfacePanels
from tests.support.core import Feed

T = 1_700_000_000_000

CONFIG = """\
surfaces: [home]
windows: [{length: 1m, slide: 10s}]
attributes: {item: {tone: {}}, viewer: {gender: {}}}
time: {pane: 10s, allowed_lateness: 0s}
engagement: {actions: [save, click], attribution_window: 10s, pane: 10s}
dimensions: [viewer.gender]
limits: {buckets: 8, suppress_below: 5, min_viewers: 2}
rules:
- name: tone
  metric: impression_share
  dimension: item.tone
  window: 1m
  compare: reference
  reference: {targets: {a: 0.6, b: 0.3, gone: 0.1}}
"""


@pytest.fixture
def feed() -> Feed:
    """Return a monitor that saw 16 of `a`, 8 of `b`, 3 each of two rare ones, with two saves of `a`."""
    feed = Feed(parse_config(CONFIG))
    for viewer in range(8):
        tones = ["a", "a", "b", *(["rare"] if viewer < 3 else []), *(["odd"] if viewer > 4 else [])]
        feed.show(T, [{"tone": tone} for tone in tones], viewer, about={"gender": "f" if viewer % 2 else "m"})
    for viewer in (1, 2):
        feed.act(T, {"tone": "a"}, "save", viewer)
    feed.show(T + 35_000, [{"tone": "a"}], about={"gender": "m"})
    feed.beat(idle=True)
    return feed


def test_shares_of_every_slice_that_is_large_enough(feed: Feed) -> None:
    """Each dimension's slices have impressions, share and interval; small ones are left out."""
    shares = {(s.dimension, s.slice): s for s in SurfacePanels(feed.config, feed.watch).shares()}
    assert set(shares) == {
        ("viewer.gender", "f"),
        ("viewer.gender", "m"),
        ("item.tone", "a"),
        ("item.tone", "b"),
        ("item.tone", "gone"),
    }
    a = shares["item.tone", "a"]
    assert (a.window, a.impressions) == ("1m", 17)
    assert 0 < a.lower < a.share < a.upper <= 1
    assert shares["item.tone", "gone"][3:6] == (0, 0.0, 0.0)


def test_rates_of_matured_panes(feed: Feed) -> None:
    """Engagements per impression, for each action, of panes whose attribution window is over."""
    rates = list(SurfacePanels(feed.config, feed.watch).rates())
    assert ("1m", "item.tone", "a", "save", 2 / 16) in [rate[:5] for rate in rates]
    assert ("1m", "item.tone", "a", "click", 0.0) in [rate[:5] for rate in rates]
    assert not [rate for rate in rates if rate.slice in {"rare", "odd"}]
    assert np.isnan([rate.lower for rate in rates]).all()  # of two saves there is no interval


def test_rates_have_intervals_where_enough_is_expected() -> None:
    """Of 160 impressions with 40 saves."""
    feed = Feed(parse_config(CONFIG))
    for viewer in range(40):
        feed.show(T, [{"tone": tone} for tone in ("a", "a", "b", "b")], viewer)
        feed.act(T, {"tone": "a" if viewer % 3 else "b"}, "save", viewer)
    feed.show(T + 35_000, [{"tone": "a"}])
    feed.beat(idle=True)
    rates = [r for r in SurfacePanels(feed.config, feed.watch).rates() if r.dimension == "item.tone"]
    saves = {r.slice: r for r in rates if r.action == "save"}
    assert set(saves) == {"a", "b"}
    for rate in saves.values():
        assert 0 < rate.lower < rate.rate < rate.upper < 1


def test_metrics_of_dimensions_against_the_rules_reference(feed: Feed) -> None:
    """Each dimension has its inequality; divergences need a rule on exposure, skew one on the top k."""
    plain = {(w.dimension, w.metric.name) for w in SurfacePanels(feed.config, feed.watch).wholes()}
    inequality = {"theil", "gini", "expected_exposure_disparity"}
    assert plain == {(d, m) for d in ("item.tone", "viewer.gender") for m in inequality}
    for metric, expected in (
        ("exposure_share", {"awrf", "kl_divergence", "equity_of_attention"}),
        ("top_k_share", {"max_skew"}),
    ):
        other = Feed(parse_config(CONFIG.replace("metric: impression_share", f"metric: {metric}")))
        for viewer in range(8):
            other.show(T, [{"tone": "a"}, {"tone": "b"}], viewer)
        other.beat(idle=True)
        found = {w.metric.name for w in SurfacePanels(other.config, other.watch).wholes()}
        assert expected <= found - inequality


def test_nothing_is_shown_of_nothing() -> None:
    """A surface without data has no figures, not zeros."""
    feed = Feed(parse_config(CONFIG))
    feed.beat()
    panels = SurfacePanels(feed.config, feed.watch)
    assert list(panels.shares()) == []
    assert list(panels.rates()) == []
    assert list(panels.wholes()) == []
