"""One line of plain words for the person who is called."""

from alerts.events import EventReason
from monitor.config import Compare, DetectorKind, Metric, Rule
from monitor.slices import ALL
from monitor.verdicts import Direction, Estimate, Outcome, ToleranceBand, Verdict

_WORDS = {
    Metric.EXPOSURE_SHARE: "exposure share",
    Metric.TOP_K_SHARE: "share of the top positions",
    Metric.IMPRESSION_SHARE: "share of impressions",
    Metric.EXPOSURE_RATE: "exposure per impression",
    Metric.SKEW_AT_K: "share of the top positions",
    Metric.NDKL: "mean NDKL of single requests",
    Metric.AWRF: "mean AWRF of single requests",
    Metric.DIV_AT_K: "mean DIV@k of single requests",
    Metric.INFEASIBLE_INDEX: "mean InfeasibleIndex of single requests",
}

_DISTANCES = {Metric.SKEW_AT_K: "skew", Metric.ENGAGEMENT_RATE_DIFFERENCE: "difference"}
"""What the number is where parity is 0."""

_ENDINGS = {
    EventReason.BREACH_STARTED: "",
    EventReason.BREACH_HELD: "",
    EventReason.DIRECTION_CHANGED: "; it was on the other side of parity before",
    EventReason.CLEARED: "; cleared",
    EventReason.NEVER_FIRED: "; over before it was due to fire",
    EventReason.DATA_GONE: "; too little data to go on",
    EventReason.RULE_REMOVED: "; no longer watched by the configuration",
    EventReason.RULE_CHANGED: "; its rule has changed",
}


def summarise(verdict: Verdict, rule: Rule, reason: EventReason) -> str:
    """What a verdict says, after the rule's own summary if it has one.

    For example ``item.skin_tone=4 on home: exposure share 8.1 %, 0.52 of its reference 15.6 % (0.44 to
    0.61); tolerated from 0.8``.
    """
    prefix = f"{rule.summary.rstrip('.')}. " if rule.summary else ""
    who = f"{_name_slice(verdict)} on {verdict.surface}"
    return f"{prefix}{who}: {_facts(verdict, rule)}{_ENDINGS[reason]}"


def summarise_end(summary: str, reason: EventReason) -> str:
    """The summary of an alert that ends without a further verdict, from the one it had.

    >>> summarise_end("item.tone=4 on home: exposure share 8.1 %", EventReason.RULE_REMOVED)
    'item.tone=4 on home: exposure share 8.1 %; no longer watched by the configuration'
    """
    return summary + _ENDINGS[reason]


def _name_slice(verdict: Verdict) -> str:
    """Of an intersection each part: ``viewer.gender=f, item.skin_tone=4``; of all requests no value."""
    if verdict.slice_ == ALL:
        return verdict.dimension
    names, values = verdict.dimension.split("*"), verdict.slice_.split("*")
    if len(names) != len(values):
        return f"{verdict.dimension}={verdict.slice_}"
    return ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))


def _facts(verdict: Verdict, rule: Rule) -> str:
    metric = f"{rule.action} rate" if rule.metric.counts_engagements else _WORDS[rule.metric]
    if verdict.estimate.value is None and verdict.verdict is Outcome.BREACH:
        side = "high" if verdict.direction is Direction.HIGH else "low"
        tolerated = _tolerated(verdict.tolerance, verdict.direction)
        return f"{metric} too {side} for a number ({verdict.reason}){tolerated}"
    if verdict.estimate.value is None:
        return f"{metric} unknown" + (f" ({verdict.reason})" if verdict.reason else "")
    number, tolerated = _ratio(verdict.estimate.value), _tolerated(verdict.tolerance, verdict.direction)
    if rule.metric.of_requests:
        return f"{metric} {number}{_interval(verdict.estimate)}{tolerated}"
    in_percent = rule.metric is not Metric.EXPOSURE_RATE
    level = f" {_percent(verdict.share)}," if in_percent and verdict.share is not None else ""
    held = f" {_percent(verdict.reference)}" if in_percent and verdict.reference is not None else ""
    against = ("its reference" if rule.compare is Compare.REFERENCE else "the rest's") + held
    found = (
        f"{number} of {against}" if rule.metric.parity else f"{_DISTANCES[rule.metric]} {number} to {against}"
    )
    sign = "" if verdict.detector in {"", DetectorKind.TOLERANCE} else f"; {verdict.detector} decided"
    return f"{metric}{level} {found}{_interval(verdict.estimate)}{tolerated}{sign}"


def _interval(estimate: Estimate) -> str:
    if estimate.lower is None or estimate.upper is None:
        return ""
    return f" ({_ratio(estimate.lower)} to {_ratio(estimate.upper)})"


def _tolerated(band: ToleranceBand, direction: Direction) -> str:
    """The limit on the side of the breach; both limits if it has no side."""
    low = f" from {band.low:g}" if band.low is not None and direction is not Direction.HIGH else ""
    high = f" up to {band.high:g}" if band.high is not None and direction is not Direction.LOW else ""
    return f"; tolerated{low}{high}" if low or high else ""


def _ratio(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def _percent(part: float) -> str:
    percent = 100 * part
    return f"{percent:.1f} %" if percent >= 1 or percent == 0 else f"{percent:.2g} %"
