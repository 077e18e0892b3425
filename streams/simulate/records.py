"""Impressions and engagements as the contract writes them, encoded for their topics."""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, Struct, UnsetType

from streams.simulate.traffic import Block, Traffic


class Kind(StrEnum):
    """Which topic a record is for."""

    IMPRESSION = "impression"
    ENGAGEMENT = "engagement"


class Record(NamedTuple):
    """One record to produce; ``ts_ms`` is its event time."""

    kind: Kind
    ts_ms: int
    key: bytes
    value: bytes


class Item(Struct, frozen=True):
    """One item of an impression; ``position`` counts from 1."""

    id: str
    position: int
    attrs: dict[str, str]


class Candidates(Struct, frozen=True):
    """How many items with these attributes a request could have shown."""

    attrs: dict[str, str]
    count: int


class Impression(Struct, frozen=True):
    """One request with the items shown."""

    ts: int
    request_id: str
    viewer_id: str
    surface: str
    items: list[Item]
    variant: str | UnsetType = UNSET
    viewer: dict[str, str] | UnsetType = UNSET
    candidates: list[Candidates] | UnsetType = UNSET


class Engagement(Struct, frozen=True):
    """One action on one item; it carries all that is needed to credit it."""

    ts: int
    request_id: str
    viewer_id: str
    surface: str
    item_id: str
    action: str
    impression_ts: int
    attrs: dict[str, str]
    variant: str | UnsetType = UNSET
    viewer: dict[str, str] | UnsetType = UNSET


_encode = msgspec.json.Encoder().encode


def impression_record(impression: Impression) -> Record:
    """The impression, encoded and keyed by its viewer."""
    return Record(Kind.IMPRESSION, impression.ts, impression.viewer_id.encode(), _encode(impression))


def engagement_record(engagement: Engagement) -> Record:
    """The engagement, encoded and keyed by its viewer."""
    return Record(Kind.ENGAGEMENT, engagement.ts, engagement.viewer_id.encode(), _encode(engagement))


class Recorder:
    """Turns the blocks of one traffic into records."""

    def __init__(self, traffic: Traffic) -> None:
        scenario = traffic.scenario
        self._surfaces = list(scenario.surfaces)
        self._actions = list(scenario.actions)
        self._variants: list[str | UnsetType] = list(scenario.variants) or [UNSET]
        self._profiles = traffic.profiles.records()
        self._attrs = traffic.items.records()
        self._per_combination = scenario.items.per_combination
        self._profile = traffic.population.profile
        self._variant = traffic.population.variant
        # The start is part of every request's id, so that two stretches of traffic share none.
        self._prefix = f"r{traffic.plan.start_ms:x}-"

    def records(self, block: Block) -> list[Record]:
        """The block's records in the order of their event times."""
        records = [*map(impression_record, self._impressions(block))]
        records += map(engagement_record, self._engagements(block))
        return [records[index] for index in block.order().tolist()]

    def _impressions(self, block: Block) -> Iterator[Impression]:
        requests, slots = block.requests, block.slots
        attrs = self._attrs
        items = [
            Item(f"p{item}", position, attrs[combination])
            for item, position, combination in zip(
                slots.item.tolist(), slots.position.tolist(), slots.combination.tolist(), strict=True
            )
        ]
        ends = np.cumsum(requests.items)
        candidates = self._candidates(block)
        for number, ts, viewer, surface, variant, profile, first, end in zip(
            requests.number.tolist(),
            requests.ts_ms.tolist(),
            requests.viewer.tolist(),
            requests.surface.tolist(),
            self._variant[requests.viewer].tolist(),
            self._profile[requests.viewer].tolist(),
            (ends - requests.items).tolist(),
            ends.tolist(),
            strict=True,
        ):
            yield Impression(
                ts,
                f"{self._prefix}{number}",
                f"u{viewer}",
                self._surfaces[surface],
                items[first:end],
                self._variants[variant],
                self._profiles[profile],
                next(candidates),
            )

    def _candidates(self, block: Block) -> Iterator[list[Candidates] | UnsetType]:
        """Those of each request, by their attributes."""
        attrs = self._attrs
        for counts in block.candidates.tolist():
            told = [Candidates(each, count) for each, count in zip(attrs, counts, strict=False) if count]
            yield told or UNSET

    def _engagements(self, block: Block) -> Iterator[Engagement]:
        engagements = block.engagements
        for ts, shown, request, viewer, surface, item, action, variant, profile in zip(
            engagements.ts_ms.tolist(),
            engagements.impression_ts_ms.tolist(),
            engagements.request.tolist(),
            engagements.viewer.tolist(),
            engagements.surface.tolist(),
            engagements.item.tolist(),
            engagements.action.tolist(),
            self._variant[engagements.viewer].tolist(),
            self._profile[engagements.viewer].tolist(),
            strict=True,
        ):
            yield Engagement(
                ts,
                f"{self._prefix}{request}",
                f"u{viewer}",
                self._surfaces[surface],
                f"p{item}",
                self._actions[action],
                shown,
                self._attrs[item // self._per_combination],
                self._variants[variant],
                self._profiles[profile],
            )
