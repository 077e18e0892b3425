"""Which rules and dimensions a surface has."""

from monitor.config import Config, Rule, WindowSpec


def rules_of(config: Config, surface: str) -> list[Rule]:
    """Rules that watch a surface."""
    return [rule for rule in config.rules if surface in (rule.surfaces or config.surfaces)]


def window_of(config: Config, rule: Rule) -> WindowSpec:
    """The rule's window."""
    return next(spec for spec in config.windows if spec.name == rule.window)


def watched_dimensions(config: Config, surface: str) -> list[str]:
    """Dimensions shown on panels and those of the surface's rules, each once."""
    return list(dict.fromkeys([*config.dimensions, *(rule.dimension for rule in rules_of(config, surface))]))
