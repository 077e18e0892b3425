"""The typed model of the configuration file. Field names are what a user writes in YAML."""

from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta, Struct, field

from monitor.config.durations import Duration, parse_duration

Name = Annotated[str, Meta(pattern=r"^[a-zA-Z][a-zA-Z0-9_.\-]*$", max_length=80)]
AttributeName = Annotated[str, Meta(pattern=r"^[a-zA-Z][a-zA-Z0-9_]*$", max_length=80)]
AttributeValue = Annotated[str, Meta(min_length=1, max_length=128)]
Positive = Annotated[int, Meta(ge=1)]
PositiveFloat = Annotated[float, Meta(gt=0)]
Fraction = Annotated[float, Meta(gt=0, lt=1)]
Port = Annotated[int, Meta(ge=0, le=65535)]


def _lasting(text: str) -> Any:
    """A duration as default; by factory, since a JSON Schema cannot hold one."""
    return field(default_factory=lambda: parse_duration(text))


class _Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every section: immutable, no unknown fields."""


class Metric(StrEnum):
    """What a rule compares: ratios, where 1 is parity, and two metrics where 0 is; or means over requests."""

    EXPOSURE_SHARE = "exposure_share"
    """Slice's position-weighted exposure over all exposure of the surface."""
    TOP_K_SHARE = "top_k_share"
    """Slice's impressions in the top k over all impressions in the top k."""
    IMPRESSION_SHARE = "impression_share"
    """Slice's impressions over all impressions."""
    EXPOSURE_RATE = "exposure_rate"
    """Exposure per impression: how prominently the slice is placed when shown."""
    ENGAGEMENT_RATE = "engagement_rate"
    """Engagements of one action per impression."""
    SKEW_AT_K = "skew_at_k"
    """ln of the slice's share of the top k over its reference; 0 is parity."""
    ENGAGEMENT_RATE_DIFFERENCE = "engagement_rate_difference"
    """Engagements per impression minus those of the rest; 0 is parity."""
    NDKL = "ndkl"
    """Mean over requests of the NDKL of each one's ranking; 0 is parity."""
    AWRF = "awrf"
    """Mean over requests of the AWRF of each one's ranking; 1 is parity."""
    DIV_AT_K = "div_at_k"
    """Part of the requests whose top k shows every value; 1 is parity."""
    INFEASIBLE_INDEX = "infeasible_index"
    """Mean over requests of the prefixes up to k that lack an item that is due; 0 is parity."""

    @property
    def parity(self) -> float:
        """The value when nobody gets less or more."""
        return 0.0 if self in _ZERO_AT_PARITY else 1.0

    @property
    def of_requests(self) -> bool:
        """Whether it is a mean over requests: of one series, by the targets of a ranking."""
        return self in _OF_REQUESTS

    @property
    def counts_engagements(self) -> bool:
        """Whether it is of an action, and judged when the attribution window is over."""
        return self in {Metric.ENGAGEMENT_RATE, Metric.ENGAGEMENT_RATE_DIFFERENCE}


_ZERO_AT_PARITY = (
    Metric.SKEW_AT_K,
    Metric.ENGAGEMENT_RATE_DIFFERENCE,
    Metric.NDKL,
    Metric.INFEASIBLE_INDEX,
)
_OF_REQUESTS = (Metric.NDKL, Metric.AWRF, Metric.DIV_AT_K, Metric.INFEASIBLE_INDEX)


class Compare(StrEnum):
    """What a slice is held against."""

    REFERENCE = "reference"
    REST = "rest"


class DetectorKind(StrEnum):
    """The detectors a rule may name."""

    TOLERANCE = "tolerance"
    E_DETECTOR = "e_detector"
    ADWIN = "adwin"
    PAGE_HINKLEY = "page_hinkley"
    KSWIN = "kswin"
    HDDM = "hddm"


