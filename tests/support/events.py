"""Impressions and engagements as the contract has them, for tests to change."""

from __future__ import annotations

import json
from typing import Any


def impression(
    ts: int, viewer_id: str = "u-1", surface: str = "home", tones: tuple[str, ...] = ("4",), **more: Any
) -> bytes:
    """An impression with one item for each tone."""
    record = {
        "ts": ts,
        "request_id": f"r-{ts}",
        "viewer_id": viewer_id,
        "surface": surface,
        "variant": "control",
        "viewer": {"gender": "f", "age": "25-34"},
        "items": [
            {"id": f"p-{i}", "position": i, "attrs": {"skin_tone": tone}, "score": 0.71}
            for i, tone in enumerate(tones, start=1)
        ],
    }
    return json.dumps(record | more).encode()


def engagement(
    ts: int, impression_ts: int | None, viewer_id: str = "u-1", action: str = "save", **more: Any
) -> bytes:
    """An engagement; without ``impression_ts`` it cannot be attributed."""
    record = {
        "ts": ts,
        "request_id": f"r-{impression_ts}",
        "viewer_id": viewer_id,
        "surface": "home",
        "item_id": "p-1",
        "action": action,
        "variant": "control",
        "viewer": {"gender": "f"},
        "attrs": {"skin_tone": "4"},
    }
    if impression_ts is not None:
        record["impression_ts"] = impression_ts
    return json.dumps(record | more).encode()
