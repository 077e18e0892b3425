from __future__ import annotations

import json
import zlib
from typing import Any

import pytest

from monitor.config import Config, parse_config
from monitor.decoding import EngagementDecoder, ImpressionDecoder
from monitor.rejections import Reason

CONFIG = """\
surfaces: [home]
windows: [{length: 5m, slide: 10s}]
attributes:
  variant: {}
  viewer: {gender: {values: [f, m]}, age: {}}
  item: {skin_tone: {}}
exposure: {curve: log2, k: 2}
engagement: {actions: [click, save]}
limits: {buckets: 32, max_record_bytes: 10000}
"""

# As they stand in DESIGN.md.
IMPRESSION = b"""\
{"ts": 1700000000123, "request_id": "r-1", "viewer_id": "u-1", "surface": "home", "variant": "control",
 "viewer": {"gender": "f", "age": "25-34"},
 "items": [{"id": "p-9", "position": 1, "attrs": {"skin_tone": "4"}, "score": 0.71}]}
"""
ENGAGEMENT = b"""\
{"ts": 1700000005123, "request_id": "r-1", "viewer_id": "u-1", "surface": "home",
 "item_id": "p-9", "action": "save", "impression_ts": 1700000000123,
 "variant": "control", "viewer": {"gender": "f"}, "attrs": {"skin_tone": "4"}}
"""


@pytest.fixture
def config() -> Config:
    """Return a configuration with every kind of attribute."""
    return parse_config(CONFIG)


def impression(**changes: Any) -> dict[str, Any]:
    """Return the contract's impression with changes; a value of ... removes the field."""
    return _changed(json.loads(IMPRESSION), changes)


def engagement(**changes: Any) -> dict[str, Any]:
    """Return the contract's engagement with changes."""
    return _changed(json.loads(ENGAGEMENT), changes)


def item(**changes: Any) -> dict[str, Any]:
    """Return the impression's item with changes."""
    return _changed(json.loads(IMPRESSION)["items"][0], changes)


def _changed(event: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (event | changes).items() if value is not ...}


def encode(event: Any) -> bytes:
    """Return an event as JSON."""
    return json.dumps(event).encode()


def test_the_contracts_impression(config: Config) -> None:
    """The example of the contract gives one contribution: 1 impression, 1 exposure, 1 in the top k."""
    decoder = ImpressionDecoder(config)
    columns = decoder.decode([IMPRESSION])
    assert columns.rejected == []
    assert columns.ts_ms.tolist() == columns.anchor_ms.tolist() == [1_700_000_000_123]
    assert columns.surface.tolist() == [0]
    assert columns.bucket.tolist() == [zlib.crc32(b"u-1") % 32]
    assert columns.names[int(columns.cell[0])] == ("control", "f", "25-34", "4")
    assert columns.measure.tolist() == [[1, 1_000_000, 1]]


def test_the_contracts_engagement(config: Config) -> None:
    """The example of the contract counts one save in the pane of its impression."""
    decoder = EngagementDecoder(config)
    columns = decoder.decode([ENGAGEMENT])
    assert columns.rejected == []
    assert columns.ts_ms.tolist() == [1_700_000_005_123]
    assert columns.anchor_ms.tolist() == [1_700_000_000_123]
    assert columns.names[int(columns.cell[0])] == ("control", "f", "unknown", "4")
    assert columns.measure.tolist() == [[0, 1]]


def test_both_fall_into_the_same_cell_and_bucket(config: Config) -> None:
    """An engagement with its impression's attributes meets it: same cell, same viewer bucket."""
    shown = ImpressionDecoder(config)
    acted = EngagementDecoder(config)
    one = shown.decode([encode(impression())])
    other = acted.decode([encode(engagement(viewer={"age": "25-34", "gender": "f"}))])
    assert one.names[int(one.cell[0])] == other.names[int(other.cell[0])]
    assert one.bucket.tolist() == other.bucket.tolist()


