"""Builds the Grafana dashboard: ``python deploy/grafana/build.py`` writes it, ``--check`` compares.

Grafana reads the committed JSON; this file and grafana-foundation-sdk are needed only to change it.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

OUTPUT = Path(__file__).parent / "dashboards" / "overview.json"
UID = "fairstream-overview"
DATASOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")

GREEN, YELLOW, RED, GREY, BLUE = "green", "orange", "red", "#8e8e8e", "blue"
ALERT = "rule, surface, dimension, slice"
"""Labels of an alert."""
SHOWN = 'surface="$surface", window="$window", dimension="$dimension"'
JUDGED = 'surface="$surface", rule="$rule"'
GOOD = "accepted|replayed"
"""Outcomes of aggregate's events that are no rejections."""
JOBS = 'job=~"fairstream.*"'
RATE = "[$__rate_interval]"


Panel = stat.Panel | table.Panel | statetimeline.Panel | timeseries.Panel
AnyPanel = TypeVar("AnyPanel", stat.Panel, table.Panel, statetimeline.Panel, timeseries.Panel)


# --- small parts -----------------------------------------------------------------------


def query(expr: str, legend: str = "") -> prometheus.Dataquery:
    """A query over the time range; its ``refId`` comes from its place in the panel."""
    return prometheus.Dataquery().expr(expr).legend_format(legend or "__auto").range()


def now(expr: str, legend: str = "") -> prometheus.Dataquery:
    """A query of the present, for a number."""
    return prometheus.Dataquery().expr(expr).legend_format(legend or "__auto").instant()


def rows(expr: str) -> prometheus.Dataquery:
    """A query of the present, for a table: a row for each series."""
    return now(expr).format(PromQueryFormat.TABLE)


def panel(
    kind: AnyPanel,
    title: str,
    description: str,
    unit: str,
    queries: Sequence[prometheus.Dataquery],
    *,
    width: int = 12,
    height: int = 8,
) -> AnyPanel:
    """What every panel has: title, description, unit, data source, size and queries."""
    kind.title(title).description(description).unit(unit).datasource(DATASOURCE).span(width).height(height)
    for ref_id, each in zip("ABCDEFGH", queries, strict=False):
        kind.with_target(each.ref_id(ref_id).datasource(DATASOURCE))
    return kind


def lines(*, from_zero: bool = False, legend: bool = True) -> timeseries.Panel:
    """A plain line chart."""
    chart = (
        timeseries.Panel()
        .line_width(2)
        .fill_opacity(0)
        .show_points(common.VisibilityMode.NEVER)
        .span_nulls(False)
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(legend)
        )
    )
    return chart.axis_soft_min(0) if from_zero else chart


def steps(*limits: tuple[float, str], base: str = GREEN) -> builders.ThresholdsConfig:
    """Colours by value: ``base`` up to the first limit."""
    first = models.Threshold(value=None, color=base)
    rest = [models.Threshold(value=value, color=color) for value, color in limits]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps([first, *rest])


def words(**values: tuple[str, str]) -> list[models.ValueMapping]:
    """Words and colours for whole numbers: ``_0=("DOWN", RED)``."""
    options = {
        key.removeprefix("_"): models.ValueMappingResult(text=text, color=color, index=index)
        for index, (key, (text, color)) in enumerate(values.items())
    }
    return [models.ValueMap(options=options)]


ALERT_STATES = words(_0=("inactive", GREEN), _1=("pending", YELLOW), _2=("FIRING", RED))


def property_(name: str, value: object) -> models.DynamicConfigValue:
    """One property of an override."""
    return models.DynamicConfigValue(id_val=name, value=value)


def dashed(color: str) -> list[models.DynamicConfigValue]:
    """A thin dashed line of one colour."""
    return [
        property_("color", {"mode": "fixed", "fixedColor": color}),
        property_("custom.lineStyle", {"fill": "dash", "dash": [8, 6]}),
        property_("custom.lineWidth", 1),
    ]


