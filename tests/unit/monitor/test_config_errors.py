from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from monitor.config import (
    Config,
    ConfigError,
    Metric,
    Severity,
    config_schema,
    config_sha256,
    meaning_sha256,
    parse_config,
)
from monitor.config.rankings import ranking_targets

GOOD = """\
surfaces: [home, search]
attributes:
  viewer:
    gender: {values: [f, m]}
  item:
    skin_tone: {}
time: {pane: 10s, allowed_lateness: 30s}
windows:
  - {length: 5m, slide: 10s}
  - {length: 1h, slide: 1m}
exposure: {curve: log2, k: 4}
engagement: {actions: [save, click], pane: 1m}
rules:
  - name: tone
    metric: exposure_share
    dimension: item.skin_tone
    compare: reference
    reference: {baseline: {first: 3d}}
    window: 5m
  - name: saves
    metric: engagement_rate
    action: save
    dimension: viewer.gender*item.skin_tone
    window: 1h
    for: 10m
    severity: critical
"""

RANKINGS = "rankings: [{dimension: item.skin_tone, targets: {a: 0.6, b: 0.4}, k: 5}]\n"

# what to replace, by what; then line, field, part of the value, part of what is allowed
BAD: list[tuple[str, str, int, str, str, str]] = [
    ("surfaces: [home, search]", "surfaces: []", 1, "surfaces", "[]", "length >= 1"),
    ("surfaces: [home, search]", "surfaces: home", 1, "surfaces", "home", "array"),
    ("surfaces: [home, search]", "surfaces: [home, home]", 1, "surfaces", "", "each surface once"),
    ("surfaces: [home, search]", "surfaces: [home, other]", 1, "surfaces", "", "any other name"),
    ("surfaces: [home, search]", "surfaces: [home, a b]", 1, "surfaces[1]", "a b", "regex"),
    ("time: {", "tmie: {", 7, "tmie", "", "did you mean time?"),
    ("pane: 10s, allowed", "pane: 10, allowed", 7, "time.pane", "10", "a duration"),
    ("pane: 10s, allowed", "pane: 10 sec, allowed", 7, "time.pane", "10 sec", "such as 10s"),
    ("pane: 10s, allowed", "pane: 0s, allowed", 7, "time.pane", "0s", "such as 10s"),
    ("pane: 10s, allowed", "pane: 9999999d, allowed", 7, "time.pane", "9999999d", "at most 3650d"),
    ("allowed_lateness: 30s", "allowed_lateness: -30s", 7, "time.allowed_lateness", "-30s", "such as 10s"),
    ("{length: 5m, slide: 10s}", "{length: 5m, slide: 7s}", 9, "windows[0].slide", "7s", "10s, 20s"),
    ("{length: 5m, slide: 10s}", "{length: 65s, slide: 10s}", 9, "windows[0].length", "65s", "whole number"),
    ("{length: 5m, slide: 10s}", "{length: 60m, slide: 10s}", 10, "windows[1].length", "1h", "one window"),
    ("{length: 5m, slide: 10s}", "{slide: 10s}", 9, "windows[0].length", "", "required"),
    ("curve: log2", "curve: log10", 11, "exposure.curve", "log10", "log2, geometric, reciprocal"),
    ("curve: log2", "curve: table", 11, "exposure.table", "", "the weight of position 1"),
    ("curve: log2", "curve: table, table: [.inf]", 11, "exposure.table[0]", "inf", "<= 1000"),
    ("curve: log2", "curve: table, table: [.nan]", 11, "exposure.table[0]", "nan", ">= 0"),
    ("k: 4", "k: 0", 11, "exposure.k", "0", ">= 1"),
    ("[save, click], pane: 1m", "[save, save], pane: 1m", 12, "engagement.actions", "", "each action once"),
    ("[save, click], pane: 1m", "[save, click], pane: 15s", 12, "engagement.pane", "15s", "such as 1m"),
    ("[save, click], pane: 1m", "[save, click], pane: 0s", 12, "engagement.pane", "0s", "such as 1m"),
    ("{values: [f, m]}", "{values: [f, f]}", 4, "attributes.viewer.gender.values", "", "each value once"),
    ("{values: [f, m]}", "{vals: [f, m]}", 4, "attributes.viewer.gender.vals", "", "did you mean values?"),
    ("skin_tone: {}", "skin_tone:", 6, "attributes.item.skin_tone", "None", "object"),
    ("metric: exposure_share", "metric: exposure", 15, "rules[0].metric", "exposure", "exposure_share"),
    ("    metric: exposure_share\n", "", 14, "rules[0].metric", "", "required"),
    (
        "dimension: item.skin_tone",
        "dimension: item.tone",
        16,
        "rules[0].dimension",
        "item.tone",
        "viewer.gender",
    ),
    (
        "dimension: item.skin_tone",
        "dimension: item.skin_tone*item.skin_tone",
        16,
        "rules[0].dimension",
        "",
        "",
    ),
    ("compare: reference", "compare: rest", 17, "rules[0].compare", "rest", "reference"),
    ("{baseline: {first: 3d}}", "{}", 18, "rules[0].reference", "", "targets, uniform"),
    ("{baseline: {first: 3d}}", "{uniform: true, targets: {a: 1}}", 18, "rules[0].reference", "", "targets"),
    ("{baseline: {first: 3d}}", "{targets: {a: 0.5, b: 0.2}}", 18, "rules[0].reference.targets", "", "0.99"),
    ("{baseline: {first: 3d}}", "{candidates: true}", 18, "rules[0].reference.candidates", "", "top of the"),
    ("{baseline: {first: 3d}}", "{targets: {a: 2}}", 18, "rules[0].reference.targets.a", "2", "<= 1"),
    ("{first: 3d}", "{}", 18, "rules[0].reference.baseline", "", "first: 3d"),
    ("{first: 3d}", "{first: 5s}", 18, "rules[0].reference.baseline.first", "5s", "at least 10s"),
    ("{first: 3d}", "{first: 3d, end: 2019-01-01}", 18, "rules[0].reference.baseline", "", "first: 3d"),
    (
        "{first: 3d}",
        "{start: 2019-01-01, end: 2019-01-02}",
        18,
        "rules[0].reference.baseline",
        "",
        "ISO 8601",
    ),
    (
        "{first: 3d}",
        "{start: 2019-01-02T00:00:00Z, end: 2019-01-01T00:00:00Z}",
        18,
        "rules[0].reference.baseline.end",
        "2019-01-01",
        "a later time",
    ),
    ("window: 5m", "window: 10m", 19, "rules[0].window", "10m", "5m, 1h"),
    ("name: saves", "name: tone", 20, "rules[1].name", "tone", "each name once"),
    ("action: save", "action: share", 22, "rules[1].action", "share", "save, click"),
    ("window: 1h", "window: 5m", 24, "rules[1].window", "5m", "a window whose slide is"),
    ("for: 10m", "fro: 10m", 25, "rules[1].fro", "", "did you mean for?"),
    ("severity: critical", "severity: fatal", 26, "rules[1].severity", "fatal", "info, warning, critical"),
    ("severity: critical", "tolerance: {low: 1.2}", 26, "rules[1].tolerance.low", "1.2", "at most 1"),
    ("severity: critical", "tolerance: {high: 0.9}", 26, "rules[1].tolerance.high", "0.9", "at least 1"),
    ("severity: critical", "tolerance: {low: -0.8}", 26, "rules[1].tolerance.low", "-0.8", "a ratio above 0"),
    ("severity: critical", "tolerance: {}", 26, "rules[1].tolerance", "", "at least one"),
    (
        "severity: critical",
        "tolerance: {low: 0.8, clear_low: 0.7}",
        26,
        "rules[1].tolerance.clear_low",
        "0.7",
        "between low and 1",
    ),
    ("severity: critical", "detectors: []", 26, "rules[1].detectors", "", "tolerance, e_detector"),
    ("severity: critical", "detectors: [{}, {}]", 26, "rules[1].detectors", "", "each kind once"),
    (
        "severity: critical",
        "detectors: [{kind: e_detector, strata: viewer.gender}]",
        26,
        "rules[1].detectors[0].strata",
        "viewer.gender",
        "other attributes",
    ),
    (
        "severity: critical",
        "detectors: [{kind: e_detector, strata: viewer.age}]",
        26,
        "rules[1].detectors[0].strata",
        "viewer.age",
        "viewer.gender, item.skin_tone",
    ),
    (
        "severity: critical",
        "detectors: [{kind: adwin, strata: viewer.gender}]",
        26,
        "rules[1].detectors[0].strata",
        "viewer.gender",
        "leave it out",
    ),
    (
        "window: 5m\n",
        "window: 5m\n    detectors: [{kind: e_detector, strata: viewer.gender}]\n",
        20,
        "rules[0].detectors[0].strata",
        "viewer.gender",
        "leave it out",
    ),
    (
        "metric: exposure_share",
        "metric: skew_at_k\n    tolerance: {low: -0.2}\n    detectors: [{kind: e_detector}]",
        17,
        "rules[0].detectors[0].kind",
        "e_detector",
        "exposure_share, top_k_share",
    ),
    (
        "dimension: viewer.gender*item.skin_tone",
        "dimension: viewer.gender\n    detectors: [{kind: e_detector, strata: item.skin_tone}]",
        24,
        "rules[1].detectors[0].strata",
        "item.skin_tone",
        "with values",
    ),
    *(
        ("rules:", f"false_alarm_budget: {budget}\nrules:", 13, "false_alarm_budget", "", "1 per 30d")
        for budget in ("once", "0 per 30d", "1 per month", "nan per 30d", "-1 per 1d", "inf per 1d")
    ),
    ("severity: critical", "severity: critical\n    severity: info", 27, "rules[1].severity", "", "once"),
    ("severity: critical", "surfaces: [shop]", 26, "rules[1].surfaces", "", "home, search"),
    ("severity: critical", "severity: !fast critical", 26, "rules[1].severity", "critical", "no tag"),
    ("severity: critical", "labels: &a {team: *a}", 1, "(file)", "", "a YAML mapping"),
    ("severity: critical", "severity: [", 27, "(file)", "", "a YAML mapping"),
    ("    severity: critical", "alerts: {sinks: [{type: slack}]}", 26, "alerts.sinks[0]", "", "url_file"),
    (
        "    severity: critical",
        "alerts: {sinks: [{type: slak}]}",
        26,
        "alerts.sinks[0].type",
        "slak",
        "slack",
    ),
    (
        "    severity: critical",
        "alerts: {sinks: [{type: webhook, url: a}, {type: webhook, url: b}]}",
        26,
        "alerts.sinks",
        "",
        "a name",
    ),
]


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "value", "right"), BAD, ids=[f"{row[3]} {row[1]}" for row in BAD]
)
def test_a_bad_file_is_told_precisely(
    old: str, new: str, line: int, field: str, value: str, right: str
) -> None:
    """The message names file, line, field and value, and what would be allowed."""
    assert GOOD.count(old) == 1
    with pytest.raises(ConfigError) as caught:
        parse_config(GOOD.replace(old, new), "fair.yaml")
    [problem, *_] = caught.value.problems
    assert (problem.line, problem.field) == (line, field)
    assert value in problem.value
    assert right in problem.right
    assert str(caught.value).startswith(f"fair.yaml: line {line}: {field}")


