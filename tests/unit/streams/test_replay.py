from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from streams.replay import END_MS, START_MS, SWITCH_MS, WEEK_MS, Ranker, ReplayProgress, iter_replay
from streams.simulate.records import Kind, Record


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """Return the whole replay."""
    return list(iter_replay())


@pytest.fixture(scope="module")
def impressions(records: list[Record]) -> list[dict[str, Any]]:
    """Return the replay's impressions, decoded."""
    return [msgspec.json.decode(each.value) for each in records if each.kind is Kind.IMPRESSION]


def test_every_row_is_an_impression_and_every_click_an_engagement(records: list[Record]) -> None:
    """Both weeks together have 20,000 impressions and 80 clicks."""
    assert Counter(record.kind for record in records) == {Kind.IMPRESSION: 20_000, Kind.ENGAGEMENT: 80}


def test_records_are_in_the_order_of_their_event_times(records: list[Record]) -> None:
    """Event time never goes back."""
    assert all(first.ts_ms <= second.ts_ms for first, second in pairwise(records))


def test_the_second_week_follows_the_first(impressions: list[dict[str, Any]]) -> None:
    """The random week keeps its own times; the other is shifted by seven days and comes after it."""
    times = {ranker: [each["ts"] for each in impressions if each["variant"] == ranker] for ranker in Ranker}
    assert {ranker: len(found) for ranker, found in times.items()} == {"random": 10_000, "bts": 10_000}
    assert times[Ranker.RANDOM][0] == 1_574_553_634_762  # 2019-11-24T00:00:34.762830Z, the file's first row
    assert times[Ranker.BTS][0] == 1_574_553_617_004 + WEEK_MS
    assert START_MS <= times[Ranker.RANDOM][-1] < SWITCH_MS <= times[Ranker.BTS][0]
    assert times[Ranker.BTS][-1] < END_MS


def test_shares_are_those_the_log_is_known_for(impressions: list[dict[str, Any]]) -> None:
    """The shares of item_feature_1 move as the log's README says."""
    shares = {}
    for ranker in Ranker:
        items = [
            each["items"][0]["attrs"]["item_feature_1"] for each in impressions if each["variant"] == ranker
        ]
        counts = Counter(value[:4] for value in items)
        shares[ranker] = {
            value: round(100 * counts[value] / len(items), 1) for value in ("ab56", "84c5", "9a2a")
        }
    assert shares[Ranker.RANDOM] == {"ab56": 15.6, "84c5": 8.0, "9a2a": 6.5}
    assert shares[Ranker.BTS] == {"ab56": 8.3, "84c5": 1.3, "9a2a": 19.2}


def test_impressions_hold_the_contract(records: list[Record]) -> None:
    """Every impression has one item at its own position, its attributes, and its viewer as key."""
    for record in records:
        value = msgspec.json.decode(record.value)
        assert value["ts"] == record.ts_ms
        assert value["viewer_id"].encode() == record.key
        assert value["surface"] == "shop"
        assert set(value["viewer"]) == {f"user_feature_{number}" for number in range(4)}
        item = value if record.kind is Kind.ENGAGEMENT else value["items"][0]
        assert set(item["attrs"]) == {f"item_feature_{number}" for number in (1, 2, 3)}
        if record.kind is Kind.IMPRESSION:
            assert set(value) == {"ts", "request_id", "viewer_id", "surface", "variant", "viewer", "items"}
            assert [each["position"] for each in value["items"]] in ([1], [2], [3])


def test_clicks_carry_their_impression(records: list[Record], impressions: list[dict[str, Any]]) -> None:
    """A click names the request, item, time and attributes of the impression it belongs to."""
    shown = {each["request_id"]: each for each in impressions}
    assert len(shown) == 20_000
    for record in records:
        if record.kind is Kind.ENGAGEMENT:
            click = msgspec.json.decode(record.value)
            impression = shown[click["request_id"]]
            assert click["action"] == "click"
            assert click["impression_ts"] == impression["ts"] < click["ts"]
            assert click["item_id"] == impression["items"][0]["id"]
            assert click["attrs"] == impression["items"][0]["attrs"]


def test_progress_names_the_ranker_of_its_week() -> None:
    """The ranker changes with the second week's first millisecond."""
    assert ReplayProgress(1, 2, SWITCH_MS - 1).ranker is Ranker.RANDOM
    assert ReplayProgress(1, 2, SWITCH_MS).ranker is Ranker.BTS
