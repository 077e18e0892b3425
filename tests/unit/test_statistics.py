"""Small forms of the simulations of ``make bench-statistics``: minutes there, seconds here."""

from __future__ import annotations

import numpy as np
import pytest

from tests.statistics import coverage
from tests.statistics.budget import Judged, Row, judge, most_pages, population, rows
from tests.statistics.delays import Case, Delay, measure
from tests.statistics.detection import budget_table, delay_table, everything
from tests.statistics.rankings import KINDS, make_pool
from tests.statistics.rivals import false_pages
from tests.statistics.sessions import DAY, Series, simulate

CONDITIONS = {
    "cycles": Series(),
    "bursts and gaps": Series(bursts=4, gaps=3),
    "bots": Series(bots=True),
    "late corrections": Series(behind=0.02),
}


def small(*, scattered: bool) -> Row:
    """Return what 300 pages in 30 days came to in 2 days of a dozen series, and of half their shares."""
    series = population(7, 3, CONDITIONS, scattered=scattered)
    names = [name for name in CONDITIONS for _ in range(3)]
    found: Judged = judge(7, series, names, 2, [300.0], lambda _: None)
    return rows([found], [300.0], everything)[0]


@pytest.mark.parametrize("capped", [True, False])
@pytest.mark.parametrize("kind", [Series(), Series(heavy=True), Series(bots=True)])
def test_the_volume_is_that_of_counted_impressions(kind: Series, *, capped: bool) -> None:
    """D* is of the volume that is asked for, so that much must come, also where long sessions are cut."""
    series = kind._replace(volume=600.0, cycle=0.0, share_cycle=0.0, capped=capped)
    impressions = simulate(np.random.default_rng(5), series, 0).impressions
    settled = impressions[60:-60].sum() / (DAY - 120)
    assert settled == pytest.approx(600, rel=0.03)


def test_false_pages_stay_within_the_budget() -> None:
    """Clustered viewers, cycles, bursts, gaps, bots, late panes: in 40 series-days no page too many."""
    row = small(scattered=False)
    assert row.low + row.high <= most_pages(row.allowed)


def test_the_budget_needs_the_variance_between_viewers() -> None:
    """With the variance of independent impressions the same traffic breaks it: the test above can fail."""
    row = small(scattered=True)
    assert row.low + row.high > most_pages(row.allowed)


def test_a_change_is_seen_about_as_fast_as_possible() -> None:
    """A share that falls by a tenth at 600 impressions a minute: at most twice D*."""
    delay = measure(Case(600, 0.1, of_share=True, warm_days=1), 12, 3, lambda _: None)
    assert np.isfinite(delay.p90)
    assert delay.median <= 2 * delay.best


def test_obvious_rules_page_where_there_is_nothing_and_the_e_detector_does_not() -> None:
    """A day of three series without a disparity: the ratio of the last hour crosses four fifths by chance."""
    pages = false_pages(population(8, 3, {"cycles": Series()}), 1, 8, lambda _: None)
    assert pages["ratio of rates < 0.8, 1 h"] > 0
    assert pages["e_detector, tolerance 1"] == pages["e_detector, tolerance 0.8"] == 0


@pytest.fixture(scope="module")
def rankings() -> list[coverage.Row]:
    """Return the coverage of per-request metrics at two levels of traffic, from a small pool of viewers."""
    return coverage.simulate_rankings((300, 1_000), KINDS, 250, 20_191_124, lambda _: None, pool=4_000)


def test_intervals_of_rankings_cover_the_truth(rankings: list[coverage.Row]) -> None:
    """Nominal 95 %, though all requests of a viewer are alike: 91 to 99.6 % of 250 runs, where shown."""
    seen = [row for row in rankings if row.shown >= 0.2]
    assert len(seen) >= 30
    assert {(r.metric, r.side): r.coverage for r in seen if not 0.91 <= r.coverage <= 0.996} == {}


def test_means_that_a_rare_value_skews_have_no_interval(rankings: list[coverage.Row]) -> None:
    """Of a thousand viewers NDKL, AWRF and InfeasibleIndex are shown, but not against 0.95 and 0.05."""
    at = {row.metric: row.shown for row in rankings if row.viewers == 1_000 and row.side == "item"}
    for metric in ("ndkl", "awrf", "infeasible_index"):
        assert at[f"{metric}, 4 values"] == 1
        assert at[f"{metric}, 2 values, one rare"] == 0


def test_the_pool_shows_what_is_due() -> None:
    """Viewers have about 12 requests, a few very many; tastes differ as said, so few lists show all."""
    close, far = (make_pool(np.random.default_rng(4), kind, 3_000) for kind in (KINDS[0], KINDS[2]))
    requests = far.sums[:, 0]
    assert requests.mean() == pytest.approx(12, rel=0.1)
    assert requests.max() > 100
    assert close.truth[2] > 0.9 > far.truth[2]  # DIV@k


def test_tables_say_what_was_found() -> None:
    """One line for each budget and each change; a target that was missed is called so."""
    row = Row(30.0, 1_000.0, 12.0, 3, 2, 1.6, 11.7)
    assert budget_table([row]).splitlines()[-1] == "| 30 | 1,000 | 12 | 3 + 2 | 1.6 to 11.7 |"
    case = Case(600, 0.1, of_share=True)
    found = delay_table([Delay(case, 200.0, 250.0, 400.0, 40), Delay(case, 200.0, 270.0, 400.0, 40)])
    assert found.splitlines()[2:] == [
        "| share, 600, 10 % | 200 | 250 | 400 | 1.25 | met |",
        "| share, 600, 10 % | 200 | 270 | 400 | 1.35 | missed |",
    ]
