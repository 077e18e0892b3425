"""What simulated traffic looks like: one YAML file, one typed model, errors that name their line."""

import math
from collections.abc import Iterable, Iterator
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct, field

from monitor.config.document import Finding, parse_document
from monitor.config.durations import Duration, parse_duration
from monitor.config.model import AttributeName, AttributeValue, Name, Positive, PositiveFloat

Probability = Annotated[float, Meta(ge=0, le=1)]
NotNegative = Annotated[float, Meta(ge=0)]
Shares = dict[AttributeValue, Probability]

UNKNOWN = "unknown"
"""An attribute drawn with this value is left out of the records."""


class Surface(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One place where items are shown: its share of the requests, and how many items each shows."""

    share: Probability
    items: Annotated[int, Meta(ge=1, le=1_000)] = 10


class Viewers(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who looks. Viewers come back, in sessions and over the days, and differ from each other."""

    population: Annotated[int, Meta(ge=1, le=10_000_000)] = 50_000
    attributes: dict[AttributeName, Shares] = {}
    activity_skew: NotNegative = 0.5
    """The n-th most active viewer is active in proportion to n to the power of minus this."""
    session_requests: Annotated[float, Meta(ge=1)] = 4.0
    """Requests of a session, on average."""
    session_gap: Duration = field(default_factory=lambda: parse_duration("30s"))
    """Time between two requests of a session, on average."""
    rate_sigma: NotNegative = 0.5
    """Spread (standard deviation of the logarithm) of the viewers' own engagement rates."""
    taste: Probability = 0.2
    """Fraction of slots filled with the one combination of item attributes that the viewer likes best."""


class Items(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is shown. Attributes are independent of each other."""

    attributes: dict[AttributeName, Shares] = {}
    per_combination: Positive = 50
    """Distinct items of each combination of attributes."""
    candidates: Annotated[int, Meta(ge=0, le=1_000)] = 0
    """How many items a request says that it could have shown, those shown among them; 0: it says nothing."""


class Action(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of engagement."""

    rate: Probability
    """Chance per impression at position 1."""
    delay: Duration = field(default_factory=lambda: parse_duration("10s"))
    """Time from impression to engagement, on average."""


class Diurnal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The day's cycle: ``1 + amplitude * cos(...)`` of the average traffic, highest at ``peak_hour`` UTC."""

    amplitude: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    peak_hour: Annotated[float, Meta(ge=0, lt=24)] = 20.0


class What(StrEnum):
    """What a disparity does to the items it hits."""

    SHOWN = "shown"
    """Their share of the slots is multiplied."""
    RANKED = "ranked"
    """Their odds of standing before another item of the same request are multiplied."""
    ENGAGED = "engaged"
    """The rate of an action on them is multiplied."""


class Disparity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A planted disparity: who, what, how much, from when to when (since the start of the traffic)."""

    who: dict[str, str | list[str]]
    """Keys ``surface``, ``variant``, ``viewer.NAME``, ``item.NAME``; all of them must hold."""
    what: What
    factor: PositiveFloat
    action: str | None = None
    """``engaged`` only: the action; default all of them."""
    start: Duration = field(default_factory=lambda: Duration(0), name="from")
    end: Duration | None = field(default=None, name="to")


class Scenario(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    surfaces: Annotated[dict[Name, Surface], Meta(min_length=1)]
    viewers: Viewers = field(default_factory=Viewers)
    items: Items = field(default_factory=Items)
    variants: Shares = {}
    """Rankers under test; each viewer stays with one of them."""
    actions: dict[Name, Action] = {}
    position_effect: Annotated[float, Meta(gt=0, le=1)] = 0.9
    """Each further position has this much of the rate of the one before."""
    diurnal: Diurnal = field(default_factory=Diurnal)
    disparities: list[Disparity] = []


def load_scenario(path: Path | None = None) -> Scenario:
    """The scenario of a file, or the one that fairstream ships (image discovery).

    Raises:
        ConfigError: with every problem found, each with line, field, value and what is allowed.
    """
    if path is not None:
        return parse_scenario(path.read_text(encoding="utf-8"), str(path))
    shipped = files("streams") / "demo_data" / "scenario.yaml"
    return parse_scenario(shipped.read_text(encoding="utf-8"), "scenario.yaml")


def parse_scenario(text: str, file: str = "") -> Scenario:
    r"""Parse and check a scenario.

    Raises:
        ConfigError: with every problem found, each with line, field, value and what is allowed.

    >>> parse_scenario("surfaces: {home: {share: 1, items: 5}}").surfaces["home"].items
    5
    """
    return parse_document(text, Scenario, check_scenario, file)


def choices(scenario: Scenario) -> dict[str, list[str]]:
    """What a disparity's ``who`` may name: every key with its values."""
    return {
        "surface": list(scenario.surfaces),
        "variant": list(scenario.variants),
        **{f"viewer.{name}": list(shares) for name, shares in scenario.viewers.attributes.items()},
        **{f"item.{name}": list(shares) for name, shares in scenario.items.attributes.items()},
    }


def wanted(condition: str | list[str]) -> list[str]:
    """The values of one condition of ``who``, which may be a single one."""
    return [condition] if isinstance(condition, str) else condition


def item_share(scenario: Scenario, who: dict[str, str | list[str]]) -> float:
    """Share of the slots that a disparity's items have without it."""
    return math.prod(
        math.fsum(shares[value] for value in wanted(who[f"item.{name}"])) / math.fsum(shares.values())
        for name, shares in scenario.items.attributes.items()
        if f"item.{name}" in who
    )


def check_scenario(scenario: Scenario) -> Iterable[Finding]:
    """Everything wrong across fields."""
    yield from _shares(("surfaces",), [surface.share for surface in scenario.surfaces.values()])
    if scenario.variants:
        yield from _shares(("variants",), scenario.variants.values())
    for section, attributes in (
        ("viewers", scenario.viewers.attributes),
        ("items", scenario.items.attributes),
    ):
        for name, shares in attributes.items():
            yield from _shares((section, "attributes", name), shares.values())
    most = max(surface.items for surface in scenario.surfaces.values())
    if scenario.items.per_combination < most:
        path = ("items", "per_combination")
        yield Finding(path, "fewer than the items of a request, which must differ", f"at least {most}")
    for index, disparity in enumerate(scenario.disparities):
        yield from _disparity(scenario, ("disparities", index), disparity)


def _shares(path: tuple[str | int, ...], shares: Iterable[float]) -> Iterator[Finding]:
    total = math.fsum(shares)
    if abs(total - 1) > 0.01:
        yield Finding(path, f"the shares add up to {total:.3g}", "a sum between 0.99 and 1.01")


def _disparity(scenario: Scenario, path: tuple[str | int, ...], disparity: Disparity) -> Iterator[Finding]:
    unknown = list(_who(scenario, (*path, "who"), disparity))
    yield from unknown
    if disparity.end is not None and disparity.end <= disparity.start:
        yield Finding((*path, "to"), "not after from", "a later time, or leave it out")
    if disparity.what is What.ENGAGED:
        if disparity.action is not None and disparity.action not in scenario.actions:
            yield Finding((*path, "action"), "no such action", ", ".join(scenario.actions) or "(none)")
        return
    if disparity.action is not None:
        yield Finding((*path, "action"), f"{disparity.what} has no action", "leave it out")
    if not any(key.startswith("item.") for key in disparity.who):
        yield Finding((*path, "who"), f"{disparity.what} needs some of the items", "at least one item.NAME")
    elif not unknown and disparity.what is What.SHOWN:
        share = item_share(scenario, disparity.who)
        if share >= 1 or share * disparity.factor > 1:
            yield Finding((*path, "factor"), f"too much for a share of {share:.3g}", f"below {1 / share:.3g}")


def _who(scenario: Scenario, path: tuple[str | int, ...], disparity: Disparity) -> Iterator[Finding]:
    known = choices(scenario)
    for key, condition in disparity.who.items():
        if key not in known:
            yield Finding((*path, key), "nothing of this name", ", ".join(known))
        elif not set(wanted(condition)) <= set(known[key]):
            yield Finding((*path, key), "no such value", ", ".join(known[key]) or "(none)")
