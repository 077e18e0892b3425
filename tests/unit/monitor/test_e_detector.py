"""The e-detector: its formulas, its memory, and what it says of planted disparities."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from monitor.budget import Allowance
from monitor.config import DetectorKind, DetectorSpec, parse_duration
from monitor.detectors import Block, Evidence, Status, Together, make_detector
from monitor.detectors.betting import MOST_PER_BLOCK
from monitor.detectors.e_detector import EDetector
from monitor.detectors.scores import moments, rate_scores, spread
from monitor.estimates import Terms, double_ratio, rate_terms, share_terms
from monitor.verdicts import ToleranceBand
from tests.support.plain_bets import PlainSide, plain_rate_scores

Floats = NDArray[np.float64]

B = 16
MINUTE_MS = 60_000
T = 1_700_000_000_000
SLICES = ["a", "b", "c"]
SHARES = np.array([0.5, 0.3, 0.2])
PARITY = ToleranceBand(low=1.0, high=1.0)
FOUR_FIFTHS = ToleranceBand(low=0.8, high=1.25)
PANE_MS = 10 * MINUTE_MS


class Pane(NamedTuple):
    """Clicks and impressions, (S, K, B)."""

    clicks: Floats
    trials: Floats


def draw(seed: int, count: int, rates: Floats, volume: float = 600, strata: int = 1) -> list[Pane]:
    """Return panes of ten minutes: viewers of 1 to 11 impressions, each with a mood of its own."""
    chance = np.random.default_rng(seed)
    panes = []
    for _ in range(count):
        viewers = chance.poisson(volume / 6)
        bucket, stratum = chance.integers(0, B, viewers), chance.integers(0, strata, viewers)
        mood = np.exp(0.5 * chance.standard_normal(viewers) - 0.125)
        shown = chance.multinomial(chance.integers(1, 12, viewers), SHARES)
        clicked = chance.binomial(shown, np.minimum(mood[:, None] * rates, 1))
        found = np.zeros((2, len(SLICES), strata, B))
        for i, counts in enumerate((clicked, shown)):
            for s in range(len(SLICES)):
                np.add.at(found[i, s], (stratum, bucket), counts[:, s])
        panes.append(Pane(*found))
    return panes


def rest(part: Floats) -> Floats:
    """Return what all others have."""
    return np.asarray(part.sum(axis=0) - part)


def rate_block(pane: Pane, number: int, band: ToleranceBand = PARITY, *, stratified: bool = False) -> Block:
    """Return a block of rates against the rest's."""
    terms = rate_terms(pane.clicks.sum(axis=1), pane.trials.sum(axis=1))
    strata = (pane.clicks, pane.trials, rest(pane.clicks), rest(pane.trials)) if stratified else None
    return block_of(terms, number, band, pane.trials.sum(axis=(1, 2)), strata)


def share_block(pane: Pane, number: int, band: ToleranceBand = PARITY, scale: float = 1.0) -> Block:
    """Return a block of shares against fixed ones."""
    part = scale * pane.trials.sum(axis=1)
    fixed = (np.repeat(SHARES[:, None] / B, B, axis=1), np.full(B, 1 / B))
    terms = share_terms(part, part.sum(axis=0), fixed, part.sum(axis=1) / scale)
    return block_of(terms, number, band, pane.trials.sum(axis=(1, 2)), is_share=True)


def candidate_block(pane: Pane, supply: Pane, number: int, band: ToleranceBand) -> Block:
    """Return a block of shares against those of candidates."""
    part, candidates = (x.trials.sum(axis=1) for x in (pane, supply))
    held = (candidates, candidates.sum(axis=0))
    terms = share_terms(part, part.sum(axis=0), held, part.sum(axis=1), paired=True)
    found = block_of(terms, number, band, pane.trials.sum(axis=(1, 2)), is_share=True)
    return found._replace(paired=True)


def block_of(
    terms: Terms,
    number: int,
    band: ToleranceBand,
    impressions: Floats,
    strata: tuple[Floats, Floats, Floats, Floats] | None = None,
    *,
    is_share: bool = False,
) -> Block:
    """Return a block whose window is its pane."""
    start, count = T + number * PANE_MS, len(terms.half)
    enough = np.full(count, fill_value=True)
    return Block(
        start, start + PANE_MS, SLICES[:count], terms, terms, is_share, enough, band, impressions, strata
    )


