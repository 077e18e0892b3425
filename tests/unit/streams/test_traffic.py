from __future__ import annotations

import itertools
from typing import Any

import msgspec
import numpy as np
import pytest

from streams.simulate.records import Kind, Record, Recorder
from streams.simulate.scenario import load_scenario
from streams.simulate.tally import Tally
from streams.simulate.traffic import Traffic
from tests.support.traffic import START_MS, columns, everything, near, plain, traffic

HOUR_MS = 3_600_000


def test_shares_are_those_of_the_scenario() -> None:
    """Surfaces, variants, viewer and item attributes come in the shares that the scenario states."""
    source = traffic(plain())
    found = everything(source)
    requests, shown = len(found.requests.number), len(found.slots.item)
    assert near(np.count_nonzero(found.requests.surface == 0), requests, 0.6)
    variant = source.population.variant[found.requests.viewer]
    assert near(np.count_nonzero(variant == 0), requests, 0.5)
    profile = source.population.profile[found.requests.viewer]
    for index, share in enumerate(source.profiles.shares):
        assert near(np.count_nonzero(profile == index), requests, share)
    for index, share in enumerate(source.items.shares):
        assert near(np.count_nonzero(found.slots.combination == index), shown, share)


def test_engagement_rates_are_those_of_the_scenario_and_fall_with_the_position() -> None:
    """Position 1 has the action's own rate, and each further position its part of the one before."""
    scenario = msgspec.structs.replace(plain(), position_effect=0.5)
    found = everything(traffic(scenario, impressions=200_000))
    slot_of = {
        (int(found.requests.number[row]), int(item)): int(position)
        for row, item, position in zip(found.slots.row, found.slots.item, found.slots.position, strict=True)
    }
    clicks = found.engagements.action == 0
    pairs = zip(
        found.engagements.request[clicks].tolist(), found.engagements.item[clicks].tolist(), strict=True
    )
    clicked = np.bincount([slot_of[pair] for pair in pairs], minlength=6)
    shown = np.bincount(found.slots.position, minlength=6)
    for position in range(1, 6):
        assert near(clicked[position], shown[position], 0.3 * 0.5 ** (position - 1))


@pytest.mark.parametrize("factor", [0.4, 1.0, 1.6])
def test_a_planted_exposure_has_the_planted_size(factor: float) -> None:
    """Within its place and time the group's share of the slots is its factor times the natural one."""
    planted = (
        f"{{who: {{item.tone: c, item.hair: [straight, coily], surface: home, variant: treatment,"
        f" viewer.gender: f}}, what: shown, factor: {factor}, from: 1h, to: 2h}}"
    )
    source = traffic(plain(planted), impressions=400_000)
    found = everything(source)
    hit = source.planted[0].requests(found.requests)
    ts_ms = found.requests.ts_ms[hit]
    assert ts_ms.min() >= START_MS + HOUR_MS
    assert ts_ms.max() < START_MS + 2 * HOUR_MS
    share_of_requests = 0.25 * 0.6 * 0.5 * 0.5
    assert near(np.count_nonzero(hit), len(hit), share_of_requests)
    group = source.planted[0].items[found.slots.combination]
    inside = hit[found.slots.row]
    assert near(np.count_nonzero(group & inside), np.count_nonzero(inside), 0.2 * factor)
    assert near(np.count_nonzero(group & ~inside), np.count_nonzero(~inside), 0.2)
    others = found.slots.combination[inside & ~group]
    tone_a = [index for index, each in enumerate(source.items.values) if each["tone"] == "a"]
    assert near(np.count_nonzero(np.isin(others, tone_a)), len(others), 0.5 / 0.8)


def test_candidates_are_of_the_natural_mix_and_hold_what_is_shown() -> None:
    """A planted exposure leaves them as they are; where none are asked for, all else is the same."""
    planted = "{who: {item.tone: c}, what: shown, factor: 0.4}"
    scenario = plain(planted)
    telling = msgspec.structs.replace(scenario, items=msgspec.structs.replace(scenario.items, candidates=40))
    source = traffic(telling)
    of_tone = [index for index, each in enumerate(source.items.values) if each["tone"] == "c"]
    total = of_c = 0
    for block in source.blocks():
        shown = np.zeros_like(block.candidates)
        np.add.at(shown, (block.slots.row, block.slots.combination), 1)
        assert (block.candidates >= shown).all()
        total, of_c = total + block.candidates.sum(), of_c + block.candidates[:, of_tone].sum()
    assert of_c / total == pytest.approx(0.2, abs=0.01)
    values = [msgspec.json.decode(each.value) for each in records_of(traffic(telling))]
    plainly = [msgspec.json.decode(each.value) for each in records_of(traffic(scenario))]
    told = [value.pop("candidates") for value in values if "items" in value]
    assert values == plainly
    assert all(sum(each["count"] for each in candidates) >= 40 for candidates in told)