def with_band(chart: timeseries.Panel, value: str) -> timeseries.Panel:
    """Fill between the series ``lower`` and ``upper``, around the series called ``value``."""
    edge = [
        property_("color", {"mode": "fixed", "fixedColor": BLUE}),
        property_("custom.lineWidth", 0),
        property_("custom.hideFrom", {"legend": True, "tooltip": False, "viz": False}),
    ]
    fill = [property_("custom.fillBelowTo", "lower"), property_("custom.fillOpacity", 18)]
    return (
        chart.override_by_name(value, [property_("color", {"mode": "fixed", "fixedColor": BLUE})])
        .override_by_name("lower", edge)
        .override_by_name("upper", [*edge, *fill])
    )


def merged(kind: table.Panel, *, hidden: Sequence[str], names: dict[str, str]) -> table.Panel:
    """One row for the same labels of all queries, without the columns that say nothing."""
    organize = {"excludeByName": dict.fromkeys(["Time", *hidden], True), "renameByName": names}
    return kind.with_transformation(
        models.DataTransformerConfig(id_val="merge", options={})
    ).with_transformation(models.DataTransformerConfig(id_val="organize", options=organize))


def coloured_cell(mappings: list[models.ValueMapping]) -> list[models.DynamicConfigValue]:
    """A table column whose background is its value's colour."""
    return [
        property_("custom.cellOptions", {"type": "color-background", "mode": "basic"}),
        property_("mappings", mappings),
        property_("unit", "none"),
    ]


# --- is anything firing, is the monitor alive ------------------------------------------


def first_row() -> list[Panel]:
    """What is to be seen at 3 a.m. without scrolling."""
    return [
        big(
            "Firing",
            "Fairness alerts that fire now, over all surfaces and rules. `NO DATA` means that notify does "
            "not answer or has never seen a verdict: that is no all-clear.",
            "none",
            [now("sum(fairness_alert_state == bool 2)")],
            steps((1, RED)),
            width=4,
        ),
        big(
            "Pending",
            "Breaches that have not yet lasted as long as their rule's `for`.",
            "none",
            [now("sum(fairness_alert_state == bool 1)")],
            steps((1, YELLOW)),
            width=3,
        ),
        big(
            "Roles",
            "Whether Prometheus reaches each process. With monitor down, the figures below end; with notify "
            "down, nobody is called.",
            "none",
            [now(f"min by (job) (up{{{JOBS}}})", "{{job}}")],
            steps(),
            width=7,
        )
        .text_mode(common.BigValueTextMode.VALUE_AND_NAME)
        .mappings(words(_0=("DOWN", RED), _1=("up", GREEN))),
        big(
            "Window age",
            "How long ago, in event time, the newest closed window of the worst surface ended. It is at "
            "least one slide and the allowed lateness; if it grows, no verdicts come. Old records that are "
            "being replayed show as a great age.",
            "s",
            [now("max(time() - max by (surface) (fairness_window_end_timestamp_seconds))")],
            steps((120, YELLOW), (300, RED)),
            width=4,
        ),
        big(
            "Not read yet",
            "Records that wait in the topics of all roles.",
            "short",
            [now("sum(max by (topic, partition) (fairstream_consumer_lag_records))")],
            steps((100_000, YELLOW)),
            width=3,
        ),
        big(
            "Events",
            "Impression and engagement records that aggregate counts, per second.",
            "reqps",
            [now(f'sum(rate(fairstream_events_total{{role="aggregate", outcome="accepted"}}{RATE}))')],
            steps((0.001, GREEN), base=RED),
            width=3,
        ),
    ]


def big(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[prometheus.Dataquery],
    colours: builders.ThresholdsConfig,
    *,
    width: int,
) -> stat.Panel:
    """A number on a coloured ground."""
    kind = (
        stat.Panel()
        .thresholds(colours)
        .color_mode(common.BigValueColorMode.BACKGROUND)
        .graph_mode(common.BigValueGraphMode.NONE)
        .text_mode(common.BigValueTextMode.VALUE)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("NO DATA")
    )
    return panel(kind, title, description, unit, queries, width=width, height=4)


