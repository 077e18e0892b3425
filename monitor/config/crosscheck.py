"""Checks that need more than one field: what a typed model cannot say."""

from collections.abc import Iterator
from math import inf, isfinite

from monitor.config.baselines import check_baseline, check_baseline_of
from monitor.config.document import Finding
from monitor.config.durations import Duration, parse_duration
from monitor.config.model import (
    Attribute,
    Compare,
    Config,
    Curve,
    DetectorKind,
    DetectorSpec,
    Metric,
    Reference,
    Rule,
    SinkSpec,
    SinkType,
)
from monitor.config.rankings import SUM_SLACK, check_ranking_rule, check_rankings

SHARES = (Metric.EXPOSURE_SHARE, Metric.TOP_K_SHARE, Metric.IMPRESSION_SHARE, Metric.SKEW_AT_K)


def cross_check(config: Config) -> list[Finding]:
    """Everything wrong across fields, in the order of the file's sections."""
    return [
        *_windows(config),
        *_times(config),
        *_exposure(config),
        *_dimensions(config),
        *check_rankings(config),
        *_rules(config),
        *_budget(config),
        *_sinks(config),
    ]


def known_attributes(config: Config) -> list[str]:
    """Names that a dimension can be made of, e.g. ``viewer.gender``."""
    attributes = config.attributes
    return [
        *(["variant"] if attributes.variant else []),
        *(f"viewer.{name}" for name in attributes.viewer),
        *(f"item.{name}" for name in attributes.item),
    ]


def _windows(config: Config) -> Iterator[Finding]:
    pane = config.time.pane
    seen: set[int] = set()
    for index, window in enumerate(config.windows):
        path = ("windows", index)
        if window.slide <= 0 or (pane > 0 and window.slide % pane):
            yield Finding(
                (*path, "slide"), f"not a multiple of time.pane ({pane})", f"{pane}, {Duration(2 * pane)}, …"
            )
        elif window.length < window.slide or window.length % window.slide:
            yield Finding(
                (*path, "length"), f"not a multiple of its slide ({window.slide})", "a whole number of slides"
            )
        if window.length in seen:
            yield Finding((*path, "length"), "another window has this length", "one window of each length")
        seen.add(window.length)
    if len(set(config.surfaces)) < len(config.surfaces):
        yield Finding(("surfaces",), "a surface stands twice", "each surface once")
    if "other" in config.surfaces:
        yield Finding(("surfaces",), "'other' is the surface of all that are not listed", "any other name")


def _times(config: Config) -> Iterator[Finding]:
    if config.time.pane <= 0:
        yield Finding(("time", "pane"), "not positive", "such as 10s")
    elif config.engagement.actions and (
        config.engagement.pane <= 0 or config.engagement.pane % config.time.pane
    ):
        yield Finding(
            ("engagement", "pane"), f"not a multiple of time.pane ({config.time.pane})", "such as 1m"
        )
    actions = config.engagement.actions
    if len(set(actions)) < len(actions):
        yield Finding(("engagement", "actions"), "an action stands twice", "each action once")
    cap = config.limits.viewer_cap
    longest = config.engagement.pane if actions else config.time.pane
    if cap is not None and longest > 0 and (cap.per <= 0 or cap.per % longest):
        path = ("limits", "viewer_cap", "per")
        yield Finding(path, f"not a multiple of the panes ({longest})", "such as 30m")
    if config.flush_interval <= 0:
        yield Finding(("flush_interval",), "not positive", "such as 1s")


def _exposure(config: Config) -> Iterator[Finding]:
    if config.exposure.curve is Curve.TABLE and not config.exposure.table:
        yield Finding(("exposure", "table"), "empty", "the weight of position 1, of position 2, …")


def _dimensions(config: Config) -> Iterator[Finding]:
    attributes = config.attributes
    declared: dict[tuple[str, ...], Attribute | None] = {("variant",): attributes.variant}
    declared |= {("viewer", name): attribute for name, attribute in attributes.viewer.items()}
    declared |= {("item", name): attribute for name, attribute in attributes.item.items()}
    for where, attribute in declared.items():
        values = (attribute and attribute.values) or []
        if len(set(values)) < len(values):
            yield Finding(("attributes", *where, "values"), "a value stands twice", "each value once")
    for index, dimension in enumerate(config.dimensions):
        yield from _dimension(config, ("dimensions", index), dimension)