@pytest.mark.parametrize(
    ("cap", "field", "right"),
    [
        ("{per: 30m}", "limits.viewer_cap.contributions", "required"),
        ("{contributions: 0}", "limits.viewer_cap.contributions", ">= 1"),
        ("{contributions: 20, per: 90s}", "limits.viewer_cap.per", "such as 30m"),
        ("{contributions: 20, per: 0s}", "limits.viewer_cap.per", "such as 30m"),
    ],
)
def test_a_bad_cap_on_viewers_is_told_precisely(cap: str, field: str, right: str) -> None:
    """Sessions are made of whole panes."""
    with pytest.raises(ConfigError) as caught:
        parse_config(GOOD + f"limits: {{viewer_cap: {cap}}}\n", "fair.yaml")
    [problem] = caught.value.problems
    assert problem.field == field
    assert right in str(problem)


# the section `rankings`; then field, part of the value, part of what is allowed
BAD_RANKINGS: list[tuple[str, str, str, str]] = [
    ("[{}]", "rankings[0].dimension", "", "required"),
    ("[{dimension: viewer.gender}]", "rankings[0].dimension", "viewer.gender", "item.skin_tone"),
    ("[{dimension: skin_tone}]", "rankings[0].dimension", "skin_tone", "item.skin_tone"),
    (
        "[{dimension: viewer.gender*item.skin_tone}]",
        "rankings[0].dimension",
        "viewer.gender*item.skin_tone",
        "item.skin_tone, item.body",
    ),
    ("[{dimension: item.skin_tone}]", "rankings[0]", "", "targets:"),
    ("[{dimension: item.skin_tone, targets: {}}]", "rankings[0].targets", "", "between 0.99 and 1.01"),
    ("[{dimension: item.skin_tone, targets: {a: 1}}]", "rankings[0]", "", "two values"),
    ("[{dimension: item.skin_tone, targets: {a: 0.5, b: 0.4}}]", "rankings[0].targets", "", "0.99 and 1.01"),
    ("[{dimension: item.skin_tone, targets: {a: 1.5, b: 0}}]", "rankings[0].targets.a", "1.5", "<= 1"),
    ("[{dimension: item.skin_tone, targets: {a: 1, b: 0}}]", "rankings[0].targets.b", "0", "> 0"),
    ("[{dimension: item.body, targets: {s: 0.5, x: 0.5}}]", "rankings[0].targets", "", "s, m, l"),
    ("[{dimension: item.body, k: 0}]", "rankings[0].k", "0", ">= 1"),
    ("[{dimension: item.body, top: 5}]", "rankings[0].top", "", "dimension, targets, k"),
    ("[{dimension: item.body}, {dimension: item.body}]", "rankings[1].dimension", "item.body", "once"),
]


