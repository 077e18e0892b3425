from __future__ import annotations

from typing import Any

import pytest

from monitor.config import Curve, Exposure
from monitor.exposure import MAX_POSITION, position_weights


@pytest.mark.parametrize(
    ("exposure", "expected"),
    [
        # 1/log2(1+j) of j = 1..7: 1, 1/1.58496, 1/2, 1/2.32193, 1/2.58496, 1/2.80735, 1/3
        ({"curve": Curve.LOG2}, [1_000_000, 630_930, 500_000, 430_677, 386_853, 356_207, 333_333]),
        ({"curve": Curve.RECIPROCAL}, [1_000_000, 500_000, 333_333, 250_000, 200_000, 166_667, 142_857]),
        ({"curve": Curve.GEOMETRIC, "patience": 0.8}, [1_000_000, 800_000, 640_000, 512_000, 409_600]),
        ({"curve": Curve.TOP_K, "k": 3}, [1_000_000, 1_000_000, 1_000_000, 0, 0]),
        ({"curve": Curve.TABLE, "table": [2.0, 0.25]}, [2_000_000, 250_000, 0, 0]),
    ],
)
def test_curves_against_tables_made_by_hand(exposure: dict[str, Any], expected: list[int]) -> None:
    """The first positions weigh what the formula says, in whole micro-exposures."""
    weights = position_weights(Exposure(**exposure))
    assert weights[1 : len(expected) + 1].tolist() == expected


def test_index_0_is_unused_and_the_last_position_stands_for_all_beyond() -> None:
    """Positions count from 1; the table ends at the largest position that is told apart."""
    weights = position_weights(Exposure())
    assert len(weights) == MAX_POSITION + 1
    assert weights[0] == 0
    assert weights[-1] == 75_257  # 1/log2(10001)


def test_a_table_longer_than_the_positions_is_cut() -> None:
    """A table may be longer than anybody scrolls."""
    weights = position_weights(Exposure(curve=Curve.TABLE, table=[1.0] * (MAX_POSITION + 5)))
    assert int(weights.sum()) == MAX_POSITION * 1_000_000