def _dimension(config: Config, path: tuple[str | int, ...], dimension: str) -> Iterator[Finding]:
    known = known_attributes(config)
    parts = dimension.split("*")
    if any(part not in known for part in parts) or len(set(parts)) < len(parts):
        yield Finding(
            path,
            "not made of configured attributes",
            f"{', '.join(known) or '(none)'}, or several joined by *",
        )


def _rules(config: Config) -> Iterator[Finding]:
    names: set[str] = set()
    for index, rule in enumerate(config.rules):
        path = ("rules", index)
        if rule.name in names:
            yield Finding((*path, "name"), "another rule has this name", "each name once")
        names.add(rule.name)
        if not rule.metric.of_requests:
            yield from _dimension(config, (*path, "dimension"), rule.dimension)
        for surface in rule.surfaces:
            if surface not in config.surfaces:
                yield Finding(
                    (*path, "surfaces"), f"{surface} is not in surfaces", ", ".join(config.surfaces)
                )
        yield from _rule_window(config, path, rule)
        yield from _rule_metric(config, path, rule)
        if rule.metric.of_requests:
            yield from check_ranking_rule(config, path, rule)
        else:
            yield from _rule_compare(config, path, rule)
            yield from _rule_tolerance(path, rule)


def _rule_window(config: Config, path: tuple[str | int, ...], rule: Rule) -> Iterator[Finding]:
    window = next((w for w in config.windows if w.name == rule.window), None)
    if window is None:
        yield Finding((*path, "window"), "no such window", ", ".join(w.name for w in config.windows))
    elif (
        rule.metric.counts_engagements
        and config.engagement.pane > 0
        and window.slide % config.engagement.pane
    ):
        yield Finding(
            (*path, "window"),
            f"its slide ({window.slide}) is not a multiple of engagement.pane ({config.engagement.pane})",
            "a window whose slide is",
        )


def _rule_metric(config: Config, path: tuple[str | int, ...], rule: Rule) -> Iterator[Finding]:
    actions = config.engagement.actions
    if rule.metric.counts_engagements and rule.action not in actions:
        yield Finding(
            (*path, "action"), f"{rule.metric} needs a configured action", ", ".join(actions) or "(none)"
        )
    if not rule.metric.counts_engagements and rule.action is not None:
        yield Finding((*path, "action"), f"{rule.metric} has no action", "leave it out")
    if not rule.detectors:
        yield Finding((*path, "detectors"), "empty", ", ".join(DetectorKind))
    kinds = [spec.kind for spec in rule.detectors]
    if len(set(kinds)) < len(kinds):
        yield Finding((*path, "detectors"), "a kind stands twice", "each kind once")
    for index, spec in enumerate(rule.detectors):
        yield from _detector(config, (*path, "detectors", index), rule, spec)


def _rule_compare(config: Config, path: tuple[str | int, ...], rule: Rule) -> Iterator[Finding]:
    if rule.metric in SHARES and rule.compare is not Compare.REFERENCE:
        yield Finding((*path, "compare"), f"{rule.metric} is compared with a reference", "reference")
    if rule.metric not in SHARES and rule.compare is not Compare.REST:
        yield Finding((*path, "compare"), f"{rule.metric} is compared with the rest", "rest")
    if rule.compare is Compare.REFERENCE:
        yield from _reference((*path, "reference"), rule.reference or Reference())
        yield from _candidates(config, (*path, "reference", "candidates"), rule)
        yield from check_baseline_of(config, path, rule)
    elif rule.reference is not None:
        yield Finding((*path, "reference"), "not used with compare: rest", "leave it out")


def _detector(
    config: Config, path: tuple[str | int, ...], rule: Rule, spec: DetectorSpec
) -> Iterator[Finding]:
    if rule.metric.of_requests and spec.kind is not DetectorKind.TOLERANCE:
        yield Finding((*path, "kind"), f"{spec.kind} does not judge {rule.metric}", DetectorKind.TOLERANCE)
    elif spec.kind is DetectorKind.E_DETECTOR and not rule.metric.parity:
        ratios = ", ".join(m for m in Metric if m.parity and not m.of_requests)
        yield Finding((*path, "kind"), f"e_detector judges ratios, {rule.metric} is none", ratios)
    if spec.strata is None:
        return
    path = (*path, "strata")
    if spec.kind is not DetectorKind.E_DETECTOR or rule.metric in SHARES or rule.metric.of_requests:
        yield Finding(path, "only for an e_detector of a rate", "leave it out")
        return
    yield from _dimension(config, path, spec.strata)
    for part in spec.strata.split("*"):
        group, _, name = part.partition(".")
        attribute = config.attributes.variant if part == "variant" else _attribute(config, group, name)
        if part in rule.dimension.split("*"):
            yield Finding(path, f"{part} is what the rule compares", "other attributes")
        elif attribute is not None and not attribute.values:
            yield Finding(path, f"{part} has no declared values", "attributes with values:")
        elif attribute is not None and any("*" in value for value in attribute.values or []):
            yield Finding(path, f"a value of {part} has a *", "values without")


