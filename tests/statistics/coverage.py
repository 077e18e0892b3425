"""How often 95 % intervals hold the truth, by simulation with clustered viewers: ``make bench-coverage``.

Every metric, at every level of traffic, where it is shown. Beside them, for contrast, intervals that take
impressions for independent.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from monitor.estimates import Terms, double_ratio, rate_terms, share_terms
from monitor.metrics.dimensions import Named, inequality_metrics, target_metrics
from monitor.metrics.divergence import (
    awrf,
    expected_exposure_disparity,
    expected_exposure_loss,
    expected_exposure_relevance,
    kl_divergence,
)
from monitor.metrics.inequality import theil
from monitor.metrics.jackknife import (
    Estimates,
    Scale,
    estimate,
    estimate_rate_differences,
    estimate_rates,
    replicate,
)
from monitor.metrics.shares import exposure_ratio, exposure_ratio_to_rest, others, skew_at_k
from tests.statistics.rankings import KINDS, Kind, draw_means, make_pool
from tests.statistics.traffic import (
    BUCKETS,
    SHARES,
    Floats,
    Sums,
    item_side,
    true_rates,
    viewer_side,
)

LEVELS = (20, 60, 200, 600, 2_000, 6_000)
"""Viewers in the window; each has 12 impressions on average, of rankings 12 requests."""
POOL = 20_000
"""Viewers whose rankings are drawn from."""
SUPPORT, SHOWN = 100, 20
"""Defaults of a rule's ``min_support`` and of ``limits.suppress_below``."""
TARGETS = {
    "parity": SHARES,
    "near": np.array([0.45, 0.33, 0.15, 0.055, 0.015]),
    "far": np.array([0.3, 0.3, 0.2, 0.15, 0.05]),
}


class Case(NamedTuple):
    """Intervals of one metric in R runs, and the truth."""

    metric: str
    found: Estimates
    """(R, S), or (R, 1) for a whole dimension."""
    truth: Floats
    naive: Estimates | None = None


class Row(NamedTuple):
    """One metric at one level, all slices together."""

    metric: str
    side: str
    viewers: int
    shown: float
    """Part of the runs and slices that has an interval."""
    coverage: float
    lowest: float
    """Of the slices that have one in at least a fifth of the runs …"""
    highest: float
    """… so that chance does not decide what is looked at."""
    naive: float | None
    """As if impressions were independent."""


def _each_run(judge: Callable[[int], Terms], runs: int, enough: Floats, *, share: bool) -> Estimates:
    """Disparities of a rule in every run, where it has support."""
    found = [double_ratio(judge(run), 0.95, adaptive=share) for run in range(runs)]
    value, lower, upper = (np.array([r[i] for r in found]) for i in range(3))
    return Estimates(value, lower, upper).where(enough > 0)


def _fixed(shares: Floats) -> tuple[Floats, Floats]:
    return np.repeat(shares[:, None] / BUCKETS, BUCKETS, axis=1), np.full(BUCKETS, 1 / BUCKETS)


def _share_rule(
    part: Floats,
    counts: Floats,
    reference: tuple[Floats, Floats] | Floats,
    enough: Floats,
    *,
    paired: bool = False,
) -> Estimates:
    """``reference`` is fixed, or the sums of a baseline or of candidates in as many runs."""

    def terms(run: int) -> Terms:
        held = reference
        if not isinstance(held, tuple):
            held = (held[:, run].T, held[:, run].sum(axis=-1))
        mine = part[:, run].T
        return share_terms(mine, mine.sum(axis=0), held, counts[:, run].sum(axis=0), paired=paired)

    return _each_run(terms, part.shape[1], enough, share=True)


def _rate_rule(events: Floats, trials: Floats, counts: Floats | None, enough: Floats) -> Estimates:
    def terms(run: int) -> Terms:
        seen = None if counts is None else counts[:, run].sum(axis=0)
        return rate_terms(events[:, run].T, trials[:, run].T, seen)

    return _each_run(terms, events.shape[1], enough, share=False)


def _binomial(p: Floats, n: Floats) -> Floats:
    """Standard error of log(p) as if the n were independent."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.sqrt((1 - p) / (p * n)))


def _naive(found: Estimates, log_se: Floats) -> Estimates:
    """The same values with intervals of a naive error, where the honest ones are shown."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        reach = np.exp(1.96 * log_se)
        return Estimates(found.value, found.value / reach, found.value * reach).where(
            np.isfinite(found.lower)
        )