def e_detector(per_day: float = 1 / 3000, timeout: str = "7d") -> EDetector:
    """Return a detector of which every slice may spend a third of ``per_day``."""
    spec = DetectorSpec(kind=DetectorKind.E_DETECTOR, timeout=parse_duration(timeout))
    found = make_detector(spec, Allowance(per_day, tuple(SLICES), closed=True))
    assert isinstance(found, EDetector)
    return found


def run(detector: EDetector, blocks: Iterable[Block]) -> list[Evidence]:
    """Feed blocks; return the answers."""
    return [detector.update(block, double_ratio(block.window, 0.95)) for block in blocks]


EVEN = np.full(3, 0.1)
LOW_A = EVEN * np.array([0.6, 1, 1])


def rates(panes: list[Pane], band: ToleranceBand = PARITY) -> Iterator[Block]:
    """Return the panes as blocks of rates."""
    return (rate_block(pane, number, band) for number, pane in enumerate(panes))


# ---------------------------------------------------------------- formulas


@pytest.mark.parametrize("volume", [40, 600])
@pytest.mark.parametrize("kind", ["rates", "strata", "shares", "candidates"])
def test_agrees_with_a_plain_second_implementation(kind: str, volume: float) -> None:
    """Evidence is that of the formulas, one series and one number at a time: quiet, firing, quiet again."""
    strata = 3 if kind == "strata" else 1
    panes = [
        *draw(1, 150, EVEN, volume, strata),
        *draw(2, 60, LOW_A, volume, strata),
        *draw(3, 120, EVEN, volume, strata),
    ]
    of_shares = kind in {"shares", "candidates"}
    if of_shares:
        panes[150:210] = [
            Pane(p.clicks, p.trials * np.array([0.5, 1, 1])[:, None, None]) for p in panes[150:210]
        ]
    band, least = ToleranceBand(low=0.9, high=1.2), 20 if of_shares else 360
    supply = draw(4, 330, EVEN, 3 * volume, strata)
    plain = [
        [
            PlainSide(sign, limit, 1 / 18_000, 7 * 86_400_000, B, least)
            for sign, limit in ((1, 0.9), (-1, 1.2))
        ]
        for _ in SLICES
    ]
    detector, fired = e_detector(), set()
    for number, pane in enumerate(panes):
        if kind == "candidates":
            block = candidate_block(pane, supply[number], number, band)
        elif kind == "shares":
            block = share_block(pane, number, band)
        else:
            block = rate_block(pane, number, band, stratified=True)
        answer = run(detector, [block])[0]
        others = [rest(x) for x in pane]
        for s, sides in enumerate(plain):
            if of_shares:
                part, whole = pane.trials[s].sum(axis=0), pane.trials.sum(axis=(0, 1))
                due, of_all = SHARES[s] * whole, whole
                if kind == "candidates":
                    due, of_all = supply[number].trials[s].sum(axis=0), supply[number].trials.sum(axis=(0, 1))
                    due, of_all = (x * whole.sum() / of_all.sum() for x in (due, of_all))
                scores = [part, whole, due, of_all]
                share = due.sum() / of_all.sum()
                count = whole.sum() * min(share, 1 - share)
            else:
                parts = (pane.clicks[s], pane.trials[s], others[0][s], others[1][s])
                scores = plain_rate_scores([tuple(x[k].tolist() for x in parts) for k in range(strata)])
                count = min(pane.trials[s].sum(), others[1][s].sum())
            for side in sides:
                side.pane([list(map(float, x)) for x in scores], count, block.start_ms, block.end_ms)
            firing = [side for side in sides if side.fired_ms]
            fired |= {(s, side.sign) for side in firing}
            expected = firing[0].evidence if firing else max(side.evidence for side in sides)
            assert answer.evidence[s] == pytest.approx(np.clip(expected, -20, 20), rel=1e-7, abs=1e-7)
            assert (answer.status[s] == Status.BREACH) == bool(firing)
    assert ((0, 1) in fired) == (volume == 600 or of_shares)


def test_no_block_adds_more_than_its_most() -> None:
    """A pane in which a slice has no events at all is no page, however surprising it is."""
    detector = e_detector()
    run(detector, rates(draw(4, 150, EVEN)))
    gone = draw(5, 1, np.array([0, 0.1, 0.1]), 100_000)[0]
    before = run(detector, [rate_block(draw(6, 1, EVEN)[0], 150)])[0].evidence[0]
    after = run(detector, [rate_block(gone, 151)])[0]
    assert after.status[0] == Status.OK
    assert (after.evidence[0] - before) * np.log(10) <= MOST_PER_BLOCK + 1