def test_a_planted_ranking_changes_the_order_and_nothing_else() -> None:
    """The odds of a group's item standing before another one are the factor; its share of slots stays."""
    source = traffic(plain("{who: {item.tone: [b, c], surface: ads}, what: ranked, factor: 0.25}"))
    found = everything(source)
    group = source.planted[0].items[found.slots.combination]
    ads = found.requests.surface[found.slots.row] == 1
    assert near(np.count_nonzero(group & ads), np.count_nonzero(ads), 0.5)
    pairs = group[ads].reshape(-1, 2)
    mixed = pairs[pairs[:, 0] != pairs[:, 1]]
    assert near(np.count_nonzero(mixed[:, 0]), len(mixed), 0.25 / 1.25)
    first = group[~ads & (found.slots.position == 1)]
    assert near(np.count_nonzero(first), len(first), 0.5)


def test_a_planted_engagement_has_the_planted_size() -> None:
    """The rate of the action named is its factor times the natural one, for the group alone."""
    source = traffic(
        plain("{who: {item.tone: c}, what: engaged, action: click, factor: 0.5}"), impressions=200_000
    )
    found = everything(source)
    per_combination = source.scenario.items.per_combination
    for tone, rates in {"a": (0.3, 0.1), "c": (0.15, 0.1)}.items():
        group = np.array([each["tone"] == tone for each in source.items.values])
        shown = int(np.count_nonzero(group[found.slots.combination]))
        engaged = group[found.engagements.item // per_combination]
        for action, rate in enumerate(rates):
            assert near(np.count_nonzero(engaged & (found.engagements.action == action)), shown, rate)


def test_viewers_are_clustered() -> None:
    """With taste and sessions a few viewers come often and each sees more of what it likes best."""
    scenario = load_scenario()
    source = traffic(scenario, impressions=200_000)
    found = everything(source)
    visits = np.bincount(found.requests.viewer, minlength=scenario.viewers.population)
    assert visits.var() > 3 * visits.mean()
    favourite = source.population.favourite[found.requests.viewer][found.slots.row]
    liked = np.count_nonzero(found.slots.combination == favourite) / len(favourite)
    by_chance = float((source.items.shares**2).sum())
    taste = scenario.viewers.taste
    assert liked == pytest.approx(taste + (1 - taste) * by_chance, abs=0.02)
    assert source.population.engagement.mean() == pytest.approx(1, abs=0.02)


def test_traffic_follows_the_day() -> None:
    """Around the peak hour there is more traffic than half a day away, in the ratio of the amplitude."""
    scenario = load_scenario()
    start_ms = 1_700_006_400_000  # midnight, UTC
    source = Traffic(scenario, seed=1, start_ms=start_ms, duration_ms=24 * HOUR_MS, impressions=300_000)
    hour = (everything(source).requests.ts_ms - start_ms) // HOUR_MS
    counts = np.bincount(hour, minlength=24)
    peak, trough = counts[[19, 20]].sum(), counts[[7, 8]].sum()
    assert peak / trough == pytest.approx(1.35 / 0.65, rel=0.1)


def test_the_same_seed_gives_the_same_records_however_they_are_read() -> None:
    """Traffic depends on its arguments alone: not on a second reader, nor on how far the first has read."""
    source = traffic(load_scenario(), impressions=5_000)
    whole = list(source.blocks())
    halting, other = source.blocks(), traffic(load_scenario(), impressions=5_000).blocks()
    mixed = [block for pair in zip(halting, other, strict=True) for block in pair]
    for first, second in ((whole, mixed[0::2]), (whole, mixed[1::2])):
        for left, right in zip(columns(first), columns(second), strict=True):
            np.testing.assert_array_equal(left, right)
    again = [record for block in source.blocks() for record in Recorder(source).records(block)]
    assert again == [record for block in whole for record in Recorder(source).records(block)]


def test_another_seed_gives_other_traffic() -> None:
    """Seeds matter."""
    first = everything(traffic(load_scenario(), impressions=1_000, seed=1))
    second = everything(traffic(load_scenario(), impressions=1_000, seed=2))
    assert first.requests.ts_ms.tolist() != second.requests.ts_ms.tolist()


@pytest.mark.parametrize("impressions", [1, 3, 999, 20_000])
def test_the_number_of_impressions_is_exact(impressions: int) -> None:
    """An exact number of impressions is that number, though requests have different sizes."""
    assert len(everything(traffic(plain(), impressions=impressions)).slots.item) == impressions


def test_the_rate_is_impressions_per_second() -> None:
    """Without an exact number there are rate times duration impressions."""
    source = Traffic(plain(), seed=1, start_ms=START_MS, duration_ms=90_500, rate=10)
    assert len(everything(source).slots.item) == 905


def test_fast_traffic_comes_in_shorter_blocks() -> None:
    """Blocks hold a bounded number of impressions, so that memory does not grow with the rate."""
    source = Traffic(plain(), seed=1, start_ms=START_MS, duration_ms=10_000, rate=60_000)
    sizes = [len(block.slots.item) for block in source.blocks()]
    assert sum(sizes) == 600_000
    assert max(sizes) < 250_000


@pytest.mark.parametrize(("rate", "duration_ms"), [(0.0, 1_000), (5.0, 0), (0.1, 1_000)])
def test_no_traffic_at_all_is_refused(rate: float, duration_ms: int) -> None:
    """Nothing to write is an error, not an empty success."""
    with pytest.raises(ValueError, match="at least one impression"):
        Traffic(plain(), seed=1, start_ms=START_MS, duration_ms=duration_ms, rate=rate)


def records_of(source: Traffic) -> list[Record]:
    """All records of a traffic."""
    recorder = Recorder(source)
    return list(itertools.chain.from_iterable(map(recorder.records, source.blocks())))


def test_records_are_in_the_order_of_their_event_times() -> None:
    """Impressions and engagements are interleaved by their own times."""
    records = records_of(traffic(load_scenario(), impressions=5_000))
    times = [record.ts_ms for record in records]
    assert times == sorted(times)
    kinds = "".join(record.kind[0] for record in records)
    assert "ie" in kinds
    assert "ei" in kinds


def test_impressions_hold_the_contract() -> None:
    """Every field of an impression has its name, type and range, and the key is the viewer."""
    scenario = load_scenario()
    records = [
        each for each in records_of(traffic(scenario, impressions=5_000)) if each.kind is Kind.IMPRESSION
    ]
    seen: dict[str, tuple[object, object]] = {}
    absent = 0
    for record in records:
        value = msgspec.json.decode(record.value)
        assert set(value) == {"ts", "request_id", "viewer_id", "surface", "variant", "viewer", "items"}
        assert value["ts"] == record.ts_ms
        assert value["viewer_id"].encode() == record.key
        assert value["surface"] in scenario.surfaces
        assert value["variant"] in scenario.variants
        assert set(value["viewer"]) <= {"gender", "age"}
        assert all(value["viewer"][name] in scenario.viewers.attributes[name] for name in value["viewer"])
        assert [item["position"] for item in value["items"]] == list(range(1, len(value["items"]) + 1))
        assert len({item["id"] for item in value["items"]}) == len(value["items"])
        for item in value["items"]:
            assert set(item) == {"id", "position", "attrs"}
            assert isinstance(item["id"], str)
            assert all(item["attrs"][name] in shares for name, shares in scenario.items.attributes.items())
        always = (value["variant"], value["viewer"])
        assert seen.setdefault(value["viewer_id"], always) == always
        absent += "gender" not in value["viewer"]
    assert len({msgspec.json.decode(record.value)["request_id"] for record in records}) == len(records)
    assert absent > 0


def test_engagements_stand_by_themselves() -> None:
    """An engagement repeats what its impression said, and comes after it."""
    impressions: list[dict[str, Any]] = []
    engagements: list[dict[str, Any]] = []
    for record in records_of(traffic(load_scenario(), impressions=20_000)):
        value = msgspec.json.decode(record.value)
        assert value["viewer_id"].encode() == record.key
        (impressions if record.kind is Kind.IMPRESSION else engagements).append(value)
    shown = {each["request_id"]: each for each in impressions}
    assert len(engagements) > 100
    for value in engagements:
        impression = shown[value["request_id"]]
        item = next(each for each in impression["items"] if each["id"] == value["item_id"])
        assert value["impression_ts"] == impression["ts"] < value["ts"]
        assert value["attrs"] == item["attrs"]
        assert value["action"] in {"click", "save", "hide"}
        for name in ("viewer_id", "surface", "variant", "viewer"):
            assert value[name] == impression[name]


def test_a_scenario_without_variants_or_attributes_leaves_them_out() -> None:
    """What the scenario does not have is absent from the records or empty."""
    scenario = msgspec.structs.replace(plain(), variants={})
    value = msgspec.json.decode(records_of(traffic(scenario, impressions=5))[0].value)
    assert "variant" not in value


def test_the_tally_counts_what_was_written_and_no_more() -> None:
    """Of a block that was written in part only the part is counted."""
    source = traffic(plain(), impressions=3_000, hours=1)
    recorder = Recorder(source)
    tally = Tally(source.scenario)
    written: list[Record] = []
    for block in source.blocks():
        part = recorder.records(block)[:20]
        tally.add(block, len(part))
        written += part
    summary = tally.summary(1.0)
    shown = [msgspec.json.decode(each.value) for each in written if each.kind is Kind.IMPRESSION]
    assert summary.total.requests == len(shown)
    assert summary.total.impressions == sum(len(each["items"]) for each in shown)
    assert summary.total.engagements == len(written) - len(shown) == sum(summary.actions.values())
    assert summary.surfaces["ads"].requests == sum(each["surface"] == "ads" for each in shown)
    assert (summary.first_ts_ms, summary.last_ts_ms) == (written[0].ts_ms, written[-1].ts_ms)