class Severity(StrEnum):
    """How loudly an alert calls."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Curve(StrEnum):
    """Position weight curves; the formulas stand in :mod:`monitor.exposure`."""

    LOG2 = "log2"
    GEOMETRIC = "geometric"
    RECIPROCAL = "reciprocal"
    TOP_K = "top_k"
    TABLE = "table"


class SinkType(StrEnum):
    """Where alerts can be delivered."""

    ALERTMANAGER = "alertmanager"
    WEBHOOK = "webhook"
    SLACK = "slack"
    PAGERDUTY = "pagerduty"


class Topics(_Section, frozen=True):
    """Topic names."""

    impressions: Name = "impressions"
    engagements: Name = "engagements"
    panes: Name = "fairness.panes"
    verdicts: Name = "fairness.verdicts"
    alerts: Name = "fairness.alerts"
    dead_letter: Name = "fairness.dead-letter"


class Kafka(_Section, frozen=True):
    """How to reach the cluster. Secrets come from files, never from this file."""

    bootstrap: str = "127.0.0.1:9092"
    topics: Topics = field(default_factory=Topics)
    group_prefix: Name = "fairstream"
    partitions: Positive = 4
    """Partitions of ``impressions`` and ``engagements`` when ``fairstream topics`` creates them."""
    internal_partitions: Positive = 4
    """Partitions of ``fairness.panes``, ``fairness.verdicts`` and the state topics."""
    replication: Positive = 1
    session_timeout: Duration = _lasting("6s")
    protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    username_file: str | None = None
    password_file: str | None = None
    ca_file: str | None = None


class Attribute(_Section, frozen=True):
    """One attribute. With ``values``, any other value is counted as ``other``."""

    values: list[AttributeValue] | None = None


class Attributes(_Section, frozen=True):
    """The attributes that cells are made of. ``variant`` is off unless given."""

    variant: Attribute | None = None
    viewer: dict[AttributeName, Attribute] = {}
    item: dict[AttributeName, Attribute] = {}


class Time(_Section, frozen=True):
    """Event time."""

    pane: Duration = _lasting("10s")
    """Length of a base pane; every slide is a multiple of it."""
    allowed_lateness: Duration = _lasting("30s")
    allowed_skew: Duration = _lasting("1m")
    """An event further than this ahead of its record's time is rejected as ``future``."""
    idle_timeout: Duration = _lasting("30s")
    correction_horizon: Duration = _lasting("1m")
    """How long after closing a pane still takes corrections from a partition that was idle."""


class Exposure(_Section, frozen=True):
    """How much attention a position is worth."""

    curve: Curve = Curve.LOG2
    patience: Fraction = 0.8
    """``geometric``: the chance that a viewer looks at the next position."""
    k: Positive = 10
    """Positions 1..k count as the top k (curve ``top_k`` and metric ``top_k_share``)."""
    table: list[Annotated[float, Meta(ge=0, le=1_000)]] = []
    """``table``: weight of position 1, 2, …; positions beyond have weight 0."""


class Engagement(_Section, frozen=True):
    """Actions and how long after its impression one is credited to it."""

    actions: list[Name] = []
    attribution_window: Duration = _lasting("30m")
    pane: Duration = _lasting("1m")
    """Engagements are summed in panes of this length; engagement rules need slides that are multiples."""


class WindowSpec(_Section, frozen=True):
    """A sliding window: ``length`` long, moving by ``slide``."""

    length: Duration
    slide: Duration

    @property
    def name(self) -> str:
        """The ``window`` label: its length, e.g. ``1h``."""
        return str(self.length)


class ViewerCap(_Section, frozen=True):
    """How many impressions of one viewer count in a session, and engagements of each action."""

    contributions: Positive
    """Further ones are accepted and counted as capped, and add nothing to any sum."""
    per: Duration = _lasting("30m")
    """Length of a session: a multiple of the panes. After a restart, so much of the log is read again."""


