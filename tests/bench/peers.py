from __future__ import annotations
from tests.bench.bench import Bench


def peers(bench: Bench) -> None:
    """Later."""
