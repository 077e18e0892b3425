"""How long 5,000 series take to judge and to show, and how much state each holds: ``make bench-evaluate``.

Series are slices x rules (verdicts), or slices x windows (panels), with 32 viewer buckets each. Times are
the processor's (one core), so that a busy machine does not count.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from monitor.config import Config, parse_config
from monitor.detectors.drift import WARM_UP_PANES
from monitor.judge import ClosedPane
from monitor.panels import SurfacePanels
from monitor.progress import Progress
from monitor.store import MemoryStore
from monitor.sums import Sparse
from monitor.watch import SurfaceWatch
from streams.metrics import FairnessCollector

START_MS = 1_700_000_000_000 // 3_600_000 * 3_600_000
SLICES, SURFACES = 100, 5
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


def configuration(detectors: list[str]) -> Config:
    """Ten rules on a dimension of 100 slices, on five surfaces: 5,000 series; two windows."""
    targets = {str(s): 1 / SLICES for s in range(SLICES)}
    share: dict[str, Any] = {"compare": "reference", "reference": {"targets": targets}}
    metrics: list[dict[str, Any]] = [
        {"metric": "exposure_share", **share},
        {"metric": "top_k_share", **share},
        {"metric": "impression_share", **share},
        {"metric": "exposure_rate", "compare": "rest"},
        {"metric": "engagement_rate", "action": "save", "compare": "rest"},
    ]
    rules = [
        {
            "name": f"{metric['metric']}-{window}",
            "dimension": "item.tone",
            "window": window,
            "detectors": [{"kind": kind} for kind in detectors],
            **metric,
        }
        for metric in metrics
        for window in ("5m", "1h")
    ]
    document = {
        "surfaces": [f"s{i}" for i in range(SURFACES)],
        "windows": [{"length": "5m", "slide": "1m"}, {"length": "1h", "slide": "1m"}],
        "attributes": {"item": {"tone": {}}},
        "time": {"pane": "1m"},
        "engagement": {"actions": ["save"], "pane": "1m"},
        "rules": rules,
    }
    return parse_config(yaml.safe_dump(document))


def filled(config: Config, surface: str) -> SurfaceWatch:
    """A surface's watch whose windows hold an hour of random sums."""
    watch = SurfaceWatch(config, surface, MemoryStore())
    panes, chance = watch.panes, np.random.default_rng(1)
    for number in range(SLICES):
        panes.rows.row((str(number),))
    series = panes.views[0].live.series
    for minute in range(60):
        shape = (SLICES, config.limits.buckets)
        shown = chance.poisson(30, shape)
        exposure = chance.normal(430_000 * shown, 200_000 * np.sqrt(shown)).astype(np.int64)
        sums = np.stack([shown, exposure, chance.binomial(shown, 0.4), chance.binomial(shown, 0.05)], axis=2)
        entries = Sparse(np.arange(sums.size), sums.reshape(-1))
        change = panes.projections.project(entries)
        series.replace(START_MS + minute * MINUTE_MS, {"bench": entries}, change)
    for view in panes.views:
        for window in (view.live, view.closed, view.matured):
            if window is not None:
                window.advance(START_MS + 60 * MINUTE_MS)
    return watch


def end_of(repeat: int) -> int:
    """When a pane ends: an hour after the last while detectors learn, then a minute."""
    hours = min(repeat, WARM_UP_PANES) + 1
    return START_MS + hours * HOUR_MS + max(repeat - WARM_UP_PANES, 0) * MINUTE_MS


def closed_pane(watch: SurfaceWatch, end_ms: int) -> ClosedPane:
    """The last pane, as if it ended at a time."""
    view, layout = watch.panes.views[1], watch.panes.layout
    slices = watch.panes.projections.slices("item.tone")
    last = view.closed.series.panes[START_MS + 59 * MINUTE_MS].slices[0]
    window = view.closed.totals[0].array(len(slices), layout)
    return ClosedPane(end_ms - MINUTE_MS, end_ms, slices, last.array(len(slices), layout), window)


def median_ms(work: Callable[[int], object], repeats: int, warm: int = 1) -> float:
    """Median processor time of some work in milliseconds, after some times that do not count."""
    times = []
    for repeat in range(warm + repeats):
        start = time.process_time()
        work(repeat)
        times.append(1_000 * (time.process_time() - start))
    return float(np.median(times[warm:]))


class _Watching:
    """What the collector asks a panes partition for."""

    def __init__(self, config: Config, watches: list[SurfaceWatch]) -> None:
        self.progress = Progress(config)
        self.surfaces = {watch.surface: watch for watch in watches}


def measure(repeats: int) -> dict[str, float]:
    """All figures."""
    found: dict[str, float] = {}
    for detectors in (["tolerance"], ["e_detector"], ["tolerance", "adwin"]):
        config = configuration(detectors)
        watches = [filled(config, surface) for surface in config.surfaces]

        def judge(repeat: int, watches: list[SurfaceWatch] = watches) -> None:
            for watch in watches:
                for same in watch.by_window.values():
                    same.judge([closed_pane(watch, end_of(repeat)) for _ in same.judges])

        name = "+".join(detectors)
        found[f"verdicts, {name}, ms"] = median_ms(judge, repeats, WARM_UP_PANES + 1)
        states = [len(each.dump()) for watch in watches for each in watch.judges]
        series = SLICES * len(states)
        found["series"] = series
        found[f"state of a series, {name}, bytes"] = sum(states) / series
    panels = [SurfacePanels(config, watch) for watch in watches]
    found["panels: shares, ms"] = median_ms(lambda _: [list(p.shares()) for p in panels], repeats)
    found["panels: rates, ms"] = median_ms(lambda _: [list(p.rates()) for p in panels], repeats)
    found["panels: dimensions, ms"] = median_ms(lambda _: [list(p.wholes()) for p in panels], repeats)
    registry = CollectorRegistry()
    registry.register(FairnessCollector(config, {0: _Watching(config, watches)}, dict))
    found["a whole scrape, ms"] = median_ms(lambda _: generate_latest(registry), repeats)
    return found


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    found = measure(options.repeats)
    for name, figure in found.items():
        print(f"{name:45} {figure:10,.1f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
