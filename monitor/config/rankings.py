"""Checks of the section ``rankings``, and the target shares that it means."""

from collections.abc import Iterator
from math import fsum

from monitor.config.document import Finding
from monitor.config.model import Compare, Config, Curve, Metric, Ranking, Rule

SUM_SLACK = 0.01
"""Shares add up to 1 when they miss it by no more than this."""
_LEAST_WEIGHT = 1e-6
_SUCH_AS = {Metric.NDKL: 0.2, Metric.INFEASIBLE_INDEX: 1, Metric.AWRF: 0.9, Metric.DIV_AT_K: 0.8}
"""Limits to show to somebody who gave a wrong one."""


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


def check_ranking_rule(config: Config, path: tuple[str | int, ...], rule: Rule) -> Iterator[Finding]:
    """What is wrong with a rule on a per-request metric, but for its detectors."""
    ranked = [ranking.dimension for ranking in config.rankings]
    if rule.dimension not in ranked:
        yield Finding(
            (*path, "dimension"),
            f"{rule.metric} needs a ranking of it",
            ", ".join(ranked) or "(none in rankings)",
        )
    for name, given in (
        ("compare", rule.compare is not Compare.REST),
        ("reference", rule.reference is not None),
        ("slices", bool(rule.slices)),
    ):
        if given:
            yield Finding((*path, name), f"{rule.metric} goes by the targets in rankings", "leave it out")
    yield from _ranking_tolerance((*path, "tolerance"), rule)


def _ranking_tolerance(path: tuple[str | int, ...], rule: Rule) -> Iterator[Finding]:
    """A mean over requests has its parity at one end, so its tolerance has one side."""
    metric, best, limits = rule.metric, rule.metric.parity, rule.tolerance
    side, other = ("low", "high") if best else ("high", "low")
    limit, clear = getattr(limits, side), getattr(limits, f"clear_{side}")
    good = f"only {side}, such as {_SUCH_AS[metric]}"
    strange = [name for name in (other, f"clear_{other}") if getattr(limits, name) is not None]
    if strange:
        yield Finding(
            (*path, strange[0]), f"{metric} is never {'above' if best else 'below'} its parity {best:g}", good
        )
    elif limit is None:
        yield Finding(path, f"no {side}", good)
    elif limit <= 0 or (best and limit > best):
        yield Finding((*path, side), f"not {'between 0 and 1' if best else 'above 0'}", good)
    elif clear is not None and not min(limit, best) <= clear <= max(limit, best):
        yield Finding(
            (*path, f"clear_{side}"),
            f"not between {side} and {best:g}",
            f"a mean between {side} and {best:g}",
        )
