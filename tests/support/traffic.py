"""Simulated traffic for tests: a plain scenario, and all of a traffic's blocks in one."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.simulate.planted import Requests
from streams.simulate.scenario import Scenario, parse_scenario
from streams.simulate.traffic import Block, Engagements, Slots, Traffic

START_MS = 1_700_000_000_000

PLAIN = """
surfaces: {{home: {{share: 0.6, items: 5}}, ads: {{share: 0.4, items: 2}}}}
viewers:
  population: 200_000
  attributes: {{gender: {{f: 0.5, m: 0.3, unknown: 0.2}}, age: {{young: 0.7, old: 0.3}}}}
  activity_skew: 0
  session_requests: 1
  rate_sigma: 0
  taste: 0
items: {{attributes: {{tone: {{a: 0.5, b: 0.3, c: 0.2}}, hair: {{straight: 0.6, coily: 0.4}}}}}}
variants: {{control: 0.5, treatment: 0.5}}
actions: {{click: {{rate: 0.3, delay: 1s}}, save: {{rate: 0.1, delay: 1s}}}}
position_effect: 1
disparities: [{planted}]
"""
"""Viewers who come once and are all alike, so that shares are binomial."""


def plain(planted: str = "") -> Scenario:
    """Return the plain scenario with these disparities (YAML)."""
    return parse_scenario(PLAIN.format(planted=planted))


def traffic(scenario: Scenario, *, impressions: int = 40_000, seed: int = 7, hours: int = 4) -> Traffic:
    """Return a traffic of some hours from `START_MS`."""
    return Traffic(
        scenario, seed=seed, start_ms=START_MS, duration_ms=hours * 3_600_000, impressions=impressions
    )


@dataclass(frozen=True)
class Everything:
    """The requests, slots and engagements of all blocks; `slots.row` counts over all of them."""

    requests: Requests
    slots: Slots
    engagements: Engagements


def everything(source: Traffic) -> Everything:
    """Return all blocks of a traffic as one."""
    blocks = list(source.blocks())
    begun = np.cumsum([0] + [len(block.requests.number) for block in blocks])
    slots = [
        Slots(each.row + first, each.position, each.combination, each.item)
        for each, first in zip([block.slots for block in blocks], begun, strict=False)
    ]
    return Everything(
        _joined(Requests, [block.requests for block in blocks]),
        _joined(Slots, slots),
        _joined(Engagements, [block.engagements for block in blocks]),
    )


def _joined(kind: Any, parts: list[Any]) -> Any:
    return kind(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(kind)))


def columns(blocks: list[Block]) -> list[NDArray[np.int64]]:
    """Return every column of some blocks, for comparing."""
    return [
        getattr(part, each.name)
        for block in blocks
        for part in (block.requests, block.slots, block.engagements)
        for each in fields(part)
    ]


def near(hits: np.integer[Any] | int, count: np.integer[Any] | int, share: float) -> bool:
    """Return whether a share seen is within five standard deviations of a binomial one."""
    hit, total = float(hits), float(count)
    return bool(abs(hit / total - share) <= 5 * (share * (1 - share) / total) ** 0.5)