def alerts() -> list[Panel]:
    """Which alerts."""
    active = f"max by ({ALERT}) (fairness_alert_state) > 0"
    jump = (
        f"/d/{UID}?var-surface=${{__data.fields.surface}}&var-dimension=${{__data.fields.dimension}}"
        "&var-window=${__data.fields.window}&var-rule=${__data.fields.rule}&${__url_time_range}"
    )
    now_table = (
        panel(
            table.Panel(),
            "Alerts that are pending or firing",
            "Click a rule to see its surface, dimension and window below. Empty: nothing is pending or "
            "firing, provided that the row above is green.",
            "none",
            [
                rows(active),
                rows(
                    f"max by ({ALERT}, window) (fairness_disparity)"
                    f" and on ({ALERT}) (fairness_alert_state > 0)"
                ),
            ],
        )
        .override_by_name("state", coloured_cell(ALERT_STATES))
        .override_by_name("disparity", [property_("decimals", 2)])
        .override_by_name(
            "rule", [property_("links", [{"title": "Show ${__data.fields.rule}", "url": jump}])]
        )
        .no_value("nothing pending or firing")
    )
    ever = "max_over_time(fairness_alert_state[$__range] @ end()) > 0"
    timeline = (
        panel(
            statetimeline.Panel(),
            "Alert states over time",
            "Alerts that were pending or firing at some moment of the time range.",
            "none",
            [
                query(
                    f"max by ({ALERT}) (fairness_alert_state) and on ({ALERT}) ({ever})",
                    "{{rule}}: {{surface}} {{dimension}} {{slice}}",
                )
            ],
        )
        .mappings(ALERT_STATES)
        .thresholds(steps((1, YELLOW), (2, RED)))
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .merge_values(True)
        .show_value(common.VisibilityMode.NEVER)
        .no_value("no alert in this time range")
    )
    return [merged(now_table, hidden=[], names={"Value #A": "state", "Value #B": "disparity"}), timeline]


# --- exposure --------------------------------------------------------------------------


def exposure() -> list[Panel]:
    """Who is shown how much."""
    held_against = (
        f'(fairness_reference{{{SHOWN}%s}} and on (rule) fairness_rule_info{{metric="exposure_share"}})'
    )
    one = ', slice=~"$slice"'
    share = "Share of the surface's position-weighted exposure. "
    figures = panel(
        table.Panel().decimals(3),
        "Exposure share now: $dimension on $surface, $window",
        share
        + "With its 95 % jackknife interval, and the share that it is held against where a rule has one.",
        "percentunit",
        [
            *(
                rows(f"max by (slice) (fairness_exposure_share{end}{{{SHOWN}}})")
                for end in ("", "_lower", "_upper")
            ),
            rows(f"max by (slice) ({held_against % ''})"),
            rows(f"max by (slice) (fairness_impressions{{{SHOWN}}})"),
        ],
    ).override_by_name("impressions", [property_("unit", "locale"), property_("decimals", 0)])
    names = ("share", "lower", "upper", "reference", "impressions")
    small = panel(
        lines(legend=False),
        "Slice $slice",
        share + "Blue: share with its 95 % interval. Dashed: the reference of a rule on exposure shares.",
        "percentunit",
        [
            query(f"max by (slice) (fairness_exposure_share{{{SHOWN}{one}}})", "share"),
            query(f"max by (slice) (fairness_exposure_share_lower{{{SHOWN}{one}}})", "lower"),
            query(f"max by (slice) (fairness_exposure_share_upper{{{SHOWN}{one}}})", "upper"),
            query(f"max by (slice, rule) ({held_against % one})", "reference of {{rule}}"),
        ],
        width=6,
        height=7,
    )
    return [
        panel(
            lines(from_zero=True),
            "Exposure share: $dimension on $surface, $window",
            share + "Slices with too few impressions or viewers are left out (`limits`).",
            "percentunit",
            [query(f"max by (slice) (fairness_exposure_share{{{SHOWN}}})", "{{slice}}")],
        ),
        merged(figures, hidden=[], names={f"Value #{r}": n for r, n in zip("ABCDE", names, strict=True)}),
        with_band(small, "share")
        .override_by_regexp("/^reference/", dashed(GREY))
        .repeat("slice")
        .repeat_direction("h")
        .max_per_row(4),
    ]