@given(st.integers(0, 10_000), st.floats(1e-3, 1e6))
def test_variance_is_of_what_buckets_leave_over(seed: int, weight: float) -> None:
    """From products of scores as from residuals; where every impression weighs the same there is none at all.

    Such as exposure on a surface with one position: what rounding leaves must not become a variance.
    """
    chance = np.random.default_rng(seed)
    trials = chance.poisson(40.0, (2, 1, B)).astype(float)
    varied = weight * np.stack([chance.binomial(40, 0.1, (1, B)), chance.normal(50, 5, (1, B))])
    for events, is_varied in ((varied, True), (weight * trials, False)):
        scores = rate_scores(*(x[None, side] for side in (0, 1) for x in (events, trials)))
        mine, others = (a - c * a.sum() / c.sum() for a, c in (scores[0, :2], scores[0, 2:]))
        expected = B / (B - 1) * np.array([mine @ mine, mine @ others, others @ others])
        found = spread(moments(scores), B)[0]
        assert found == pytest.approx(expected if is_varied else [0, 0, 0], rel=1e-7, abs=1e-9 * expected[0])


@settings(max_examples=20)
@given(st.permutations(range(3)), st.integers(0, 100))
def test_the_order_of_slices_means_nothing(order: list[int], seed: int) -> None:
    """Slices get the same answers wherever they stand, and also when they change places on the way."""
    panes = draw(seed, 40, LOW_A)
    straight, turned = e_detector(), e_detector()
    expected = run(straight, rates(panes))[-1]
    names = [SLICES[i] for i in order]
    for number, pane in enumerate(panes):
        block = rate_block(Pane(*(x[order] for x in pane)), number)._replace(slices=names)
        if number % 2:
            block = rate_block(pane, number)
        found = run(turned, [block])[0]
    places = [block.slices.index(name) for name in SLICES]
    assert found.evidence[places].tolist() == pytest.approx(expected.evidence.tolist(), rel=1e-9)


@settings(max_examples=20)
@given(st.floats(1e-3, 1e6), st.integers(0, 100))
def test_the_unit_of_exposure_means_nothing(scale: float, seed: int) -> None:
    """Shares of millionths give the evidence of shares of ones."""
    panes = draw(seed, 40, EVEN)
    one, other = e_detector(), e_detector()
    expected = run(one, (share_block(p, i) for i, p in enumerate(panes)))[-1]
    found = run(other, (share_block(p, i, scale=scale) for i, p in enumerate(panes)))[-1]
    assert found.evidence.tolist() == pytest.approx(expected.evidence.tolist(), rel=1e-6)


# ---------------------------------------------------------------- memory


@settings(max_examples=20)
@given(st.integers(0, 60), st.integers(0, 100))
def test_a_restart_changes_nothing(stop: int, seed: int) -> None:
    """From a dump the detector goes on exactly as one that never stopped, to the last bit."""
    blocks = list(rates([*draw(seed, 40, EVEN), *draw(seed + 1, 21, LOW_A)]))
    steady, stopped, revived = e_detector(), e_detector(), e_detector()
    expected = run(steady, blocks)[stop:]
    run(stopped, blocks[:stop])
    revived.restore(stopped.dump())
    for a, b in zip(run(revived, blocks[stop:]), expected, strict=True):
        assert [x.tolist() for x in a] == [x.tolist() for x in b]
    assert revived.dump() == steady.dump()


def test_another_tolerance_begins_anew_but_keeps_what_it_learnt() -> None:
    """Evidence against one limit is none against another; variances are what they were."""
    panes = [*draw(7, 100, EVEN), *draw(8, 60, LOW_A)]
    detector = e_detector()
    assert run(detector, rates(panes))[-1].status[0] == Status.BREACH
    answer = run(detector, [rate_block(panes[0], len(panes), ToleranceBand(low=0.5))])[0]
    assert answer.status.tolist() == [Status.OK] * 3
    assert answer.evidence.max() < -2


def test_another_version_starts_anew() -> None:
    """State that this program does not know is not taken; nor is no state."""
    detector = e_detector()
    blocks = list(rates(draw(9, 60, EVEN)))
    run(detector, blocks)
    for data in (b"", _with_version(detector.dump(), 99)):
        revived = e_detector()
        revived.restore(data)
        assert (run(revived, blocks[:1])[0].status == Status.INSUFFICIENT).all()