class Limits(_Section, frozen=True):
    """What keeps memory bounded."""

    buckets: Annotated[int, Meta(ge=4, le=256)] = 32
    max_cells: Positive = 2_000
    """Cells per surface, pane and source partition; beyond it, combinations go to the cell ``other``."""
    max_series: Positive = 5_000
    """Slices of one dimension on one surface; beyond it, slices are summed as `other`."""
    max_record_bytes: Positive = 1_048_576
    viewer_cap: ViewerCap | None = None
    """Default: none."""
    suppress_below: Annotated[int, Meta(ge=0)] = 20
    """Slices with fewer impressions in a window are not shown, on panels, in verdicts or in alerts."""
    min_viewers: Annotated[int, Meta(ge=0)] = 10
    """Nor slices of fewer viewers, counted by their buckets; beyond ``buckets``, all must be filled."""


class Tolerance(_Section, frozen=True):
    """A disparity below ``low`` or above ``high`` is a breach.

    Most are ratios, where 1 is parity; of ``skew_at_k`` and ``engagement_rate_difference`` parity is 0,
    so ``low`` is negative. Means over requests have one side: ``ndkl`` and ``infeasible_index`` only
    ``high``, ``awrf`` and ``div_at_k`` only ``low``.
    """

    low: float | None = None
    high: float | None = None
    clear_low: float | None = None
    """A breach on the low side ends when the disparity is at least this (default: ``low``)."""
    clear_high: float | None = None
    """A breach on the high side ends when the disparity is at most this (default: ``high``)."""


class BaselineReference(_Section, frozen=True):
    """Shares learnt from the log: from its ``first`` length, or from/to in UTC; or moving along.

    Once learnt they stay. Another stretch takes effect with another ``relearn``, never by itself. Moving
    ones are of the ``sliding`` stretch that ends ``lag`` before each pane, or of the same hours of past
    days, weeks, …: as many ``periods`` of the length ``every``.
    """

    first: Duration | None = None
    start: str | None = None
    """ISO 8601, e.g. ``2019-11-24T00:00:00Z``."""
    end: str | None = None
    sliding: Duration | None = None
    lag: Duration = _lasting("1d")
    """What is unfair for longer than the lag begins to enter a ``sliding`` baseline."""
    every: Duration | None = None
    periods: Annotated[int, Meta(ge=1, le=60)] = 7
    bin: Duration = _lasting("1h")
    """Moving baselines are sums of whole bins of this length."""
    relearn: str = ""
    """Any word, such as a date: when it changes, the baseline is learnt anew."""

    @property
    def moves(self) -> bool:
        """Whether it moves along with event time."""
        return self.sliding is not None or self.every is not None


class Reference(_Section, frozen=True):
    """What the shares should be: exactly one of the four."""

    targets: dict[str, Annotated[float, Meta(ge=0, le=1)]] | None = None
    uniform: bool = False
    """Equal shares among the attribute's declared values (or the slices seen)."""
    baseline: BaselineReference | None = None
    candidates: bool = False
    """The slice's share of what the requests of the same time could have shown."""


class DetectorSpec(_Section, frozen=True):
    """One detector of a rule, with its parameters."""

    kind: DetectorKind = DetectorKind.TOLERANCE
    confidence: Fraction = 0.95
    """``tolerance``: level of the jackknife interval that must lie wholly beyond the tolerance."""
    delta: PositiveFloat | None = None
    """``adwin``, ``kswin``, ``hddm``: chance of a false sign (default 0.002, 0.0001, 0.001);
    ``page_hinkley``: its drift allowance (default 0.5)."""
    threshold: PositiveFloat = 25.0
    """``page_hinkley``: alarm level, in standard deviations summed."""
    clear: PositiveFloat = 0.5
    """River detectors: a drift is over when the recent mean residual is nearer to 0 than this."""
    strata: str | None = None
    """``e_detector`` of a rate: an attribute, or several joined by *, whose mix is no disparity: slices are
    compared inside of its values."""
    timeout: Duration = _lasting("7d")
    """``e_detector``: a breach that is neither proved again nor refuted for so long is over."""