def volume() -> list[Panel]:
    """How much there is to go by, and what viewers did."""
    return [
        panel(
            lines(from_zero=True),
            "Impressions: $dimension on $surface, $window",
            "Impressions in the window. Few impressions make wide intervals and, below a rule's "
            "`min_support`, the verdict `insufficient`.",
            "short",
            [query(f"max by (slice) (fairness_impressions{{{SHOWN}}})", "{{slice}}")],
            width=24,
            height=6,
        ),
        panel(
            lines(from_zero=True),
            "Rate of $action: $dimension on $surface, $window",
            "Engagements per impression, on panes whose attribution window is over. There is none for a "
            "window whose slide is finer than `engagement.pane`: choose a longer one.",
            "percentunit",
            [query(f'max by (slice) (fairness_engagement_rate{{{SHOWN}, action=~"$action"}})', "{{slice}}")],
            width=8,
            height=7,
        )
        .repeat("action")
        .repeat_direction("h")
        .max_per_row(3),
    ]


# --- rules -----------------------------------------------------------------------------


def tolerance() -> prometheus.Dataquery:
    """The lines that the chosen rule's disparity may not cross."""
    return query('max by (side) (fairness_tolerance{rule="$rule"})', "tolerance, {{side}}")


def disparity() -> list[Panel]:
    """What the chosen rule sees."""
    one = ', slice=~"$judged"'
    ratio = "Ratio of the slice to what the rule holds it against; 1 is parity. Red: the rule's tolerance. "
    small = panel(
        lines(legend=False),
        "$rule, slice $judged",
        ratio + "Blue: disparity with its interval.",
        "none",
        [
            query(f"max by (slice) (fairness_disparity{{{JUDGED}{one}}})", "disparity"),
            query(f"max by (slice) (fairness_disparity_lower{{{JUDGED}{one}}})", "lower"),
            query(f"max by (slice) (fairness_disparity_upper{{{JUDGED}{one}}})", "upper"),
            tolerance(),
        ],
        width=6,
        height=7,
    )
    return [
        panel(
            lines(),
            "Disparity: $rule on $surface",
            ratio + "Slices with too little data are left out.",
            "none",
            [query(f"max by (slice) (fairness_disparity{{{JUDGED}}})", "{{slice}}"), tolerance()],
        ).override_by_regexp("/^tolerance/", dashed(RED)),
        panel(
            lines(from_zero=True),
            "Evidence: $rule on $surface",
            "What the detector that decides has gathered against parity, on its own scale.",
            "none",
            [query(f"max by (slice) (fairness_evidence{{{JUDGED}}})", "{{slice}}")],
        ),
        with_band(small, "disparity")
        .override_by_regexp("/^tolerance/", dashed(RED))
        .repeat("judged")
        .repeat_direction("h")
        .max_per_row(4),
    ]


# --- pipeline --------------------------------------------------------------------------


