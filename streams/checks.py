"""``fairstream check``: what a configuration would watch."""

from rich.console import Console
from rich.table import Table

from monitor.config import Config, Rule, config_sha256, meaning_sha256
from monitor.references import declared_slices
from monitor.rules import rules_of


def slices_of(config: Config, rule: Rule) -> int | None:
    """How many slices a rule would judge on a surface; None if only the traffic can tell."""
    if rule.slices:
        return len(rule.slices)
    total = 1
    for part in rule.dimension.split("*"):
        declared = len(declared_slices(config.attributes, part))
        if not declared:
            targets = rule.reference.targets if rule.reference else None
            return len(targets) if targets else None
        total *= declared
    return total


def series_text(config: Config) -> str:
    """The number of series over all rules and surfaces, as far as the configuration tells."""
    known = 0
    open_rules = 0
    for rule in config.rules:
        surfaces = len(rule.surfaces or config.surfaces)
        slices = slices_of(config, rule)
        if slices is None:
            open_rules += 1
        else:
            known += surfaces * slices
    more = f", and those of {open_rules} rules whose slices only the traffic tells" if open_rules else ""
    return f"{known} series{more} (at most {config.limits.max_series} slices of a dimension on a surface)"


def print_check(config: Config, file: str, console: Console) -> None:
    """Print dimensions, windows, rules and the number of series."""

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    say(f"{file}: good (sha256 {config_sha256(config)[:16]}, meaning of sums {meaning_sha256(config)})")
    say(f"surfaces    {', '.join(config.surfaces)}")
    windows = ", ".join(f"{w.length} every {w.slide}" for w in config.windows)
    late = config.time.allowed_lateness
    say(f"windows     {windows}; panes of {config.time.pane}, closed {late} after their end")
    dimensions = dict.fromkeys([*config.dimensions, *(rule.dimension for rule in config.rules)])
    say(f"dimensions  {', '.join(dimensions) or '(none)'}")
    say(f"exposure    {config.exposure.curve}; top k is {config.exposure.k}")
    if config.engagement.actions:
        e = config.engagement
        say(f"engagement  {', '.join(e.actions)}; credited for {e.attribution_window}, panes of {e.pane}")
    say(f"rules       {len(config.rules)}; {series_text(config)}")
    table = Table("rule", "watches", "against", "tolerance", "detectors", "for", "severity")
    for rule in config.rules:
        where = ", ".join(rule.surfaces or config.surfaces)
        table.add_row(
            rule.name,
            f"{_metric(rule)} of {rule.dimension}\n{rule.window}, on {where}",
            _against(rule),
            _tolerance(rule),
            " or ".join(spec.kind for spec in rule.detectors),
            str(rule.hold),
            rule.severity,
        )
    if config.rules:
        console.print(table)
    unwatched = [s for s in config.surfaces if not rules_of(config, s)]
    if unwatched:
        say(f"no rule watches {', '.join(unwatched)}")


def _metric(rule: Rule) -> str:
    words = rule.metric.replace("_", " ")
    return words.replace("engagement", rule.action) if rule.action is not None else words


def _against(rule: Rule) -> str:
    reference = rule.reference
    if reference is None:
        return "the rest"
    if reference.baseline is not None:
        b = reference.baseline
        stretch = f"first {b.first}" if b.first is not None else f"{b.start} to {b.end}"
        return f"baseline: {stretch}" + (f" ({b.relearn})" if b.relearn else "")
    return "targets" if reference.targets else "equal shares"


def _tolerance(rule: Rule) -> str:
    low, high = rule.tolerance.low, rule.tolerance.high
    return f"{'' if low is None else low} to {'' if high is None else high}".strip()