def slice_cases(sums: Sums, baseline: Sums) -> Iterator[Case]:
    """Metrics of single slices."""
    n = sums.impressions.sum(axis=0)
    total = n.sum(axis=-1, keepdims=True)
    shown, expected = n >= SHOWN, total * SHARES >= SUPPORT
    error = _binomial(n / total, total)
    share = _share_rule(sums.exposure, sums.impressions, _fixed(np.ones(len(SHARES))), shown)
    yield Case("exposure share", share, SHARES, _naive(share, error))
    target = TARGETS["far"]
    held = _share_rule(sums.exposure, sums.impressions, _fixed(target), expected)
    yield Case("exposure share / target", held, SHARES / target, _naive(held, error))
    learnt = _share_rule(sums.exposure, sums.impressions, baseline.exposure, expected)
    yield Case("exposure share / baseline", learnt, np.ones(len(SHARES)), _naive(learnt, error))
    if sums.candidates is not None:
        chosen = _share_rule(sums.exposure, sums.impressions, sums.candidates, expected, paired=True)
        yield Case("exposure share / candidates", chosen, np.ones(len(SHARES)))
    top = _share_rule(sums.top_k, sums.top_k, _fixed(target), expected)
    yield Case("top k share / target", top, SHARES / target)
    for name, function, scale, truth in (
        ("exposure ratio to supply", exposure_ratio, Scale.LOG, exposure_ratio(SHARES, target)),
        (
            "exposure ratio to the rest",
            exposure_ratio_to_rest,
            Scale.LOG,
            exposure_ratio_to_rest(SHARES, target),
        ),
        ("skew@k", skew_at_k, Scale.PLAIN, skew_at_k(SHARES, target)),
    ):
        supply = np.broadcast_to(target / BUCKETS, sums.top_k.shape)
        found = estimate(replicate(function, sums.top_k, supply), scale)
        yield Case(name, found.where(expected), truth)
    yield from _rate_cases(sums)


def _rate_cases(sums: Sums) -> Iterator[Case]:
    n, y = sums.impressions.sum(axis=0), sums.events.sum(axis=0)
    rates = true_rates()
    rest = (SHARES @ rates - SHARES * rates) / (1 - SHARES)
    found = estimate_rates(sums.events, sums.impressions)
    with np.errstate(divide="ignore", invalid="ignore"):
        mine, theirs = y / n, others(y) / others(n)
    error = _binomial(mine, n)
    yield Case("engagement rate", found, rates, _naive(found, error))
    both = np.hypot(error, _binomial(theirs, others(n)))
    ratio = _rate_rule(sums.events, sums.impressions, None, n >= SUPPORT)
    yield Case("engagement rate / rest", ratio, rates / rest, _naive(ratio, both))
    difference = estimate_rate_differences(sums.events, sums.impressions)
    with np.errstate(invalid="ignore"):
        reach = 1.96 * np.hypot(mine * error, theirs * _binomial(theirs, others(n)))
    naive = Estimates(difference.value, difference.value - reach, difference.value + reach)
    yield Case("engagement rate - rest", difference, rates - rest, naive.where(np.isfinite(difference.lower)))
    prominence = _rate_rule(sums.exposure, sums.impressions, sums.impressions, n >= SUPPORT)
    yield Case("exposure rate / rest", prominence, np.ones(len(SHARES)))


def dimension_cases(sums: Sums) -> Iterator[Case]:
    """Metrics of whole dimensions that have intervals."""
    runs = sums.exposure.shape[1]
    uniform = {"theil": theil(SHARES), "expected_exposure_disparity": expected_exposure_disparity(SHARES)}
    yield from _named_cases("", uniform, runs, lambda run: inequality_metrics(sums.exposure[:, run]))
    for name, target in TARGETS.items():
        truths = {
            "awrf": awrf(SHARES, target),
            "kl_divergence": kl_divergence(SHARES, target),
            "expected_exposure_loss": expected_exposure_loss(SHARES, target),
            "expected_exposure_relevance": expected_exposure_relevance(SHARES, target),
        }
        held = np.broadcast_to(target / BUCKETS, (BUCKETS, len(target)))
        yield from _named_cases(f", {name}", truths, runs, partial(_against, sums.exposure, held))


def _against(exposure: Floats, target: Floats, run: int) -> Iterator[Named]:
    return target_metrics(exposure[:, run], target)


