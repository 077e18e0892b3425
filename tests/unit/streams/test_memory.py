"""Freed memory goes back to the system."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streams.memory import return_freed_memory

PROGRAM = """
from pathlib import Path
from streams.memory import return_freed_memory

def resident_kb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))

return_freed_memory()
bytes(30_000_000)  # glibc by itself keeps blocks of up to this size on its heap from now on
before = resident_kb()
blocks = [b"1" * 1_000_000 for _ in range(100)]
kept = blocks[::10]
del blocks
print(resident_kb() - before)
"""


def test_freed_blocks_leave_the_process() -> None:
    """Of a hundred blocks of a megabyte, the ten that are still held stay resident, without the rest."""
    if sys.platform != "linux" or not return_freed_memory():
        pytest.skip("needs glibc")
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True)
    assert 9_000 < int(done.stdout) < 30_000
