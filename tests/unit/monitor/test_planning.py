"""What `check` promises: the smallest disparity that is seen within a time."""

from __future__ import annotations

import pytest

from monitor.budget import allowance_of
from monitor.config import Config, parse_config
from monitor.planning import SLOWER, Traffic, best_delay, information, least_difference, outlooks

WITHIN = [60.0, 1_440.0, 10_080.0]


def a_config(more: str) -> Config:
    """Return a configuration with one e-detector on two tones."""
    return parse_config(
        f"""\
surfaces: [home]
windows: [{{length: 1h, slide: 1m}}]
attributes: {{item: {{tone: {{values: [a, b]}}}}}}
engagement: {{actions: [save]}}
rules:
- name: r
  dimension: item.tone
  window: 1h
  detectors: [{{kind: e_detector}}]
  {more}
"""
    )


SAVES = "metric: engagement_rate\n  action: save"
TARGETS = "metric: impression_share\n  compare: reference\n  reference: {targets: {a: 0.9, b: 0.1}}"


@pytest.mark.parametrize("nats", [1e-5, 1e-3, 0.1, 3.0])
@pytest.mark.parametrize("interval", [1e4, 1e7, 1e10])
def test_the_least_difference_is_the_inverse_of_the_best_delay(nats: float, interval: float) -> None:
    """What is seen in D* minutes is the difference whose D* it is."""
    delay = best_delay(nats, interval)
    found = least_difference(delay, interval, 54.0, 0.145)
    assert information(found, 54.0, 0.145) == pytest.approx(nats, rel=1e-6)


def test_a_longer_interval_between_false_pages_costs_little() -> None:
    """A budget ten times stricter takes between 10 and 30 % longer, at ordinary traffic."""
    once, rarer = (best_delay(0.0186, interval) for interval in (6e6, 6e7))
    assert 1.1 < rarer / once < 1.3


@pytest.mark.parametrize("rule", [SAVES, TARGETS])
def test_more_traffic_and_more_time_show_smaller_disparities(rule: str) -> None:
    """On both sides, beyond the tolerance, never nearer."""
    config = a_config(rule)
    small, large = (outlooks(config, Traffic(volume), WITHIN) for volume in (600.0, 60_000.0))
    for few, many in zip(small, large, strict=True):
        assert [(x.rule, x.slice) for x in (few, many)] == [("r", few.slice)] * 2
        for low, high in ((few.low, few.high), (many.low, many.high)):
            below, above = [x or 0.0 for x in low], [x for x in high if x is not None]
            assert below == sorted(below)
            assert above == sorted(above, reverse=True)
            assert max(below) < 0.8
            assert min(above) > 1.25
        assert (few.low[1] or 0.0) < (many.low[1] or 0.0)
        assert (few.high[1] or 0.0) > (many.high[1] or 0.0)


def test_a_rate_is_planned_as_its_simulation_is() -> None:
    """The ratio that is seen within a day has the delay D* of a day, at the slice's part of the budget."""
    config = a_config(SAVES)
    traffic = Traffic(600, rate=0.05, design_effect=2.0)
    found = outlooks(config, traffic, [1_440.0])[0]
    per_day = allowance_of(config, config.rules[0]).of(["a", "b"])[0] / 2
    assert found.low[0] is not None
    difference = (0.8 - found.low[0]) * 0.05
    nats = information(difference, 600 * 0.25, 0.05 * 0.95 * 2.0)
    assert best_delay(nats, 1_440 / per_day) == pytest.approx(1_440 / SLOWER, rel=1e-6)


def test_a_side_that_is_not_judged_and_an_absence_that_is_not_seen_are_none() -> None:
    """Without an upper limit there is no disparity above it; with a handful of impressions none is seen."""
    found = outlooks(a_config(SAVES + "\n  tolerance: {low: 0.8}"), Traffic(2), [60.0])[0]
    assert (found.low, found.high) == ([None], [None])
