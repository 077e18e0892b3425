"""The JSON summaries that ``demo --summary`` and ``run --summary`` write."""

import json
from pathlib import Path
from typing import Any


def write_summary(path: Path | None, summary: dict[str, Any]) -> None:
    """Write a summary, whole or not at all; None: nowhere."""
    if path is None:
        return
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(json.dumps(summary, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    unfinished.replace(path)
