"""Budget, delays and the comparison of all detectors, by seeded simulation: ``make bench-statistics``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.statistics.budget import CONDITIONS, Judged, Row, judge, population, rows
from tests.statistics.delays import CASES, Delay, measure, series_of
from tests.statistics.rivals import Comparison, false_pages, median_delays
from tests.statistics.sessions import DAY, Series

BUDGETS = [300.0, 30.0, 1.0]
"""Pages in 30 days, of all series of a seed together."""
PROCESSES = 2


class Change(NamedTuple):
    """A drop of the slice's rate that all detectors are shown: for how many minutes, drawn in which steps."""

    volume: float
    drop: float
    minutes: int
    step: int
    runs: int


CHANGES = [Change(600, 0.2, 2_400, 120, 40), Change(6_000, 0.2, 480, 120, 24)]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def judged(seed: int, each: int, days: int, *, scattered: bool = False) -> Judged:
    """Every condition, ``each`` series of it."""
    names = [name for name in CONDITIONS for _ in range(each)]
    series = population(seed, each, CONDITIONS, scattered=scattered)
    return judge(seed, series, names, days, BUDGETS, _say)


def compared(each: int, days: int, seed: int) -> list[Comparison]:
    """All rules: false pages on ordinary series with a daily cycle, and the delays."""
    pages = false_pages(population(seed, each, {"cycles": Series()}), days, seed, _say)
    delays = []
    for change in CHANGES:
        _say(f"all detectors: {change}")
        case = next(c for c in CASES if (c.volume, c.drop, c.of_share) == (change.volume, change.drop, False))
        series = series_of(case, DAY + change.step // 2)
        delays.append(median_delays(series, change.runs, change.minutes, seed, change.step))
    return [Comparison(name, count, [each[name] for each in delays]) for name, count in pages.items()]


def budget_table(found: list[Row]) -> str:
    """One line for each budget."""
    lines = [
        "| budget, pages per 30 d | series-days | allowed | false pages, low + high | 95 % limits |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.pages_per_30_days:g} | {row.series_days:,.0f} | {row.allowed:,.0f} "
        f"| {row.low} + {row.high} | {row.lower:.1f} to {row.upper:.1f} |"
        for row in found
    ]
    return "\n".join(lines)


def condition_table(found: list[Judged]) -> str:
    """One line for each condition, at the largest budget."""
    lines = ["| condition | allowed | rates: low + high | shares: low + high |", "|---|---|---|---|"]
    for name in CONDITIONS:
        rates, shares = (
            rows(found, BUDGETS, partial(_of_condition, name=name, shares=shares))[0]
            for shares in (False, True)
        )
        judged_shares = f"{shares.low} + {shares.high}" if shares.series_days else "-"
        allowed = rates.allowed + shares.allowed
        lines.append(f"| {name} | {allowed:.0f} | {rates.low} + {rates.high} | {judged_shares} |")
    return "\n".join(lines)


def _of_condition(judged: Judged, name: str, *, shares: bool) -> Any:
    return (np.array(judged.conditions) == name) & (judged.shares == shares)


def everything(judged: Judged) -> Any:
    """Pick all series."""
    return np.ones(len(judged.conditions), dtype=bool)


def delay_table(found: Iterable[Delay]) -> str:
    """One line for each case."""
    lines = [
        "| impressions/min, drop | D* | median | 90 % | median / D* | target |",
        "|---|---|---|---|---|---|",
    ]
    for each in found:
        case = each.case
        what = ("share" if case.of_share else "rate") + (
            f" in panes of {case.pane} min" if case.pane > 1 else ""
        )
        lines.append(
            f"| {what}, {case.volume:,.0f}, {100 * case.drop:g} % | {each.best:,.0f} | {each.median:,.0f} "
            f"| {each.p90:,.0f} | {each.median / each.best:.2f} | {'met' if each.good else 'missed'} |"
        )
    return "\n".join(lines)


def comparison_table(found: list[Comparison]) -> str:
    """One line for each rule."""
    heads = " | ".join(f"{100 * c.drop:g} % at {c.volume:,.0f}/min" for c in CHANGES)
    lines = [
        f"| rule, asked every minute | false pages a month | {heads} |",
        "|---|---|" + "---|" * len(CHANGES),
    ]
    for each in found:
        delays = " | ".join(f"{d:,.0f} min" if np.isfinite(d) else "not seen" for d in each.delays)
        lines.append(f"| {each.name} | {each.false_pages:,.0f} | {delays} |")
    return "\n".join(lines)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=30, help="without a disparity, of each series")
    parser.add_argument("--each", type=int, default=5, help="series of each condition and seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--runs", type=int, default=40, help="of each change")
    parser.add_argument("--only", choices=["budget", "delays", "comparison"])
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    with ProcessPoolExecutor(PROCESSES) as pool:
        if options.only in {None, "budget"}:
            found = list(pool.map(partial(judged, each=options.each, days=options.days), options.seeds))
            binomial = [
                *pool.map(partial(judged, each=options.each, days=3, scattered=True), options.seeds[:1])
            ]
            held, broken = (rows(x, BUDGETS, everything) for x in (found, binomial))
            print(f"{budget_table(held)}\n\n{condition_table(found)}\n")
            print(f"With the variance of independent impressions, 3 days:\n\n{budget_table(broken)}\n")
            figures |= {"budget": [r._asdict() for r in held], "binomial": [r._asdict() for r in broken]}
        if options.only in {None, "delays"}:
            delays = list(pool.map(partial(measure, runs=options.runs, seed=1, say=_say), CASES))
            print(delay_table(delays) + "\n")
            figures["delays"] = [d._asdict() | {"case": d.case._asdict()} for d in delays]
        if options.only in {None, "comparison"}:
            table = pool.submit(compared, max(options.each * 4, 4), max(options.days // 3, 1), 4).result()
            print(comparison_table(table) + "\n")
            figures["comparison"] = [row._asdict() for row in table]
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2, default=str), encoding="utf-8")


if __name__ == "__main__":
    main()
