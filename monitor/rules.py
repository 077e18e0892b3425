"""Which rules and dimensions a surface has."""

from monitor.config import Config, Rule, WindowSpec
from monitor.slices import ALL


def rules_of(config: Config, surface: str) -> list[Rule]:
    """Rules that watch a surface."""
    return [rule for rule in config.rules if surface in (rule.surfaces or config.surfaces)]


def window_of(config: Config, rule: Rule) -> WindowSpec:
    """The rule's window."""
    return next(spec for spec in config.windows if spec.name == rule.window)


def watched_dimensions(config: Config, surface: str) -> list[str]:
    """Dimensions that are shown: those listed and those of the surface's rules, each once."""
    return list(dict.fromkeys([*config.dimensions, *(rule.dimension for rule in rules_of(config, surface))]))


def judged_dimension(rule: Rule) -> str:
    """The dimension whose slices the rule judges: of a mean over requests ``*``, which has one."""
    return ALL if rule.metric.of_requests else rule.dimension


def strata_of(rule: Rule) -> str | None:
    """The rule's dimension with the strata inside of which its slices are compared; None without strata."""
    strata = next((spec.strata for spec in rule.detectors if spec.strata is not None), None)
    return None if strata is None else f"{rule.dimension}*{strata}"


def summed_dimensions(config: Config, surface: str) -> list[str]:
    """Dimensions that windows hold: those shown, those of rules with strata; with rankings, all cells."""
    strata = [strata_of(rule) for rule in rules_of(config, surface)]
    more = [*(s for s in strata if s is not None), *([ALL] if config.rankings else [])]
    return list(dict.fromkeys([*watched_dimensions(config, surface), *more]))