@pytest.mark.parametrize(
    ("changes", "cell"),
    [
        ({"variant": ...}, ("unknown", "f", "25-34", "4")),
        ({"viewer": ...}, ("control", "unknown", "unknown", "4")),
        ({"viewer": None}, ("control", "unknown", "unknown", "4")),
        ({"viewer": {}}, ("control", "unknown", "unknown", "4")),
        ({"viewer": {"gender": "", "age": ""}}, ("control", "unknown", "unknown", "4")),
        ({"viewer": {"gender": "nb", "age": "nb"}}, ("control", "other", "nb", "4")),
        ({"viewer": {"gender": "unknown"}}, ("control", "unknown", "unknown", "4")),
        ({"items": [{"id": "p"}]}, ("control", "f", "25-34", "unknown")),
        ({"items": [{"id": "p", "attrs": None}]}, ("control", "f", "25-34", "unknown")),
        ({"items": [{"id": "p", "attrs": {"hair": 5}}]}, ("control", "f", "25-34", "unknown")),
        ({"unasked": {"deep": [1, 2]}}, ("control", "f", "25-34", "4")),
    ],
)
def test_absent_values_are_unknown_and_undeclared_ones_other(
    config: Config, changes: dict[str, Any], cell: tuple[str, ...]
) -> None:
    """An absent attribute is a slice like any other, and what nobody asked for is skipped."""
    decoder = ImpressionDecoder(config)
    columns = decoder.decode([encode(impression(**changes))])
    assert columns.rejected == []
    assert columns.names[int(columns.cell[0])] == cell


def test_positions_count_from_1_and_default_to_the_place(config: Config) -> None:
    """Given positions are taken, absent ones are the index in `items`; the top k is by position."""
    items = [item(position=...), item(position=7), item(position=...), item(position=10**9)]
    columns = ImpressionDecoder(config).decode([encode(impression()), encode(impression(items=items))])
    assert columns.event.tolist() == [0, 1, 1, 1, 1]
    assert columns.measure[1:, 1].tolist() == [1_000_000, 333_333, 500_000, 75_257]
    assert columns.measure[1:, 2].tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.MALFORMED),
        (b"", Reason.MALFORMED),
        (b" \n", Reason.MALFORMED),
        (IMPRESSION[:100], Reason.MALFORMED),
        (IMPRESSION + IMPRESSION, Reason.MALFORMED),
        (b"\x00\x01\xfe\xff", Reason.MALFORMED),
        (b"\xef\xbb\xbf" + IMPRESSION, Reason.MALFORMED),
        (IMPRESSION.replace(b"u-1", b"u\xff"), Reason.MALFORMED),
        (IMPRESSION.replace(b"u-1", b"\\ud800"), Reason.MALFORMED),
        (IMPRESSION.replace(b"0.71", b"NaN"), Reason.MALFORMED),
        (IMPRESSION.replace(b"0.71", b"-Infinity"), Reason.MALFORMED),
        (IMPRESSION.replace(b"0.71", b"1e999"), Reason.INVALID),
        (IMPRESSION.replace(b'"score": 0.71', b'"more": ' + b"[" * 4000 + b"]" * 4000), Reason.MALFORMED),
        (b"x" * 10_001, Reason.OVERSIZED),
        (b"[]", Reason.INVALID),
        (b"null", Reason.INVALID),
        (b'"text"', Reason.INVALID),
        (encode(impression(ts=...)), Reason.INVALID),
        (encode(impression(ts="1700000000123")), Reason.INVALID),
        (encode(impression(ts=1700000000123.0)), Reason.INVALID),
        (encode(impression(ts=True)), Reason.INVALID),
        (encode(impression(ts=0)), Reason.INVALID),
        (encode(impression(ts=-5)), Reason.INVALID),
        (encode(impression(ts=10**30)), Reason.INVALID),
        (encode(impression(request_id=...)), Reason.INVALID),
        (encode(impression(viewer_id="")), Reason.INVALID),
        (encode(impression(viewer_id=17)), Reason.INVALID),
        (encode(impression(viewer_id="u" * 513)), Reason.INVALID),
        (encode(impression(surface=...)), Reason.INVALID),
        (encode(impression(surface="s" * 81)), Reason.INVALID),
        (encode(impression(variant=None)), Reason.INVALID),
        (encode(impression(viewer=["f"])), Reason.INVALID),
        (encode(impression(viewer={"gender": 1})), Reason.INVALID),
        (encode(impression(viewer={"gender": "f" * 129})), Reason.INVALID),
        (encode(impression(items=...)), Reason.INVALID),
        (encode(impression(items=[])), Reason.INVALID),
        (encode(impression(items={})), Reason.INVALID),
        (encode(impression(items=[{}])), Reason.INVALID),
        (encode(impression(items=[item(position=0)])), Reason.INVALID),
        (encode(impression(items=[item(position=-1)])), Reason.INVALID),
        (encode(impression(items=[item(position=1.5)])), Reason.INVALID),
        (encode(impression(items=[item(position="1")])), Reason.INVALID),
        (encode(impression(items=[item(position=None)])), Reason.INVALID),
        (encode(impression(items=[item(score="high")])), Reason.INVALID),
        (encode(impression(items=[item(attrs=[])])), Reason.INVALID),
        (encode(impression(items=[item(), "p-9"])), Reason.INVALID),
    ],
)
def test_bad_impressions_are_rejected_with_their_reason(
    config: Config, value: bytes | None, reason: Reason
) -> None:
    """Bad input is a typed output, alone and between good records, which are counted."""
    alone = ImpressionDecoder(config).decode([value])
    assert [(r.index, r.reason) for r in alone.rejected] == [(0, reason)]
    assert len(alone.event) == 0
    between = ImpressionDecoder(config).decode([encode(impression()), value, encode(impression())])
    assert [(r.index, r.reason) for r in between.rejected] == [(1, reason)]
    assert between.index.tolist() == [0, 2]
    assert between.rejected[0].detail


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"impression_ts": ...}, Reason.UNATTRIBUTED),
        ({"impression_ts": None}, Reason.UNATTRIBUTED),
        ({"impression_ts": 1_700_000_005_124}, Reason.INVALID),
        ({"ts": 1_700_000_000_123 + 1_800_001}, Reason.UNATTRIBUTED),
        ({"action": ...}, Reason.INVALID),
        ({"action": ""}, Reason.INVALID),
        ({"action": 3}, Reason.INVALID),
        ({"item_id": ...}, Reason.INVALID),
        ({"impression_ts": "yesterday"}, Reason.INVALID),
        ({"attrs": "4"}, Reason.INVALID),
    ],
)
def test_bad_engagements_are_rejected_with_their_reason(
    config: Config, changes: dict[str, Any], reason: Reason
) -> None:
    """An engagement without an impression that it can be credited to is `unattributed`."""
    columns = EngagementDecoder(config).decode(
        [ENGAGEMENT.replace(b"\n", b""), encode(engagement(**changes))]
    )
    assert [(r.index, r.reason) for r in columns.rejected] == [(1, reason)]
    assert len(columns.event) == 1


