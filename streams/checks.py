"""``fairstream check``: what a configuration would watch."""

from rich.console import Console
from rich.table import Table

from monitor.budget import is_budgeted
from monitor.config import Config, Rule, config_sha256, meaning_sha256
from monitor.config.rankings import ranking_targets
from monitor.planning import Traffic, outlooks
from monitor.references import declared_slices
from monitor.rules import rules_of


def slices_of(config: Config, rule: Rule) -> int | None:
    """How many slices a rule would judge on a surface; None if only the traffic can tell."""
    if rule.slices:
        return len(rule.slices)
    if rule.metric.of_requests:
        return 1
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


def budget_text(config: Config) -> str:
    """The false pages that the whole configuration may be expected to send."""
    kept = [rule.name for rule in config.rules if is_budgeted(rule)]
    others = [rule.name for rule in config.rules if not is_budgeted(rule)]
    text = f"false pages {config.false_alarm_budget} at most from {len(kept)} rules with an e_detector"
    if not kept:
        text = "false pages no rule has an e_detector"
    mixed = [r.name for r in config.rules if is_budgeted(r) and len(r.detectors) > 1]
    loose = [*others, *mixed]
    return text + (f"; no guarantee for {', '.join(loose)}" if loose else "")


def print_outlook(config: Config, traffic: Traffic, console: Console) -> None:
    """Print which disparities the budgeted rules see within an hour, a day and a week."""
    assumed = (
        f"{traffic.impressions:g} impressions a minute on each surface",
        f"{100 * traffic.rate:g} % of them engaged with",
        f"a design effect of {traffic.design_effect:g}",
        "equal shares where there are no targets",
    )
    text = f"\nDisparities that half of the time are seen within a time, at {', '.join(assumed)}:"
    console.print(text, highlight=False)
    table = Table("rule", "slice", "share", "an hour", "a day", "a week")
    for each in outlooks(config, traffic, [60.0, 1_440.0, 10_080.0]):
        seen = (_seen(low, high) for low, high in zip(each.low, each.high, strict=True))
        table.add_row(each.rule, each.slice, f"{100 * each.share:.1f} %", *seen)
    console.print(table)


def _seen(low: float | None, high: float | None) -> str:
    below = f"below {low:.3f}" if low is not None else ""
    above = f"above {high:.3f}" if high is not None else ""
    return ", ".join(text for text in (below, above) if text) or "none"


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
    cap = config.limits.viewer_cap
    if cap is not None:
        say(f"viewers     {cap.contributions} impressions of each count in {cap.per}; so do engagements")
    for ranking in config.rankings:
        due = ", ".join(f"{value} {part:.3g}" for value, part in ranking_targets(config, ranking).items())
        say(f"ranking     {ranking.dimension}, top {ranking.k}; due in each request: {due}")
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
    say(budget_text(config))
    unwatched = [s for s in config.surfaces if not rules_of(config, s)]
    if unwatched:
        say(f"no rule watches {', '.join(unwatched)}")


def _metric(rule: Rule) -> str:
    words = rule.metric.replace("_", " ")
    return words.replace("engagement", rule.action) if rule.action is not None else words


def _against(rule: Rule) -> str:
    reference = rule.reference
    if reference is None:
        return "the ranking's targets" if rule.metric.of_requests else "the rest"
    if reference.baseline is not None:
        b = reference.baseline
        stretch = f"first {b.first}" if b.first is not None else f"{b.start} to {b.end}"
        if b.sliding is not None:
            stretch = f"the {b.sliding} until {b.lag} before"
        if b.every is not None:
            stretch = f"the same {b.bin} of the last {b.periods} times {b.every}"
        return f"baseline: {stretch}" + (f" ({b.relearn})" if b.relearn else "")
    if reference.candidates:
        return "candidates"
    return "targets" if reference.targets else "equal shares"


def _tolerance(rule: Rule) -> str:
    low, high = rule.tolerance.low, rule.tolerance.high
    return f"{'' if low is None else low} to {'' if high is None else high}".strip()