@pytest.mark.parametrize(
    ("rankings", "field", "value", "right"), BAD_RANKINGS, ids=[row[0] for row in BAD_RANKINGS]
)
def test_a_bad_ranking_is_told_precisely(rankings: str, field: str, value: str, right: str) -> None:
    """The message names the line of the ranking and its field, and what would be allowed."""
    text = GOOD.replace("skin_tone: {}", "skin_tone: {}\n    body: {values: [s, m, l]}")
    with pytest.raises(ConfigError) as caught:
        parse_config(text.replace("rules:", f"rankings: {rankings}\nrules:"))
    [problem, *_] = caught.value.problems
    assert (problem.line, problem.field) == (14, field)
    assert value in problem.value
    assert right in problem.right


RANKING_RULE = """\
  - name: lists
    metric: ndkl
    dimension: item.skin_tone
    window: 1h
    tolerance: {high: 0.2, clear_high: 0.1}
"""

# what to replace, by what; then line of the rule, field, part of what is wrong, part of what is allowed
BAD_RANKING_RULES: list[tuple[str, str, int, str, str, str]] = [
    ("item.skin_tone", "viewer.gender", 2, "dimension", "viewer.gender", "item.skin_tone"),
    ("item.skin_tone", "nobody", 2, "dimension", "ndkl needs a ranking of it", "item.skin_tone"),
    ("window: 1h", "window: 2h", 3, "window", "2h", "5m, 1h"),
    ("window: 1h", "action: save\n    window: 1h", 3, "action", "ndkl has no action", "leave it out"),
    ("window: 1h", "slices: [a]\n    window: 1h", 3, "slices", "targets in rankings", "leave it out"),
    ("window: 1h", "compare: reference\n    window: 1h", 3, "compare", "targets in rankings", "leave it out"),
    (
        "window: 1h",
        "reference: {uniform: true}\n    window: 1h",
        3,
        "reference",
        "targets in rankings",
        "leave it out",
    ),
    (
        "window: 1h",
        "window: 1h\n    detectors: [{kind: tolerance}, {kind: e_detector}]",
        4,
        "detectors[1].kind",
        "e_detector does not judge ndkl",
        "tolerance",
    ),
    (
        "window: 1h",
        "window: 1h\n    detectors: [{kind: adwin}]",
        4,
        "detectors[0].kind",
        "adwin",
        "tolerance",
    ),
    (
        "window: 1h",
        "window: 1h\n    detectors: [{strata: viewer.gender}]",
        4,
        "detectors[0].strata",
        "e_detector of a rate",
        "leave it out",
    ),
    ("window: 1h", "window: 1h\n    detectors: []", 4, "detectors", "empty", "tolerance"),
    ("{high: 0.2, clear_high: 0.1}", "{}", 4, "tolerance", "no high", "only high, such as 0.2"),
    ("high: 0.2", "low: -0.1, high: 0.2", 4, "tolerance.low", "never below its parity 0", "only high"),
    ("clear_high: 0.1", "clear_low: 0", 4, "tolerance.clear_low", "never below its parity 0", "only high"),
    ("high: 0.2", "high: 0", 4, "tolerance.high", "not above 0", "such as 0.2"),
    ("clear_high: 0.1", "clear_high: 0.3", 4, "tolerance.clear_high", "0.3", "between high and 0"),
    ("    tolerance: {high: 0.2, clear_high: 0.1}\n", "", 0, "tolerance.low", "never below", "only high"),
    ("ndkl", "awrf", 4, "tolerance.high", "awrf is never above its parity 1", "only low, such as 0.9"),
]