def _attribute(config: Config, group: str, name: str) -> Attribute | None:
    declared = {"viewer": config.attributes.viewer, "item": config.attributes.item}
    return declared.get(group, {}).get(name)


def _budget(config: Config) -> Iterator[Finding]:
    pages, _, length = config.false_alarm_budget.partition(" per ")
    try:
        good = float(pages) > 0 and isfinite(float(pages)) and parse_duration(length) > 0
    except ValueError:
        good = False
    if not good:
        yield Finding(("false_alarm_budget",), "not a number of pages in a time", "such as 1 per 30d")


def _reference(path: tuple[str | int, ...], reference: Reference) -> Iterator[Finding]:
    baseline = reference.baseline is not None
    if sum([bool(reference.targets), reference.uniform, baseline, reference.candidates]) != 1:
        good = "targets, uniform: true, baseline or candidates: true"
        yield Finding(path, "exactly one of them is needed", good)
    if reference.targets and abs(sum(reference.targets.values()) - 1) > SUM_SLACK:
        yield Finding((*path, "targets"), "the shares do not add up to 1", "a sum between 0.99 and 1.01")
    if reference.baseline is not None:
        yield from check_baseline((*path, "baseline"), reference.baseline)


def _candidates(config: Config, path: tuple[str | int, ...], rule: Rule) -> Iterator[Finding]:
    if rule.reference is None or not rule.reference.candidates:
        return
    if not config.candidates:
        yield Finding(path, "candidates are not counted", "candidates: true, at the top of the file")
    if not any(part.startswith("item.") for part in rule.dimension.split("*")):
        yield Finding(path, f"candidates have no {rule.dimension}", "a dimension with an attribute of items")


def _rule_tolerance(path: tuple[str | int, ...], rule: Rule) -> Iterator[Finding]:
    limits, parity = rule.tolerance, rule.metric.parity
    path = (*path, "tolerance")
    what = "a ratio" if parity else "a difference"
    if limits.low is None and limits.high is None:
        yield Finding(path, "neither low nor high", "at least one of them")
    for name in ("low", "high", "clear_low", "clear_high") if parity else ():
        if (getattr(limits, name) or 1) <= 0:
            yield Finding((*path, name), "not positive", "a ratio above 0")
    if limits.low is not None and limits.low > parity:
        example = "0.8" if parity else "-0.2"
        yield Finding((*path, "low"), f"above {parity:g}", f"{what} of at most {parity:g}, such as {example}")
    if limits.high is not None and limits.high < parity:
        example = "1.25" if parity else "0.2"
        yield Finding(
            (*path, "high"), f"below {parity:g}", f"{what} of at least {parity:g}, such as {example}"
        )
    lowest = -inf if limits.low is None else limits.low
    if limits.clear_low is not None and not lowest <= limits.clear_low <= parity:
        yield Finding(
            (*path, "clear_low"), f"not between low and {parity:g}", f"{what} between low and {parity:g}"
        )
    highest = inf if limits.high is None else limits.high
    if limits.clear_high is not None and not parity <= limits.clear_high <= highest:
        yield Finding(
            (*path, "clear_high"), f"not between {parity:g} and high", f"{what} between {parity:g} and high"
        )


_SINK_NEEDS: dict[SinkType, tuple[str, ...]] = {
    SinkType.ALERTMANAGER: ("urls",),
    SinkType.WEBHOOK: ("url", "url_file"),
    SinkType.SLACK: ("url_file",),
    SinkType.PAGERDUTY: ("routing_key_file",),
}


def _sinks(config: Config) -> Iterator[Finding]:
    for index, sink in enumerate(config.alerts.sinks):
        needs = _SINK_NEEDS[sink.type]
        if not any(getattr(sink, name) for name in needs):
            yield Finding(
                ("alerts", "sinks", index), f"{sink.type} needs {' or '.join(needs)}", " or ".join(needs)
            )
    names = [sink_name(sink) for sink in config.alerts.sinks]
    if len(set(names)) < len(names):
        yield Finding(
            ("alerts", "sinks"), "two sinks have the same name", "a name: for each of the same type"
        )


def sink_name(sink: SinkSpec) -> str:
    """A sink's name: its own, or its type."""
    return sink.name or sink.type.value