def test_the_state_of_an_earlier_version_is_taken() -> None:
    """Version 1 kept logarithms of evidence; a detector goes on from it, quiet sides and firing ones."""
    blocks = list(rates([*draw(9, 100, EVEN), *draw(11, 60, LOW_A)]))
    for stop in (90, 130):
        steady, revived = e_detector(), e_detector()
        run(steady, blocks[:stop])
        revived.restore(_with_logarithms(steady.dump()))
        for a, b in zip(run(revived, blocks[stop:]), run(steady, blocks[stop:]), strict=True):
            assert a.direction.tolist() == b.direction.tolist()
            assert a.evidence.tolist() == pytest.approx(b.evidence.tolist(), rel=1e-9)


def _with_logarithms(data: bytes) -> bytes:
    dump = msgspec.msgpack.decode(zlib.decompress(data))
    with np.errstate(divide="ignore"):
        logs = {name: np.log(np.frombuffer(dump["arrays"][name])).tobytes() for name in ("page", "resolve")}
    arrays = dump["arrays"] | logs
    return zlib.compress(msgspec.msgpack.encode(dump | {"version": 1, "arrays": arrays}))


@settings(max_examples=15)
@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=40, max_size=60), st.integers(0, 9))
def test_together_is_as_alone(takes: list[list[bool]], seed: int) -> None:
    """Detectors that take panes at once say what each says by itself, whichever take part and grow when."""
    panes = draw(seed, len(takes), LOW_A)
    alone, together, joint = [e_detector() for _ in range(3)], [e_detector() for _ in range(3)], Together()
    for number, (pane, taking) in enumerate(zip(panes, takes, strict=True)):
        count = 2 if number < len(takes) // 2 else 3
        few = Pane(*(x[:count] for x in pane))
        blocks = [rate_block(few, number), share_block(pane, number), rate_block(few, number, FOUR_FIFTHS)]
        parts = [i for i in range(3) if taking[i] or number < 30]
        found = joint.update([(together[i], blocks[i]) for i in parts])
        for i, answer in zip(parts, found, strict=True):
            expected = run(alone[i], [blocks[i]])[0]
            assert [x.tolist() for x in answer] == [x.tolist() for x in expected]
    assert [each.dump() for each in together] == [each.dump() for each in alone]


def _with_version(data: bytes, version: int) -> bytes:
    dump = msgspec.msgpack.decode(zlib.decompress(data))
    return zlib.compress(msgspec.msgpack.encode(dump | {"version": version}))


# ---------------------------------------------------------------- what it says


def test_pages_low_and_high() -> None:
    """A slice that loses 40 % pages low, and the others, whose rest it is, high; nobody does before."""
    answers = run(e_detector(), rates([*draw(10, 100, EVEN), *draw(11, 60, LOW_A)]))
    assert all((a.status != Status.BREACH).all() for a in answers[:100])
    assert (answers[99].status == Status.OK).all()
    assert (answers[99].evidence < 0).all()
    assert answers[-1].direction.tolist() == [-1, 1, 1]
    assert (answers[-1].evidence > 0).all()


@pytest.mark.parametrize(("factor", "direction"), [(0.5, -1), (2.0, 1)])
def test_lets_go_when_it_is_over(factor: float, direction: int) -> None:
    """A breach lasts through the trouble, and ends by evidence that the slice is within tolerance again."""
    trouble = EVEN * np.array([1, 1, factor])
    panes = [*draw(10, 100, EVEN), *draw(11, 60, trouble), *draw(12, 100, EVEN)]
    answers = run(e_detector(), rates(panes, FOUR_FIFTHS))
    fired = [a.direction[2] for a in answers]
    first = fired.index(direction)
    assert 100 < first < 140
    assert fired[first:160] == [direction] * (160 - first)
    assert fired[-1] == 0
    assert answers[-1].evidence[2] < 0


def test_what_is_within_tolerance_never_pages() -> None:
    """A lasting disparity of 0.9 is none to a tolerance of four fifths, whatever the traffic."""
    panes = draw(13, 300, EVEN * np.array([0.9, 1, 1]), 3_000)
    assert all((a.status != Status.BREACH).all() for a in run(e_detector(100.0), rates(panes, FOUR_FIFTHS)))


def test_a_breach_that_is_neither_proved_nor_refuted_times_out() -> None:
    """A series that lies exactly at its tolerance is let go after the timeout."""
    detector = e_detector(timeout="1d")
    run(detector, rates([*draw(14, 100, EVEN), *draw(15, 60, LOW_A)], ToleranceBand(low=0.8)))
    nothing = Pane(np.zeros((3, 1, B)), np.zeros((3, 1, B)))
    at_tolerance = draw(16, 400, EVEN * np.array([0.8, 1, 1]), 60)
    answers = run(
        detector,
        (rate_block(p, 160 + i, ToleranceBand(low=0.8)) for i, p in enumerate([nothing, *at_tolerance])),
    )
    firing = [a.status[0] == Status.BREACH for a in answers]
    assert firing[0]
    assert not firing[-1]