@pytest.mark.parametrize(("old", "new", "line", "field", "wrong", "right"), BAD_RANKING_RULES)
def test_a_bad_rule_on_requests_is_told_precisely(
    old: str, new: str, line: int, field: str, wrong: str, right: str
) -> None:
    """One message, with the line and field, what was wrong and what would be right."""
    before, after = GOOD.split("  - name: tone")
    good = f"{before}{RANKING_RULE}  - name: tone{after}{RANKINGS}"
    assert parse_config(good).rules[0].metric.of_requests
    assert old in RANKING_RULE
    with pytest.raises(ConfigError) as caught:
        parse_config(good.replace(RANKING_RULE, RANKING_RULE.replace(old, new)))
    [problem] = caught.value.problems
    assert (problem.line, problem.field.removeprefix("rules[0].")) == (14 + line, field)
    assert wrong in f"{problem.value}: {problem.wrong}"
    assert right in problem.right


def test_means_have_a_tolerance_on_the_side_where_they_get_worse() -> None:
    """AWRF and DIV@k have a low limit of at most 1, and nothing needs a ranking that is not there."""
    for metric, good, bad in (("awrf", 0.9, 1.1), ("div_at_k", 1, 0), ("div_at_k", 0.5, -1)):
        rule = RANKING_RULE.replace("ndkl", metric).replace("high: 0.2, clear_high: 0.1", "low: %s")
        text = GOOD + RANKINGS
        assert parse_config(text.replace("rules:\n", f"rules:\n{rule}" % good)).rules
        with pytest.raises(ConfigError, match=r"tolerance\.low = .*not between 0 and 1"):
            parse_config(text.replace("rules:\n", f"rules:\n{rule}" % bad))
    with pytest.raises(ConfigError, match=r"none in rankings"):
        parse_config(GOOD.replace("rules:\n", f"rules:\n{RANKING_RULE}"))