def test_the_attribution_window_is_closed(config: Config) -> None:
    """An engagement exactly at the end of the window still counts."""
    at_end = encode(engagement(ts=1_700_000_000_123 + 1_800_000))
    assert EngagementDecoder(config).decode([at_end]).rejected == []


def test_other_actions_are_accepted_and_count_nothing(config: Config) -> None:
    """An action that is not configured is no error, and takes no cell."""
    columns = EngagementDecoder(config).decode([encode(engagement(action="hide")), encode(engagement())])
    assert columns.index.tolist() == [0, 1]
    assert columns.event.tolist() == [1]
    assert columns.measure.tolist() == [[0, 1]]


def test_unlisted_surfaces_are_told_apart_by_nobody(config: Config) -> None:
    """Any surface that is not configured is summed under `other`."""
    columns = ImpressionDecoder(config).decode([encode(impression(surface=s)) for s in ("home", "x", "y")])
    assert columns.surface.tolist() == [0, 1, 1]


def test_a_million_values_stay_bounded(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers for attribute values are given out anew once the limit is passed."""
    decoder = ImpressionDecoder(config)
    monkeypatch.setattr("monitor.parsing.MOST_NUMBERS", 50)
    for batch in range(20):
        values = [
            encode(impression(items=[item(attrs={"skin_tone": f"{batch}-{n}"}) for n in range(20)]))
            for _ in range(2)
        ]
        columns = decoder.decode(values)
        names = [columns.names[int(code)][-1] for code in columns.cell]
        assert names == [f"{batch}-{n}" for n in range(20)] * 2
        assert len(columns.names) <= 50 + 20


def test_no_attributes_at_all() -> None:
    """Without attributes all impressions are one cell."""
    config = parse_config("surfaces: [home]\nwindows: [{length: 5m, slide: 10s}]")
    decoder = ImpressionDecoder(config)
    columns = decoder.decode([IMPRESSION])
    assert columns.names[int(columns.cell[0])] == ()
