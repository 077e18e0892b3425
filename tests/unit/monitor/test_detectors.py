from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import river
from numpy.typing import NDArray

from monitor.budget import Allowance
from monitor.config import DetectorKind, DetectorSpec
from monitor.detectors import Block, Evidence, Status, make_detector
from monitor.detectors.drift import WARM_UP_PANES, DriftDetector, residuals
from monitor.detectors.tolerance import ToleranceDetector
from monitor.estimates import Ratios, Terms, double_ratio, rate_terms, share_terms
from monitor.verdicts import ToleranceBand

Floats = NDArray[np.float64]
BUCKETS = 32
SLICES = ["a", "b", "c", "d"]
SHARES = np.array([0.4, 0.3, 0.2, 0.1])
PANE_MS = 10_000
BAND = ToleranceBand(low=0.8, high=1.25)


def block_of(
    terms: Terms, number: int = 0, *, is_share: bool = True, band: ToleranceBand = BAND, enough: bool = True
) -> Block:
    """Return a block whose window is its pane."""
    slices = SLICES[: len(terms.half)]
    start_ms = number * PANE_MS
    support = np.full(len(slices), enough)
    impressions = terms.b.sum(axis=1)
    return Block(start_ms, start_ms + PANE_MS, slices, terms, terms, is_share, support, band, impressions)


def reference() -> tuple[Floats, Floats]:
    """Return the shares that the slices should have."""
    return np.repeat(SHARES[:, None] / BUCKETS, BUCKETS, axis=1), np.full(BUCKETS, 1 / BUCKETS)