def test_rankings_need_attention_at_the_top() -> None:
    """A table that begins with 0 would leave a ranking of one item without any."""
    text = GOOD.replace("curve: log2", "curve: table, table: [%s, 1]") + RANKINGS
    assert parse_config(text % "0.5").rankings
    with pytest.raises(ConfigError, match=r"line 11: exposure\.table"):
        parse_config(text % "0")


@pytest.mark.parametrize(
    "text", ["", "- a", "home", "\x00", "a: b: c", "%TAG", "surfaces: &x [*x]", "[" * 5000]
)
def test_what_is_no_mapping_is_refused(text: str) -> None:
    """Whatever the file holds, the answer is a ConfigError and never another exception."""
    with pytest.raises(ConfigError, match=r"^fair\.yaml: line 1: "):
        parse_config(text, "fair.yaml")


def test_all_cross_checks_are_told_at_once() -> None:
    """Findings across fields come together, so that a user need not fix them one by one."""
    text = GOOD.replace("window: 5m", "window: 10m").replace("action: save", "action: share")
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert [p.field for p in caught.value.problems] == ["rules[0].window", "rules[1].action"]


def test_a_good_file_says_what_it_means() -> None:
    """Values, defaults and durations arrive in the model."""
    config = parse_config(GOOD)
    assert [window.name for window in config.windows] == ["5m", "1h"]
    assert int(config.time.allowed_lateness) == 30_000
    assert int(config.engagement.attribution_window) == 1_800_000
    tone, saves = config.rules
    assert tone.metric is Metric.EXPOSURE_SHARE
    assert (tone.tolerance.low, tone.tolerance.high) == (0.8, 1.25)
    assert (saves.severity, int(saves.hold)) == (Severity.CRITICAL, 600_000)