def traffic() -> list[Panel]:
    """What flows."""
    rejected = f'fairstream_events_total{{role="aggregate", outcome!~"{GOOD}"}}'
    return [
        panel(
            lines(from_zero=True),
            "Events by role and outcome",
            "aggregate: records of impressions and engagements; `replayed` ones are read again after a "
            "restart and counted once. monitor: snapshots and heartbeats; `partial` and "
            "`other_configuration` are refused. notify: verdicts.",
            "reqps",
            [
                query(
                    f"sum by (role, outcome) (rate(fairstream_events_total{RATE})) > 0",
                    "{{role}} {{outcome}}",
                )
            ],
        ),
        panel(
            lines(from_zero=True).stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL)),
            "Rejected events by reason",
            "Records that are not counted, by the reason that stands in the dead-letter topic. `late`: raise "
            "`time.allowed_lateness`; `future`: a producer's clock.",
            "reqps",
            [query(f"sum by (topic, outcome) (rate({rejected}{RATE}))", "{{topic}} {{outcome}}")],
        ),
        panel(
            lines(from_zero=True),
            "Share of events rejected",
            "Rejected over all events read, per topic.",
            "percentunit",
            [
                query(
                    f"sum by (topic) (rate({rejected}{RATE}))"
                    f' / (sum by (topic) (rate(fairstream_events_total{{role="aggregate"}}{RATE})) > 0)',
                    "{{topic}}",
                )
            ],
            width=6,
        ),
        panel(
            lines(from_zero=True),
            "Alert events",
            "Events of alerts by their new state and why.",
            "reqps",
            [
                query(
                    f"sum by (state, reason) (rate(fairstream_alert_events_total{RATE}))",
                    "{{state}} {{reason}}",
                )
            ],
            width=6,
        ),
        panel(
            lines(from_zero=True),
            "Requests to sinks",
            "By outcome; anything but `delivered` needs a look at notify's log.",
            "reqps",
            [
                query(
                    f"sum by (sink, outcome, error) (rate(fairstream_deliveries_total{RATE}))",
                    "{{sink}} {{outcome}} {{error}}",
                )
            ],
            width=6,
        ),
        panel(
            lines(from_zero=True),
            "Not told yet",
            "Transitions of alerts that a sink has not been told of.",
            "none",
            [query("sum by (sink) (fairstream_deliveries_waiting)", "{{sink}}")],
            width=6,
        ),
    ]


def progress() -> list[Panel]:
    """How far the roles have come."""
    return [
        panel(
            lines(from_zero=True),
            "Watermark delay",
            "How far the event time that each source partition has reached is behind the clock. One "
            "partition that is behind holds all windows back, unless it is idle.",
            "s",
            [
                query(
                    "time() - max by (topic, partition) (fairstream_watermark_timestamp_seconds)",
                    "{{topic}} {{partition}}",
                )
            ],
            width=8,
        ),
        panel(
            lines(from_zero=True),
            "Window age",
            "Time since the newest closed window ended; a saw-tooth as high as the window's slide.",
            "s",
            [
                query(
                    "time() - max by (surface, window) (fairness_window_end_timestamp_seconds)",
                    "{{surface}} {{window}}",
                )
            ],
            width=8,
        ),
        panel(
            lines(from_zero=True),
            "Records not read yet",
            "Consumer lag by topic: sources as aggregate tells, panes of monitor, verdicts of notify.",
            "short",
            [
                query(
                    "sum by (topic) (max by (topic, partition) (fairstream_consumer_lag_records))",
                    "{{topic}}",
                )
            ],
            width=8,
        ),
        panel(
            statetimeline.Panel().show_value(common.VisibilityMode.NEVER).merge_values(True),
            "Roles over time",
            "Whether Prometheus could reach each process.",
            "none",
            [query(f"min by (job, instance) (up{{{JOBS}}})", "{{job}} {{instance}}")],
            width=8,
            height=6,
        )
        .mappings(words(_0=("DOWN", RED), _1=("up", GREEN)))
        .thresholds(steps((1, GREEN), base=RED))
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS)),
        panel(
            lines(from_zero=True),
            "Beyond the caps",
            "What did not fit under `limits.max_cells` and is counted as `other`, and what "
            "`limits.viewer_cap` left out, a second.",
            "cps",
            [
                query(
                    "sum by (role, topic) (rate(fairstream_overflow_total[$__rate_interval]))",
                    "{{role}} {{topic}}: other",
                ),
                query(
                    "sum by (role, topic) (rate(fairstream_capped_total[$__rate_interval]))",
                    "{{role}} {{topic}}: capped",
                ),
            ],
            width=8,
            height=6,
        ),
        merged(
            panel(
                table.Panel(),
                "Versions",
                "Version and configuration of each process. Snapshots made under another configuration are "
                "refused, so after a rollout all hashes must be the same.",
                "none",
                [
                    rows("count by (job, instance, version) (fairstream_build_info)"),
                    rows("count by (job, instance, sha256) (fairstream_config_info)"),
                ],
                width=8,
                height=6,
            ),
            hidden=["Value #A", "Value #B"],
            names={"sha256": "configuration"},
        ),
    ]


