"""The monitor's Prometheus metrics, computed from its state when it is scraped."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from monitor.config import Config
from monitor.panels import SurfacePanels
from monitor.progress import Progress
from monitor.ranking_panels import Ranked, RankingPanels
from monitor.watch import SurfaceWatch

_SLICE = ["surface", "window", "dimension", "slice"]
_WHOLE = ["surface", "window", "dimension", "metric"]
_OF_SLICE = [*_WHOLE, "by", "slice"]
_SERIES = ["rule", "surface", "window", "dimension", "slice"]

_HELP = {
    "fairness_impressions": ("Impressions in the window.", _SLICE),
    "fairness_exposure_share": ("Share of the surface's position-weighted exposure.", _SLICE),
    "fairness_exposure_share_lower": ("Lower end of the 95 % interval of the exposure share.", _SLICE),
    "fairness_exposure_share_upper": ("Upper end of the 95 % interval of the exposure share.", _SLICE),
    "fairness_engagement_rate": ("Engagements per impression, matured panes only.", [*_SLICE, "action"]),
    "fairness_engagement_rate_lower": ("Lower end of its 95 % interval.", [*_SLICE, "action"]),
    "fairness_engagement_rate_upper": ("Upper end of its 95 % interval.", [*_SLICE, "action"]),
    "fairness_dimension_metric": ("A fairness metric of all slices of a dimension together.", _WHOLE),
    "fairness_dimension_metric_lower": ("Lower end of its 95 % interval, where one holds.", _WHOLE),
    "fairness_dimension_metric_upper": ("Upper end of its 95 % interval, where one holds.", _WHOLE),
    "fairness_ranking": ("A metric of single requests' rankings, averaged over requests.", _WHOLE),
    "fairness_ranking_lower": ("Lower end of its 95 % interval.", _WHOLE),
    "fairness_ranking_upper": ("Upper end of its 95 % interval.", _WHOLE),
    "fairness_ranking_requests": ("Requests with an item that counts.", _WHOLE[:3]),
    "fairness_ranking_slice": ("The same for the requests of a slice of viewers.", _OF_SLICE),
    "fairness_ranking_slice_lower": ("Lower end of its 95 % interval.", _OF_SLICE),
    "fairness_ranking_slice_upper": ("Upper end of its 95 % interval.", _OF_SLICE),
    "fairness_ranking_slice_requests": (
        "Requests with an item that counts, of a slice of viewers.",
        [*_WHOLE[:3], "by", "slice"],
    ),
    "fairness_disparity": ("Ratio of the slice to its reference or the rest; 1 is parity.", _SERIES),
    "fairness_disparity_lower": ("Lower end of the disparity's interval.", _SERIES),
    "fairness_disparity_upper": ("Upper end of the disparity's interval.", _SERIES),
    "fairness_reference": ("Share or rate that the slice is held against.", _SERIES),
    "fairness_evidence": ("Evidence of the deciding detector.", ["rule", "surface", "dimension", "slice"]),
    "fairness_tolerance": ("Limits that the disparity may not cross.", ["rule", "side"]),
    "fairness_rule_info": (
        "What a rule compares; the value is always 1.",
        ["rule", "metric", "action", "dimension", "window"],
    ),
    "fairness_window_end_timestamp_seconds": ("End of the newest closed window.", ["surface", "window"]),
    "fairstream_watermark_timestamp_seconds": (
        "Event time reached, per source partition.",
        ["topic", "partition"],
    ),
    "fairstream_consumer_lag_records": ("Records not read yet.", ["topic", "partition"]),
}

OVERFLOW_HELP = "Contributions, or cells at the monitor, summed as `other` because of limits.max_cells."


class Watching(Protocol):
    """What the collector needs of a panes partition."""

    progress: Progress
    surfaces: dict[str, SurfaceWatch]


class FairnessCollector(Collector):
    """Snapshots the watches at each scrape. No own timestamps, so series that end go stale at once."""

    def __init__(
        self,
        config: Config,
        watches: Mapping[int, Watching],
        input_lag: Callable[[], dict[tuple[str, int], int]],
    ) -> None:
        """``watches`` is read live, from the same thread that changes it."""
        self._config = config
        self._watches = watches
        self._input_lag = input_lag
        self._panels: dict[str, tuple[SurfaceWatch, SurfacePanels, RankingPanels]] = {}

    def describe(self) -> Iterable[Metric]:
        """Names and help without values."""
        return [*self._families().values(), self._overflow()]

    def _families(self) -> dict[str, GaugeMetricFamily]:
        return {name: GaugeMetricFamily(name, text, labels=labels) for name, (text, labels) in _HELP.items()}

    def collect(self) -> Iterator[Metric]:
        """All values of now."""
        families = self._families()
        for rule in self._config.rules:
            info = [rule.name, rule.metric.value, rule.action or "", rule.dimension, rule.window]
            families["fairness_rule_info"].add_metric(info, 1)
            for side, limit in (("low", rule.tolerance.low), ("high", rule.tolerance.high)):
                if limit is not None:
                    families["fairness_tolerance"].add_metric([rule.name, side], limit)
        for watch in list(self._watches.values()):
            for surface in watch.surfaces.values():
                self._add_panels(families, surface)
                self._add_verdicts(families, surface)
        self._add_progress(families)
        yield from families.values()
        yield self._overflow()

    def _overflow(self) -> CounterMetricFamily:
        family = CounterMetricFamily("fairstream_overflow", OVERFLOW_HELP, labels=["role", "topic"])
        surfaces = (s for watch in list(self._watches.values()) for s in watch.surfaces.values())
        refused = sum(surface.panes.rows.refused for surface in surfaces)
        family.add_metric(["monitor", self._config.kafka.topics.panes], refused)
        return family

    def _add_panels(self, families: dict[str, GaugeMetricFamily], surface: SurfaceWatch) -> None:
        held = self._panels.get(surface.surface)
        if held is None or held[0] is not surface:
            panels = (SurfacePanels(self._config, surface), RankingPanels(self._config, surface))
            held = self._panels[surface.surface] = (surface, *panels)
        name = surface.surface
        for share in held[1].shares():
            labels = [name, share.window, share.dimension, share.slice]
            families["fairness_impressions"].add_metric(labels, share.impressions)
            families["fairness_exposure_share"].add_metric(labels, share.share)
            families["fairness_exposure_share_lower"].add_metric(labels, share.lower)
            families["fairness_exposure_share_upper"].add_metric(labels, share.upper)
        for rate in held[1].rates():
            labels = [name, rate.window, rate.dimension, rate.slice, rate.action]
            _add_estimate(families, "fairness_engagement_rate", labels, rate[-3:])
        for whole in held[1].wholes():
            labels = [name, whole.window, whole.dimension, whole.metric.name]
            _add_estimate(families, "fairness_dimension_metric", labels, whole.metric[1:])
        for ranked in held[2].figures():
            _add_ranked(families, name, ranked)
        for view in surface.panes.views:
            if view.closed.end_ms:
                families["fairness_window_end_timestamp_seconds"].add_metric(
                    [name, view.spec.name], view.closed.end_ms / 1000
                )

    def _add_verdicts(self, families: dict[str, GaugeMetricFamily], surface: SurfaceWatch) -> None:
        for verdict in (v for judge in surface.judges for v in judge.latest):
            estimate = verdict.estimate
            if estimate.value is None:
                continue
            labels = [verdict.rule, verdict.surface, verdict.window, verdict.dimension, verdict.slice_]
            for metric, value in (
                ("fairness_disparity", estimate.value),
                ("fairness_disparity_lower", estimate.lower),
                ("fairness_disparity_upper", estimate.upper),
                ("fairness_reference", verdict.reference),
            ):
                if value is not None:
                    families[metric].add_metric(labels, value)
            series = [verdict.rule, verdict.surface, verdict.dimension, verdict.slice_]
            families["fairness_evidence"].add_metric(series, verdict.evidence)

    def _add_progress(self, families: dict[str, GaugeMetricFamily]) -> None:
        newest: dict[tuple[str, int], tuple[int, int]] = {}
        for watch in list(self._watches.values()):
            for source in watch.progress.sources.values():
                key = (source.topic, source.partition)
                newest[key] = max(newest.get(key, (0, 0)), (source.watermark_ms, source.lag))
        for (topic, partition), (watermark_ms, lag) in sorted(newest.items()):
            labels = [topic, str(partition)]
            if watermark_ms:
                families["fairstream_watermark_timestamp_seconds"].add_metric(labels, watermark_ms / 1000)
            families["fairstream_consumer_lag_records"].add_metric(labels, lag)
        for (topic, partition), lag in sorted(self._input_lag().items()):
            families["fairstream_consumer_lag_records"].add_metric([topic, str(partition)], lag)


def _add_ranked(families: dict[str, GaugeMetricFamily], surface: str, ranked: Ranked) -> None:
    """The figures of a ranking, of all requests or of a slice of viewers."""
    family, whose = ("fairness_ranking_slice", [ranked.by, ranked.slice])
    if not ranked.by:
        family, whose = "fairness_ranking", []
    labels = [surface, ranked.window, ranked.dimension]
    families[f"{family}_requests"].add_metric([*labels, *whose], ranked.requests)
    for metric in ranked.metrics:
        _add_estimate(families, family, [*labels, metric.name, *whose], metric[1:])


def _add_estimate(
    families: dict[str, GaugeMetricFamily], name: str, labels: list[str], figures: tuple[float, ...]
) -> None:
    """Value, lower and upper end under their names; NaN is left out."""
    for suffix, figure in zip(("", "_lower", "_upper"), figures, strict=True):
        if not math.isnan(figure):
            families[name + suffix].add_metric(labels, figure)