# ---------------------------------------------------------------- hashes


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("curve: log2", "curve: reciprocal"),
        ("pane: 10s, allowed", "pane: 5s, allowed"),
        ("[save, click]", "[click, save]"),
        ("gender: {values: [f, m]}", "gender: {values: [f, m, x]}"),
        ("skin_tone: {}", "skin_tone: {}\n    hair: {}"),
    ],
)
def test_what_changes_the_sums_changes_their_meaning(old: str, new: str) -> None:
    """Snapshots of two configurations are never merged if their numbers mean different things."""
    assert meaning_sha256(parse_config(GOOD)) != meaning_sha256(parse_config(GOOD.replace(old, new)))


def test_the_order_of_attributes_is_part_of_the_meaning() -> None:
    """Values in a cell stand in the order of the file: swapped attributes must not be merged."""
    text = "surfaces: [home]\nwindows: [{length: 5m, slide: 10s}]\nattributes: {viewer: {%s: {}, %s: {}}}"
    one, other = (parse_config(text % names) for names in (("a", "b"), ("b", "a")))
    assert meaning_sha256(one) != meaning_sha256(other)


def test_rules_change_the_hash_but_not_the_meaning() -> None:
    """A changed rule shows in the configuration's hash, and old snapshots remain usable."""
    one, other = parse_config(GOOD), parse_config(GOOD.replace("for: 10m", "for: 5m"))
    assert config_sha256(one) != config_sha256(other)
    assert meaning_sha256(one) == meaning_sha256(other)


@pytest.mark.parametrize(
    ("old", "new"),
    [("k: 5", "k: 6"), ("a: 0.6, b: 0.4", "a: 0.4, b: 0.6"), ("a: 0.6, b: 0.4", "a: 0.6, c: 0.4")],
)
def test_rankings_are_part_of_the_meaning(old: str, new: str) -> None:
    """Those who have none keep the meaning that their sums had before there were any."""
    ranked = GOOD + RANKINGS
    assert meaning_sha256(parse_config(GOOD)) == "4c0263c684e84d4c"
    meanings = {meaning_sha256(parse_config(text)) for text in (GOOD, ranked, ranked.replace(old, new))}
    assert len(meanings) == 3


