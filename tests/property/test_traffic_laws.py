from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.simulate.plan import Calendar, Plan
from streams.simulate.scenario import Viewers
from streams.simulate.traffic import Traffic
from tests.support.traffic import START_MS, everything, plain

pytestmark = pytest.mark.property

viewers = st.builds(
    Viewers,
    population=st.integers(1, 500),
    activity_skew=st.floats(0, 2),
    session_requests=st.floats(1, 20),
    session_gap=st.integers(1, 600_000),
    rate_sigma=st.floats(0, 2),
    taste=st.floats(0, 1),
)


@settings(max_examples=60)
@given(
    viewers=viewers,
    impressions=st.integers(1, 3_000),
    duration_ms=st.integers(1, 40 * 60_000),
    seed=st.integers(0, 2**32),
)
def test_traffic_is_whole_and_in_order(
    viewers: Viewers, impressions: int, duration_ms: int, seed: int
) -> None:
    """Whatever the viewers do: totals are exact, times in order, items distinct, engagements theirs."""
    scenario = msgspec.structs.replace(
        plain("{who: {item.tone: a}, what: ranked, factor: 2}"), viewers=viewers
    )
    source = Traffic(scenario, seed=seed, start_ms=START_MS, duration_ms=duration_ms, impressions=impressions)
    end_ms = START_MS + duration_ms
    for block in source.blocks():
        for ts_ms in (block.requests.ts_ms, block.engagements.ts_ms):
            assert np.all(np.diff(ts_ms) >= 0)
            assert np.all((ts_ms >= block.start_ms) & (ts_ms < block.end_ms))
    found = everything(source)
    assert len(found.slots.item) == impressions
    assert np.all(found.requests.ts_ms < end_ms)
    assert found.requests.number.tolist() == list(range(len(found.requests.number)))
    assert np.bincount(found.slots.row).tolist() == found.requests.items.tolist()
    shown = set(zip(found.slots.row.tolist(), found.slots.item.tolist(), strict=True))
    assert len(shown) == impressions
    engagements = found.engagements
    assert set(zip(engagements.request.tolist(), engagements.item.tolist(), strict=True)) <= shown
    assert np.all(engagements.ts_ms > engagements.impression_ts_ms)
    np.testing.assert_array_equal(engagements.impression_ts_ms, found.requests.ts_ms[engagements.request])


@given(
    times=st.lists(st.lists(st.integers(0, 1_200), max_size=20), max_size=10), block_ms=st.integers(1, 400)
)
def test_a_calendar_gives_back_every_row_once_in_order(times: list[list[int]], block_ms: int) -> None:
    """Rows put in any order come back in the block of their time, except those after the end."""
    plan = Plan(0, 1_000, block_ms, np.zeros(1, dtype=np.int64))
    calendar = Calendar(plan, 2)
    for part in times:
        calendar.put(np.array([[ts_ms, ts_ms * 3] for ts_ms in part], dtype=np.int64).reshape(-1, 2))
    taken = [calendar.take(block).tolist() for block in range(-(-1_000 // block_ms))]
    flat = [row for part in taken for row in part]
    due = sorted(ts_ms for part in times for ts_ms in part if ts_ms < 1_000)
    assert flat == [[ts_ms, ts_ms * 3] for ts_ms in due]