# --- the whole -------------------------------------------------------------------------


def variable(name: str, label: str, values: str, *, repeats: bool = False) -> builders.QueryVariable:
    """A variable filled from Prometheus; one that only repeats panels has all values and is not shown."""
    full = {"qryType": 1, "query": values, "refId": "PrometheusVariableQueryEditor-VariableQuery"}
    found = (
        builders.QueryVariable(name)
        .label(label)
        .query(full)
        .definition(values)
        .datasource(DATASOURCE)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.NATURAL_ASC)
    )
    if repeats:
        everything = models.VariableOption(selected=True, text="All", value="$__all")
        found.include_all(True).current(everything).hide(models.VariableHide.HIDE_VARIABLE)
    return found


def variables() -> list[Builder[models.VariableModel]]:
    """What the reader chooses, and what panels are repeated for."""
    shares = "fairness_exposure_share"
    return [
        builders.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        variable("surface", "Surface", f"label_values({shares}, surface)"),
        variable("window", "Window", f'label_values({shares}{{surface="$surface"}}, window)'),
        variable("dimension", "Dimension", f'label_values({shares}{{surface="$surface"}}, dimension)'),
        variable("rule", "Rule", 'label_values(fairness_disparity{surface="$surface"}, rule)'),
        variable("slice", "Slice", f"label_values({shares}{{{SHOWN}}}, slice)", repeats=True),
        variable(
            "judged", "Judged slice", f"label_values(fairness_disparity{{{JUDGED}}}, slice)", repeats=True
        ),
        variable("action", "Action", "label_values(fairness_engagement_rate, action)", repeats=True),
    ]


def build() -> models.Dashboard:
    """The dashboard."""
    overview = (
        builders.Dashboard("fairstream: overview")
        .uid(UID)
        .description(
            "Exposure and engagement of demographic slices, what is unfair, and whether the monitor works."
        )
        .tags(["fairstream"])
        .time("now-6h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .variables(variables())
    )
    number = 0
    for title, panels in (
        (None, first_row()),
        (None, alerts()),
        ("Exposure", exposure()),
        ("Disparity", disparity()),
        ("Impressions and engagement", volume()),
        ("Pipeline: traffic", traffic()),
        ("Pipeline: progress", progress()),
    ):
        if title is not None:
            number += 1
            overview.with_row(builders.Row(title).id(number))
        for each in panels:
            number += 1
            overview.with_panel(each.id(number))
    return overview.build()


def render() -> str:
    """The dashboard as it is committed."""
    plain: dict[str, Any] = json.loads(json.dumps(build(), cls=JSONEncoder))
    return json.dumps(plain, indent=2, sort_keys=True) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or compare; 1 if what is committed is not what this builds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="fail if the committed file is another one")
    wanted = render()
    if not parser.parse_args(arguments).check:
        OUTPUT.write_text(wanted, encoding="utf-8")
    elif not OUTPUT.exists() or OUTPUT.read_text(encoding="utf-8") != wanted:
        print(f"{OUTPUT} is not what {Path(__file__).name} builds; run it without --check", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