def test_a_cap_on_viewers_is_part_of_the_meaning() -> None:
    """Sums with and without it, or with another one, are never merged."""
    caps = ("", "{contributions: 20}", "{contributions: 30}", "{contributions: 20, per: 1h}")
    texts = [GOOD + (f"limits: {{viewer_cap: {cap}}}\n" if cap else "") for cap in caps]
    assert len({meaning_sha256(parse_config(text)) for text in texts}) == len(caps)


def test_targets_of_rankings_add_up_to_one() -> None:
    """Given ones are scaled, declared values have equal shares."""
    ranked = parse_config(GOOD + RANKINGS.replace("0.6", "0.595"))
    assert ranking_targets(ranked, ranked.rankings[0]) == {"a": 0.595 / 0.995, "b": 0.4 / 0.995}
    text = GOOD.replace("skin_tone: {}", "skin_tone: {values: [z, x, y]}")
    equal = parse_config(text + "rankings: [{dimension: item.skin_tone}]\n")
    assert ranking_targets(equal, equal.rankings[0]) == dict.fromkeys("xyz", 1 / 3)


# ---------------------------------------------------------------- schema


def _allows(schema: dict[str, Any], root: dict[str, Any], value: Any) -> bool:
    """Whether a value fits a schema, for the keywords that the configuration's schema uses."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return any(_allows(each, root, value) for each in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kinds: dict[str, tuple[type, ...]] = {
        "object": (dict,),
        "array": (list,),
        "string": (str,),
        "integer": (int,),
        "number": (int, float),
        "boolean": (bool,),
        "null": (type(None),),
    }
    if not isinstance(value, kinds[schema["type"]]) or (
        schema["type"] != "boolean" and isinstance(value, bool)
    ):
        return False
    return _allows_object(schema, root, value) and _allows_plain(schema, root, value)


def _allows_plain(schema: dict[str, Any], root: dict[str, Any], value: Any) -> bool:
    if isinstance(value, list):
        long_enough = len(value) >= schema.get("minItems", 0)
        return long_enough and all(_allows(schema["items"], root, each) for each in value)
    if isinstance(value, str):
        return re.search(schema.get("pattern", ""), value) is not None
    return not isinstance(value, (int, float)) or _in_range(schema, value)


def _allows_object(schema: dict[str, Any], root: dict[str, Any], value: Any) -> bool:
    if not isinstance(value, dict):
        return True
    known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    if any(name not in value for name in schema.get("required", [])):
        return False
    for name, each in value.items():
        if name in known:
            fits = _allows(known[name], root, each)
        else:
            fits = _allows(others, root, each) if isinstance(others, dict) else bool(others)
        if not fits:
            return False
    return True


def _in_range(schema: dict[str, Any], value: float) -> bool:
    low, high = schema.get("minimum", value), schema.get("maximum", value)
    above = value > schema["exclusiveMinimum"] if "exclusiveMinimum" in schema else True
    below = value < schema["exclusiveMaximum"] if "exclusiveMaximum" in schema else True
    return bool(low <= value <= high and above and below)


def test_the_schema_allows_what_the_parser_accepts() -> None:
    """An editor that knows the schema does not complain of a good file, and does of typing errors."""
    schema = config_schema()
    assert _allows(schema, schema, yaml.safe_load(GOOD))
    for old, new in [
        ("curve: log2", "curve: log10"),
        ("k: 4", "k: 0"),
        ("pane: 10s, allowed", "pane: 10, allowed"),
        ("surfaces: [home, search]", "surfaces: []"),
        ("time: {", "tmie: {"),
        ("    metric: exposure_share\n", ""),
    ]:
        assert not _allows(schema, schema, yaml.safe_load(GOOD.replace(old, new)))


def test_the_schema_knows_every_field() -> None:
    """Sections and fields of the model are all in the schema, closed to others."""
    schema = config_schema()
    definition = schema["$defs"]["Config"]
    assert set(definition["properties"]) == set(Config.__struct_fields__)
    for name, each in schema["$defs"].items():
        if each.get("type") == "object":
            assert each["additionalProperties"] is False, name
