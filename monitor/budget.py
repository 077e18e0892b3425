"""The false-alarm budget of the whole configuration, divided over its series."""

from typing import NamedTuple

from monitor.config import Config, DetectorKind, Rule, parse_duration
from monitor.references import declared_slices

DAY_MS = 86_400_000
RESERVE = 0.1
"""Part of a rule's budget that is kept for slices that nobody declared, where some are declared."""


class Allowance(NamedTuple):
    """What one rule on one surface may spend on false pages."""

    per_day: float
    declared: tuple[str, ...]
    """Slices known beforehand; they share equally."""
    closed: bool
    """Whether no other slices are judged."""

    def of(self, slices: list[str]) -> list[float]:
        """False pages a day for each slice; ``slices`` in the order in which they first appeared.

        Of slices that nobody declared the i-th gets 1 / (i (i+1)) of what is left for them: however many
        come, the sum stays within the budget, and what one has is never taken away by the next.

        >>> Allowance(1.0, ("1", "2"), False).of(["unknown", "2", "new"])
        [0.05, 0.45, 0.016666666666666666]
        """
        kept = 0.0 if self.closed else RESERVE if self.declared else 1.0
        strangers = 0
        found = []
        for slice_ in slices:
            if slice_ in self.declared:
                found.append(self.per_day * (1 - kept) / len(self.declared))
            else:
                strangers += 1
                found.append(self.per_day * kept / (strangers * (strangers + 1)))
        return found


def pages_per_day(config: Config) -> float:
    r"""What the configuration's ``false_alarm_budget`` allows.

    >>> from monitor.config import parse_config
    >>> text = "surfaces: [a]\nwindows: [{length: 1h, slide: 1m}]\nfalse_alarm_budget: 3 per 30d"
    >>> pages_per_day(parse_config(text))
    0.1
    """
    pages, _, length = config.false_alarm_budget.partition(" per ")
    return float(pages) * DAY_MS / parse_duration(length)


def is_budgeted(rule: Rule) -> bool:
    """Whether the rule spends of the budget: one of its detectors is an e-detector."""
    return any(spec.kind is DetectorKind.E_DETECTOR for spec in rule.detectors)


def known_slices(config: Config, rule: Rule) -> tuple[str, ...]:
    """Slices that a rule is sure to judge: named by it, by its targets, or declared by its attributes."""
    if rule.slices:
        return tuple(rule.slices)
    if rule.reference is not None and rule.reference.targets:
        return tuple(rule.reference.targets)
    known = [""]
    for part in rule.dimension.split("*"):
        values = declared_slices(config.attributes, part)
        known = [f"{name}*{value}" if name else value for name in known for value in values]
    return tuple(known)


def allowance_of(config: Config, rule: Rule) -> Allowance:
    """The rule's part on each of its surfaces: the same for every budgeted rule and surface."""
    watched = sum(len(r.surfaces or config.surfaces) for r in config.rules if is_budgeted(r))
    share = pages_per_day(config) / watched if is_budgeted(rule) else 0.0
    return Allowance(share, known_slices(config, rule), bool(rule.slices))
