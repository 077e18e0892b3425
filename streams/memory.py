"""Memory that is freed goes back to the system, so that a long-running process keeps its size."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Numbers of glibc's ``malloc.h``."""
BLOCK_BYTES = 1 << 17


def return_freed_memory() -> bool:
    """Fix glibc's thresholds for blocks of their own and for trimming; whether there is a glibc that does.

    By itself it raises both, to up to 32 MiB, whenever a large block is freed. Snapshots and sums are blocks
    of all sizes that live for seconds or for hours; between them, the heap grows by holes for a long time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    settings = {_M_MMAP_THRESHOLD: BLOCK_BYTES, _M_TRIM_THRESHOLD: BLOCK_BYTES, _M_ARENA_MAX: 2}
    return all(mallopt(name, value) == 1 for name, value in settings.items())
