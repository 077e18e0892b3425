"""The recount of per-request metrics: one ranking, item by item, as the formulas stand in the papers.

Logarithms of quotients are written as differences and sums run from the top, groups in order of the
alphabet, so that the last bit is the same too.
"""

import math
from collections.abc import Callable
from typing import Any

from monitor.config import Attribute, Config, Ranking

_MICRO = 1_000_000


def request_measures(
    config: Config, ranking: Ranking, event: dict[str, Any], weight: Callable[[int], int]
) -> list[int]:
    """What a request adds: 1, then NDKL, AWRF, DIV@k and InfeasibleIndex in millionths; zeros of no ranking.

    ``weight`` gives the micro-exposure of a place.
    """
    attribute = ranking.dimension.removeprefix("item.")
    target = _target(config.attributes.item[attribute], ranking)
    places = [item.get("position", number) for number, item in enumerate(event["items"], start=1)]
    values = [(item.get("attrs") or {}).get(attribute) or "unknown" for item in event["items"]]
    shown = sorted(zip(places, values, strict=True), key=lambda pair: pair[0])
    ranked = [value for _, value in shown if value in target]
    if not ranked:
        return [0] * 5
    figures = (
        ndkl(ranked, target),
        awrf(ranked, target, weight),
        float(all(value in ranked[: ranking.k] for value in target)),
        float(infeasible_index(ranked, target, ranking.k)),
    )
    return [1, *(round(figure * _MICRO) for figure in figures)]


def _target(attribute: Attribute, ranking: Ranking) -> dict[str, float]:
    given = ranking.targets or dict.fromkeys(attribute.values or [], 1.0)
    total = math.fsum(given.values())
    return {value: given[value] / total for value in sorted(given)}


def ndkl(ranked: list[str], target: dict[str, float]) -> float:
    """Geyik et al., KDD 2019: KL divergence of every prefix, discounted and normalised."""
    total = norm = 0.0
    for i in range(1, len(ranked) + 1):
        divergence = 0.0
        for value, due in target.items():
            count = ranked[:i].count(value)
            if count:
                divergence += count / i * (math.log(count) - math.log(i) - math.log(due))
        total += 1 / math.log2(i + 1) * divergence
        norm += 1 / math.log2(i + 1)
    return total / norm


def awrf(ranked: list[str], target: dict[str, float], weight: Callable[[int], int]) -> float:
    """TREC Fair Ranking 2022: 1 minus the Jensen-Shannon divergence of exposure and target, base 2."""
    weights = [weight(place) if place <= 10_000 else 0 for place in range(1, len(ranked) + 1)]
    divergence = 0.0
    for value, due in target.items():
        part = sum(w for w, each in zip(weights, ranked, strict=True) if each == value) / sum(weights)
        middle = (part + due) / 2
        divergence += part * math.log(part / middle) if part else 0.0
        divergence += due * math.log(due / middle)
    return 1 - divergence / (2 * math.log(2))


def infeasible_index(ranked: list[str], target: dict[str, float], k: int) -> int:
    """Geyik et al., KDD 2019: prefixes up to k with fewer of a group than floor(q i)."""
    return sum(
        any(ranked[:i].count(value) < math.floor(due * i + 1e-9) for value, due in target.items())
        for i in range(1, min(k, len(ranked)) + 1)
    )