def panes(seed: int, shares: Iterable[Floats], size: int = 600) -> list[Terms]:
    """Return one pane for each row of shares: about `size` impressions, in sessions of 1 to 5."""
    chance = np.random.default_rng(seed)
    found = []
    for row in shares:
        part = np.zeros((len(SLICES), BUCKETS))
        bucket = chance.integers(0, BUCKETS, size // 3)
        taste = chance.dirichlet(8 * row, size // 3)
        counts = chance.multinomial(chance.integers(1, 6, size // 3), taste)
        for i in range(len(SLICES)):
            np.add.at(part[i], bucket, counts[:, i])
        found.append(share_terms(part, part.sum(axis=0), reference(), part.sum(axis=1)))
    return found


def run(detector: DriftDetector, stream: list[Terms], first: int = 0) -> list[Evidence]:
    """Feed panes; return the answers."""
    return [
        detector.update(block_of(terms, first + number), double_ratio(terms, 0.95))
        for number, terms in enumerate(stream)
    ]


def drift(kind: DetectorKind = DetectorKind.ADWIN) -> DriftDetector:
    """Return a drift detector."""
    return DriftDetector(DetectorSpec(kind=kind))


# ---------------------------------------------------------------- tolerance


def judged(value: float, lower: float, upper: float, band: ToleranceBand = BAND, se: float = 0.1) -> Evidence:
    """Return what the tolerance detector says of one slice."""
    ratios = Ratios(*(np.array([x]) for x in (value, lower, upper, se)))
    terms = share_terms(
        np.ones((1, BUCKETS)), np.ones(BUCKETS), (np.ones((1, BUCKETS)), np.ones(BUCKETS)), np.ones(1)
    )
    return ToleranceDetector().update(block_of(terms, band=band), ratios)


@pytest.mark.parametrize(
    ("value", "lower", "upper", "status", "direction"),
    [
        (1.0, 0.9, 1.1, Status.OK, 0),
        (0.7, 0.6, 0.79, Status.BREACH, -1),
        (0.7, 0.6, 0.80, Status.OK, 0),
        (0.7, 0.6, 0.9, Status.OK, 0),
        (1.4, 1.26, 1.5, Status.BREACH, 1),
        (1.4, 1.25, 1.5, Status.OK, 0),
        (0.0, 0.0, 0.1, Status.BREACH, -1),
        (0.0, 0.0, 2.0, Status.OK, 0),
        (float("nan"), float("nan"), float("nan"), Status.INSUFFICIENT, 0),
    ],
)
def test_tolerance_needs_the_whole_interval_beyond(
    value: float, lower: float, upper: float, status: Status, direction: int
) -> None:
    """A breach is an interval wholly below `low` or above `high`; a point estimate beyond is not enough."""
    answer = judged(value, lower, upper)
    assert (answer.status[0], answer.direction[0]) == (status, direction)


def test_tolerance_of_one_side_ignores_the_other() -> None:
    """Without a limit on a side nothing is a breach there."""
    assert judged(0.1, 0.05, 0.2, ToleranceBand(high=1.25)).status[0] == Status.OK
    assert judged(9.0, 8.0, 10.0, ToleranceBand(low=0.8)).status[0] == Status.OK
    assert judged(9.0, 8.0, 10.0, ToleranceBand(high=1.25)).direction[0] == 1


def test_tolerance_evidence_is_in_standard_errors_beyond_the_limit() -> None:
    """Negative inside, positive outside, growing, and always a number."""
    inside, outside, far = (float(judged(v, v, v).evidence[0]) for v in (1.0, 0.75, 0.5))
    assert inside < 0 < outside < far
    assert outside == pytest.approx((np.log(0.8) - np.log(0.75)) / 0.1)
    for value, se in ((0.8, 0.0), (0.5, 0.0), (0.0, 0.1), (1.0, 0.0)):
        assert np.isfinite(judged(value, value, value, se=se).evidence[0])


def test_tolerance_says_nothing_of_what_has_too_little_support() -> None:
    """Below the minimum support the answer is insufficient, with no evidence and no direction."""
    part = np.ones((1, BUCKETS))
    terms = share_terms(part, part[0], (part, part[0]), np.ones(1))
    ratios = Ratios(*(np.array([x]) for x in (0.1, 0.1, 0.1, 0.1)))
    answer = ToleranceDetector().update(block_of(terms, enough=False), ratios)
    assert (answer.status[0], answer.direction[0], answer.evidence[0]) == (Status.INSUFFICIENT, 0, 0.0)


# ---------------------------------------------------------------- drift

STEADY = [SHARES] * 500
DRIFT = [DetectorKind.ADWIN, DetectorKind.PAGE_HINKLEY, DetectorKind.KSWIN, DetectorKind.HDDM]


def shifted(count: int) -> list[Floats]:
    """Return shares after a change of ranker: `c` gains what `a` loses."""
    return [SHARES + np.array([-0.06, 0, 0.06, 0])] * count


@pytest.mark.parametrize("kind", DRIFT)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_drift_is_silent_on_a_stationary_stream(kind: DetectorKind, seed: int) -> None:
    """Five hundred panes of correlated impressions with constant shares raise no alarm in any slice."""
    answers = run(drift(kind), panes(seed, STEADY))
    assert not any((answer.status == Status.BREACH).any() for answer in answers)
    assert all((answer.status[:] == Status.OK).all() for answer in answers[WARM_UP_PANES:])
    evidence = np.array([answer.evidence for answer in answers[2 * WARM_UP_PANES :]])
    assert (
        np.abs(evidence.std(axis=0) - 1 / 3).max() < 0.08
    )  # of standard normal residuals, 1 to 4 remembered


@pytest.mark.parametrize("kind", DRIFT)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_drift_fires_on_a_shift_in_the_right_direction(kind: DetectorKind, seed: int) -> None:
    """A planted change is seen within an hour of minutes: `a` low, `c` high, the others quiet."""
    stream = panes(seed, [*STEADY[:200], *shifted(60)])
    answers = run(drift(kind), stream)
    last = answers[-1]
    assert last.status.tolist() == [Status.BREACH, Status.OK, Status.BREACH, Status.OK]
    assert last.direction.tolist() == [-1, 0, 1, 0]
    assert last.evidence[0] < 0 < last.evidence[2]


def test_drift_is_over_when_the_shares_are_back() -> None:
    """The breach ends once recent residuals are near 0 again."""
    stream = panes(4, [*STEADY[:100], *shifted(60), *STEADY[:100]])
    answers = run(drift(), stream)
    assert answers[159].status[0] == Status.BREACH
    assert answers[-1].status[0] == Status.OK


def test_drift_warms_up_first() -> None:
    """Before the variance is known the answer is insufficient."""
    answers = run(drift(), panes(5, STEADY[:WARM_UP_PANES]))
    assert all((answer.status == Status.INSUFFICIENT).all() for answer in answers[:-1])


@pytest.mark.parametrize("kind", DRIFT)
@pytest.mark.parametrize("stop", [1, 30, 210])
def test_drift_survives_a_restart(kind: DetectorKind, stop: int) -> None:
    """From a dump the detector goes on exactly as one that never stopped."""
    stream = panes(6, [*STEADY[:200], *shifted(60)])
    steady, stopped, revived = drift(kind), drift(kind), drift(kind)
    expected = run(steady, stream)[stop:]
    run(stopped, stream[:stop])
    revived.restore(stopped.dump())
    found = run(revived, stream[stop:], stop)
    for a, b in zip(found, expected, strict=True):
        assert a.status.tolist() == b.status.tolist()
        assert a.direction.tolist() == b.direction.tolist()
        assert a.evidence.tolist() == b.evidence.tolist()
    assert revived.dump() == steady.dump()


@pytest.mark.parametrize("kind", DRIFT)
def test_drift_survives_an_upgrade_of_river(kind: DetectorKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever another version pickled: the last residuals are seen again, so a shift just then is found."""
    stream = panes(6, [*STEADY[:200], *shifted(60)])
    steady, stopped, revived = drift(kind), drift(kind), drift(kind)
    expected = [answer.direction.tolist() for answer in run(steady, stream)[200:]]
    run(stopped, stream[:200])
    dump = stopped.dump().replace(river.__version__.encode(), b"0.99.0")  # type: ignore[attr-defined]
    monkeypatch.setattr(pickle, "loads", no_pickles)
    revived.restore(dump)
    found = [answer.direction.tolist() for answer in run(revived, stream[200:], 200)]
    late = [found.index(each) - expected.index(each) for each in expected if any(each)]
    assert late
    assert max(map(abs, late)) <= 5


def no_pickles(data: bytes) -> Any:
    """Stand in for pickle.loads where none must be read."""
    raise AssertionError(data)


def test_drift_of_another_version_starts_anew() -> None:
    """State that this program does not know is not taken; nor is no state."""
    detector = drift()
    run(detector, panes(7, STEADY[:50]))
    for data in (b"", detector.dump().replace(b"version\x01", b"version\x63")):
        revived = drift()
        revived.restore(data)
        answer = run(revived, panes(7, STEADY[:1]))[0]
        assert (answer.status == Status.INSUFFICIENT).all()


def test_drift_ignores_empty_panes() -> None:
    """A pane without impressions is no evidence of anything."""
    stream = panes(8, STEADY[:100])
    nothing = np.zeros((len(SLICES), BUCKETS))
    gap = share_terms(nothing, nothing[0], reference(), np.zeros(len(SLICES)))
    with_gaps = [each for terms in stream for each in (terms, gap)]
    plain, gapped = drift(), drift()
    one, other = run(plain, stream)[-1], run(gapped, with_gaps)[-1]
    assert one.evidence.tolist() == other.evidence.tolist()


def test_drift_takes_slices_as_they_come() -> None:
    """A slice that appears later has a state of its own and warms up; order does not matter."""
    stream = panes(9, STEADY[:60])
    detector, other = drift(), drift()
    for number, terms in enumerate(stream):
        few = Terms(*(x[:2] for x in terms)) if number < 30 else terms
        last = detector.update(block_of(few, number), double_ratio(few, 0.95))
        back = Terms(*(x[::-1] for x in terms))
        turned = block_of(back, number)._replace(slices=SLICES[::-1])
        mirrored = other.update(turned, double_ratio(back, 0.95))
    assert last.status.tolist() == [Status.OK] * 4
    assert last.evidence[:2].tolist() == pytest.approx(mirrored.evidence[::-1][:2].tolist())


def test_residuals_are_standardised() -> None:
    """Score over the root of its variance is about standard normal, for shares and for rates."""
    chance = np.random.default_rng(10)
    scores: list[Floats] = []
    for terms in panes(10, STEADY):
        found = residuals(terms, is_share=True)
        scores.append(found.score / np.sqrt(found.variance))
    z = np.array(scores)
    assert np.abs(z.mean(axis=0)).max() < 0.2
    assert np.abs(z.std(axis=0) - 1).max() < 0.15
    rates = []
    for _ in range(400):
        trials = chance.poisson(30, (2, BUCKETS)).astype(np.float64)
        terms = rate_terms(chance.binomial(trials.astype(int), 0.1).astype(np.float64), trials)
        found = residuals(terms, is_share=False)
        rates.append(found.score / np.sqrt(found.variance))
    z = np.array(rates)
    assert np.abs(z.mean(axis=0)).max() < 0.2
    assert np.abs(z.std(axis=0) - 1).max() < 0.15
    assert z[:, 0] == pytest.approx(-z[:, 1])  # two slices are each other's rest


@pytest.mark.parametrize("own", [True, False])
def test_residuals_against_candidates_are_standardised(own: bool) -> None:
    """Whether viewers are shown what they have most candidates of, or their candidates are mere noise."""
    chance = np.random.default_rng(12)
    z = []
    for _ in range(600):
        taste, another = chance.dirichlet((2.0, 4.0), (2, BUCKETS))
        shown = chance.multinomial(40, taste).T.astype(np.float64)
        candidates = chance.multinomial(60, taste if own else another).T.astype(np.float64)
        held = (candidates, candidates.sum(axis=0))
        terms = share_terms(shown, shown.sum(axis=0), held, shown.sum(axis=1), paired=True)
        found = residuals(terms, is_share=True, paired=True)
        z.append(found.score[0] / np.sqrt(found.variance[0]))
    assert abs(np.mean(z)) < 0.15
    assert np.std(z) == pytest.approx(1, abs=0.12)


def test_every_kind_of_detector_can_be_made() -> None:
    """Each kind that a rule may name has its detector, of that name."""
    nothing = Allowance(0.0, (), closed=False)
    made = [make_detector(DetectorSpec(kind=kind), nothing) for kind in DetectorKind]
    assert [detector.name for detector in made] == list(DetectorKind)
