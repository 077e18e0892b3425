from __future__ import annotations

import pytest

from monitor.config import parse_config
from monitor.panels import Rate, SurfacePanels
from tests.support.core import Feed

T = 1_700_000_000_000

CONFIG = """\
surfaces: [home]
windows: [{length: 1m, slide: 10s}]
attributes: {item: {tone: {}}, viewer: {gender: {}}}
time: {pane: 10s, allowed_lateness: 0s}
engagement: {actions: [save, click], attribution_window: 10s, pane: 10s}
dimensions: [viewer.gender]
limits: {buckets: 8, suppress_below: 5}
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
    """Return a monitor that saw 16 of `a`, 8 of `b` and 3 of `rare`, with two saves of `a`."""
    feed = Feed(parse_config(CONFIG))
    for viewer in range(8):
        tones = ["a", "a", "b", *(["rare"] if viewer < 3 else [])]
        feed.show(T, [{"tone": tone} for tone in tones], viewer, about={"gender": "f" if viewer % 2 else "m"})
    for viewer in (1, 2):
        feed.act(T, {"tone": "a"}, "save", viewer)
    feed.show(T + 35_000, [{"tone": "a"}])
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
    assert Rate("1m", "item.tone", "a", "save", 2 / 16) in rates
    assert Rate("1m", "item.tone", "a", "click", 0.0) in rates
    assert not [rate for rate in rates if rate.slice == "rare"]


def test_nothing_is_shown_of_nothing() -> None:
    """A surface without data has no figures, not zeros."""
    feed = Feed(parse_config(CONFIG))
    feed.beat()
    panels = SurfacePanels(feed.config, feed.watch)
    assert list(panels.shares()) == []
    assert list(panels.rates()) == []
