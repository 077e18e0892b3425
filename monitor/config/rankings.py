"""Checks of the section ``rankings``, and the target shares that it means."""

from collections.abc import Iterator
from math import fsum

from monitor.config.document import Finding
from monitor.config.model import Config, Curve, Ranking

SUM_SLACK = 0.01
"""Shares add up to 1 when they miss it by no more than this."""
_LEAST_WEIGHT = 1e-6


def ranking_targets(config: Config, ranking: Ranking) -> dict[str, float]:
    """Share due to each value, adding up to 1, the values in order of the alphabet."""
    given = ranking.targets
    if given is None:
        given = dict.fromkeys(
            config.attributes.item[ranking.dimension.removeprefix("item.")].values or [], 1.0
        )
    total = fsum(given.values())
    return {value: given[value] / total for value in sorted(given)}


def check_rankings(config: Config) -> Iterator[Finding]:
    """What is wrong with ``rankings``."""
    seen: set[str] = set()
    items = [f"item.{name}" for name in config.attributes.item]
    for index, ranking in enumerate(config.rankings):
        path = ("rankings", index)
        if ranking.dimension not in items:
            yield Finding(
                (*path, "dimension"), "not one attribute of items", ", ".join(items) or "(none configured)"
            )
            continue
        if ranking.dimension in seen:
            yield Finding((*path, "dimension"), "another ranking has it", "each attribute once")
        seen.add(ranking.dimension)
        yield from _ranking_targets(config, path, ranking)
    table = config.exposure.table
    if config.rankings and config.exposure.curve is Curve.TABLE and table and table[0] < _LEAST_WEIGHT:
        yield Finding(
            ("exposure", "table"),
            "rankings need attention at position 1",
            f"at first at least {_LEAST_WEIGHT}",
        )


def _ranking_targets(config: Config, path: tuple[str | int, ...], ranking: Ranking) -> Iterator[Finding]:
    declared = config.attributes.item[ranking.dimension.removeprefix("item.")].values
    if ranking.targets is None and not declared:
        yield Finding(path, "no targets, and its attribute declares no values", "targets:, a share of each")
    if len(declared or [] if ranking.targets is None else ranking.targets) == 1:
        yield Finding(path, "only one value", "two values or more")
    if ranking.targets is None:
        return
    strange = [value for value in ranking.targets if declared and value not in [*declared, "unknown"]]
    if strange:
        yield Finding((*path, "targets"), f"{strange[0]} is not a declared value", ", ".join(declared or []))
    if abs(sum(ranking.targets.values()) - 1) > SUM_SLACK:
        yield Finding((*path, "targets"), "the shares do not add up to 1", "a sum between 0.99 and 1.01")