def test_a_shift_of_mix_is_no_disparity_inside_of_strata() -> None:
    """A slice moves to a stratum with a lower rate: the marginal detector pages, the stratified does not."""
    chance = np.random.default_rng(17)
    level = np.array([0.05, 0.15])

    def pane(moved: float) -> Pane:
        mix = np.array([[0.5 + moved, 0.5 - moved], [0.5, 0.5], [0.5, 0.5]])
        trials = chance.poisson(600 * SHARES[:, None, None] * mix[..., None] / B, (3, 2, B)).astype(float)
        return Pane(chance.binomial(trials.astype(int), level[:, None]).astype(float), trials)

    panes = [pane(0.0) for _ in range(100)] + [pane(0.3) for _ in range(150)]
    marginal = run(e_detector(), rates(panes))[-1]
    inside = run(e_detector(), (rate_block(p, i, stratified=True) for i, p in enumerate(panes)))[-1]
    assert marginal.direction[0] == -1
    assert (inside.status == Status.OK).all()


def test_a_learnt_reference_brings_its_own_error() -> None:
    """Shares against a short baseline that is off by chance are no disparity; against fixed ones they are."""
    chance = np.random.default_rng(18)
    learnt = chance.poisson(20 * SHARES[:, None], (3, B)).astype(float)
    panes = draw(19, 200, EVEN)

    def answer(part: Floats, whole: Floats) -> Evidence:
        blocks = []
        for number, pane in enumerate(panes):
            counts = pane.trials.sum(axis=1)
            terms = share_terms(counts, counts.sum(axis=0), (part, whole), counts.sum(axis=1))
            blocks.append(block_of(terms, number, PARITY, counts.sum(axis=1), is_share=True))
        return run(e_detector(), blocks)[-1]

    share = learnt.sum(axis=1) / learnt.sum()
    fixed = answer(np.repeat(share[:, None] / B, B, axis=1), np.full(B, 1 / B))
    assert fixed.direction.tolist() == np.sign(SHARES - share).tolist()
    assert (answer(learnt, learnt.sum(axis=0)).status == Status.OK).all()


def test_one_busy_viewer_is_not_enough() -> None:
    """A click bot in one bucket, a hundred clicks in each pane for an hour, pages nobody."""
    panes = draw(20, 200, EVEN)
    for pane in panes[120:126]:
        pane.clicks[1, 0, 0] += 100
        pane.trials[1, 0, 0] += 100
    assert all((a.status != Status.BREACH).all() for a in run(e_detector(), rates(panes)))


def test_empty_panes_are_no_evidence() -> None:
    """Panes without impressions, or with only one slice, change nothing but the time."""
    detector = e_detector()
    before = run(detector, rates(draw(21, 100, EVEN)))[-1]
    lonely = Pane(np.zeros((3, 1, B)), np.zeros((3, 1, B)))
    lonely.trials[0] = 5.0
    after = run(detector, [rate_block(lonely, 100 + i) for i in range(50)])[-1]
    assert after.evidence.tolist() == before.evidence.tolist()


def test_few_viewers_stay_insufficient() -> None:
    """A slice that one viewer sees has a variance of hardly any freedom: it is never judged."""
    panes = draw(22, 200, EVEN)
    for pane in panes:
        pane.clicks[2, :, 1:] = pane.trials[2, :, 1:] = 0
    assert run(e_detector(), rates(panes))[-1].status.tolist() == [Status.OK, Status.OK, Status.INSUFFICIENT]


# ---------------------------------------------------------------- the budget


@given(
    st.lists(st.sampled_from(["a", "b", "c", "x", "y", "z"]), unique=True),
    st.booleans(),
    st.lists(st.sampled_from(["a", "b", "c"]), unique=True),
)
def test_no_slices_spend_more_than_the_allowance(seen: list[str], closed: bool, declared: list[str]) -> None:
    """Whatever appears in whatever order, the parts add up to the allowance at most; none ever shrinks."""
    allowance = Allowance(2.0, tuple(declared), closed)
    parts = allowance.of(seen)
    assert sum(parts) <= 2.0 + 1e-9
    for count in range(len(seen)):
        assert allowance.of(seen[:count]) == parts[:count]