class Rule(_Section, frozen=True):
    """What to watch, against what, and when it is worth saying."""

    name: Name
    metric: Metric
    dimension: str
    window: str
    compare: Compare = Compare.REST
    """Means over requests are held against the tolerance alone, and have none."""
    surfaces: list[Name] = []
    """Default: all configured surfaces."""
    slices: list[str] = []
    """Default: every slice seen or named by the reference."""
    action: Name | None = None
    reference: Reference | None = None
    tolerance: Tolerance = field(default_factory=lambda: Tolerance(low=0.8, high=1.25))
    min_support: Positive = 100
    """Impressions in the window (for shares: expected under the reference; for means over requests:
    requests) that an answer needs."""
    detectors: list[DetectorSpec] = field(default_factory=lambda: [DetectorSpec()])
    """The rule is breached when any of them says so."""
    hold: Duration = field(default_factory=lambda: Duration(0), name="for")
    """How long a breach lasts before the alert fires."""
    clear_for: Duration = _lasting("0s")
    """How long it must be over before the alert resolves."""
    severity: Severity = Severity.WARNING
    summary: str = ""
    runbook_url: str = ""
    labels: dict[AttributeName, str] = {}


class Ranking(_Section, frozen=True):
    """Metrics of each request's ranking by one attribute of items, averaged over requests."""

    dimension: str
    """``item.`` and one attribute. Items whose value has no target are left out."""
    targets: dict[AttributeValue, Annotated[float, Meta(gt=0, le=1)]] | None = None
    """Share due to each value in each ranking; default: equal shares of the attribute's declared values."""
    k: Positive = 10
    """How many items from the top ``div_at_k`` and ``infeasible_index`` look at."""


class SinkSpec(_Section, frozen=True):
    """Where alerts go. URLs and keys that are secrets are named by file."""

    type: SinkType
    name: Name | None = None
    urls: list[str] = []
    """``alertmanager``: every member of the cluster, never a load balancer."""
    url: str | None = None
    """``webhook``, or PagerDuty's events endpoint."""
    url_file: str | None = None
    """``slack`` and ``webhook``: the file that holds the URL."""
    routing_key_file: str | None = None
    """``pagerduty``."""
    min_severity: Severity = Severity.INFO


class Alerts(_Section, frozen=True):
    """Delivery."""

    sinks: list[SinkSpec] = []
    resend: Duration = _lasting("1m")
    """Firing alerts are sent again this often to sinks that forget (Alertmanager)."""
    dashboard_url: str = ""


class Http(_Section, frozen=True):
    """Where /metrics, /-/healthy and /-/ready are served. Port 0: none."""

    bind: str = "127.0.0.1"
    aggregate_port: Port = 9101
    monitor_port: Port = 9102
    notify_port: Port = 9103
    stalled_after: Duration = _lasting("60s")
    """Without progress for this long while records wait, a role is not healthy."""


class Config(_Section, frozen=True):
    """The whole file."""

    surfaces: Annotated[list[Name], Meta(min_length=1)]
    """Impressions of any other surface are summed under the surface ``other``."""
    windows: Annotated[list[WindowSpec], Meta(min_length=1)]
    attributes: Attributes = field(default_factory=Attributes)
    kafka: Kafka = field(default_factory=Kafka)
    time: Time = field(default_factory=Time)
    exposure: Exposure = field(default_factory=Exposure)
    engagement: Engagement = field(default_factory=Engagement)
    dimensions: list[str] = []
    """Dimensions shown on panels beyond those that rules name."""
    rankings: list[Ranking] = []
    """Per-request metrics: NDKL, AWRF, DIV@k, InfeasibleIndex."""
    candidates: bool = False
    """Count what requests could have shown (field ``candidates`` of impressions)."""
    rules: list[Rule] = []
    false_alarm_budget: str = "1 per 30d"
    """How many false pages all rules with an ``e_detector`` together may be expected to send in what time."""
    limits: Limits = field(default_factory=Limits)
    flush_interval: Duration = _lasting("1s")
    alerts: Alerts = field(default_factory=Alerts)
    http: Http = field(default_factory=Http)
