from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from monitor.config import parse_config
from monitor.decoding import ImpressionDecoder
from monitor.rejections import WHOLE, Reason
from streams.verify.recount import recount
from streams.verify.streams import unfolded
from tests.property.test_partition_laws import check_panes, expected_fates, fates
from tests.support.arrow import packed, schema_of, stream_of
from tests.support.core import Reader, Sent, sources_of
from tests.support.strategies import PARTITIONS, START_MS, batch_cuts, configs, logs

pytestmark = pytest.mark.property

CONFIG = parse_config(
    "surfaces: [home]\nwindows: [{length: 1m, slide: 10s}]\n"
    "attributes: {variant: {}, viewer: {gender: {}}, item: {tone: {}}}\n"
)


@settings(max_examples=150)
@given(st.data(), st.integers(0, 2**24))
def test_streams_give_the_recount_of_their_rows(data: st.DataObject, number: int) -> None:
    """Streams, JSON and rubbish beside each other, in any batches: panes and fates are those of the rows."""
    config = data.draw(configs())
    limit = data.draw(st.sampled_from([3_000, 100_000]))
    config = replace(config, limits=replace(config.limits, max_record_bytes=limit))
    log = packed(config, data.draw(logs(config)), Random(number))
    judged = recount(config, unfolded(config, log))
    reader = Reader(config, sources_of(config, PARTITIONS), PARTITIONS)
    sent: list[Sent] = []
    for start, end in pairwise([0, *data.draw(batch_cuts(len(log))), len(log)]):
        reader.read(log[start:end])
        if data.draw(st.booleans()):
            sent += reader.flush()
            reader.commit()
            if data.draw(st.booleans()):
                reader.restart()
                reader.read(log[:end])
    sent += reader.flush()
    check_panes(config, sent, judged)
    assert fates(reader) == expected_fates(judged)


def stream(items: int = 3) -> bytes:
    """Return a stream of two events."""
    item = {"id": "p-1", "position": 1, "attrs": {"tone": "4"}}
    event = {
        "ts": START_MS,
        "request_id": "r-1",
        "viewer_id": "u-1",
        "surface": "home",
        "viewer": {"gender": "f"},
        "items": [item] * items,
    }
    return stream_of([event, event], schema_of(CONFIG, "impressions"))


@settings(max_examples=400)
@given(st.lists(st.tuples(st.integers(4, len(stream()) - 1), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_damaged_stream_is_rejected_or_read_and_never_more(changes: list[tuple[int, int]]) -> None:
    """Whatever byte is wrong: what comes out is rejections and at most the rows that went in."""
    damaged = bytearray(stream())
    for place, byte in changes:
        damaged[place] = byte
    columns = ImpressionDecoder(CONFIG).decode([bytes(damaged)])
    wholly = [r for r in columns.rejected if r.row == WHOLE]
    assert all(r.reason in (Reason.MALFORMED, Reason.INVALID) for r in columns.rejected)
    assert len(columns.ts_ms) + len(columns.rejected) == (1 if wholly else 2)


@given(st.integers(5, len(stream()) - 1))
def test_a_stream_that_was_cut_is_malformed_unless_it_has_all_its_rows(length: int) -> None:
    """A stream may lack the mark of its end."""
    columns = ImpressionDecoder(CONFIG).decode([stream()[:length]])
    if columns.rejected:
        assert [(r.row, len(columns.ts_ms)) for r in columns.rejected] == [(WHOLE, 0)]
    else:
        assert len(columns.ts_ms) == 2