def _named_cases(
    suffix: str, truths: dict[str, Floats], runs: int, compute: Callable[[int], Iterator[Named]]
) -> Iterator[Case]:
    found = [{m.name: m for m in compute(run)} for run in range(runs)]
    for name, truth in truths.items():
        columns = [np.array([[each[name][i]] for each in found]) for i in (1, 2, 3)]
        yield Case(name.replace("_", " ") + suffix, Estimates(*columns), np.atleast_1d(truth))


def row_of(case: Case, side: str, viewers: int) -> Row:
    """Count how often the truth is inside."""
    held, shown = _held(case.found, case.truth)
    by_slice = np.divide(
        held.sum(0), shown.sum(0), out=np.full(held.shape[1], np.nan), where=shown.sum(0) > 0
    )
    often = by_slice[shown.mean(axis=0) >= 0.2]
    naive = None
    if case.naive is not None:
        inside, known = _held(case.naive, case.truth)
        naive = float(inside.sum() / max(known.sum(), 1))
    return Row(
        case.metric,
        side,
        viewers,
        float(shown.mean()),
        float(held.sum() / shown.sum()) if shown.any() else float("nan"),
        float(often.min()) if len(often) else float("nan"),
        float(often.max()) if len(often) else float("nan"),
        naive,
    )


def _held(found: Estimates, truth: Floats) -> tuple[Floats, Floats]:
    shown = np.isfinite(found.lower) & np.isfinite(found.upper)
    margin = 1e-9  # rounding, where an interval is a point
    return (shown & (found.lower <= truth + margin) & (truth - margin <= found.upper)).astype(
        float
    ), shown.astype(float)


def simulate(levels: tuple[int, ...], runs: int, seed: int, say: Callable[[str], None]) -> list[Row]:
    """Rows of slices and dimensions; fewer runs at the largest levels."""
    chance = np.random.default_rng(seed)
    rows: list[Row] = []
    for viewers in levels:
        count = min(runs, max(300, 2_000_000 // viewers))
        for side, draw in (("item", item_side), ("viewer", viewer_side)):
            say(f"{side} side, {viewers} viewers, {count} runs")
            sums, baseline = draw(chance, count, viewers), draw(chance, count, 3 * viewers)
            cases = [*slice_cases(sums, baseline), *(dimension_cases(sums) if side == "item" else ())]
            rows += [row_of(case, side, viewers) for case in cases]
    return rows


def simulate_rankings(
    levels: tuple[int, ...],
    kinds: tuple[Kind, ...],
    runs: int,
    seed: int,
    say: Callable[[str], None],
    pool: int = POOL,
) -> list[Row]:
    """Rows of per-request metrics: of all requests (side ``item``), and of slices of viewers."""
    chance = np.random.default_rng(seed)
    rows: list[Row] = []
    for kind in kinds:
        say(f"rankings, {kind.name}")
        drawn = make_pool(chance, kind, pool)
        for viewers in levels:
            for side, slices in (("item", np.ones(1)), ("viewer", SHARES)):
                rows += [
                    row_of(Case(f"{metric}, {kind.name}", found, truth), side, viewers)
                    for metric, found, truth in draw_means(chance, drawn, runs, viewers, slices)
                ]
    return rows


def markdown(rows: list[Row], levels: tuple[int, ...]) -> str:
    """One line for each metric, one column for each level: coverage (lowest to highest slice), naive."""
    lines = [
        "| metric | side | " + " | ".join(f"{level:,} viewers" for level in levels) + " |",
        "|---|---|" + "---|" * len(levels),
    ]
    found = {(row.metric, row.side, row.viewers): row for row in rows}
    for metric, side in dict.fromkeys((row.metric, row.side) for row in rows):
        cells = [_cell(found[metric, side, level]) for level in levels]
        lines.append(f"| {metric} | {side} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: Row) -> str:
    if row.shown < 0.01 or not np.isfinite(row.lowest):
        return "-"
    text = f"{100 * row.coverage:.1f}"
    if row.lowest < row.highest:
        text += f" ({100 * row.lowest:.1f} to {100 * row.highest:.1f})"
    return text if row.naive is None else f"{text}, *{100 * row.naive:.0f}*"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the rows here too")
    options = parser.parse_args()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    rows = simulate(LEVELS, options.runs, options.seed, say)
    rows += simulate_rankings(LEVELS, KINDS, options.runs, options.seed, say)
    print(markdown(rows, LEVELS))
    if options.json:
        options.json.write_text(json.dumps([row._asdict() for row in rows], indent=1))


if __name__ == "__main__":
    main()
