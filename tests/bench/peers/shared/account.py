"""What every peer does besides its work: options in, what the work cost out, as one line of JSON."""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def options() -> argparse.Namespace:
    """``--bootstrap``, ``--topic``, ``--records``, ``--core``, ``--directory``; from now on on that core."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--core", type=int, required=True)
    parser.add_argument("--directory", required=True, help="for its state")
    found = parser.parse_args()
    os.sched_setaffinity(0, {found.core})
    return found


class Account:
    """Processor time from its making to `tell`, of this process or, with `pid`, of another one too."""

    def __init__(self, pid: int | None = None) -> None:
        self._pid = pid
        self._cpu_s, self._wall_s = self._used_s(), time.monotonic()

    def _used_s(self) -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        own = usage.ru_utime + usage.ru_stime
        if self._pid is None:
            return own
        fields = Path(f"/proc/{self._pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return own + (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND

    def tell(self) -> None:
        """Print it."""
        cost = {"cpu_s": self._used_s() - self._cpu_s, "wall_s": time.monotonic() - self._wall_s}
        print(json.dumps(cost), file=sys.__stdout__, flush=True)  # Faust takes the other one for its log


def shown(request: dict[str, Any]) -> list[tuple[str, float]]:
    """The cell and the exposure of each item of a request."""
    viewer = request["viewer"]
    head = f"{request['surface']}|{viewer['gender']}|{viewer['age']}"
    return [
        (
            f"{head}|{item['attrs']['skin_tone']}|{item['attrs']['hair_pattern']}",
            1 / math.log2(1 + item["position"]),
        )
        for item in request["items"]
    ]
