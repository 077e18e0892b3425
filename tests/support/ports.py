"""Free ports of the loopback interface, for several test processes side by side."""

from __future__ import annotations

import itertools
import os
import socket

FIRST, COUNT = 12_000, 16_000
"""Below the ports that systems give to outgoing connections. Each test process begins somewhere else."""

_begin = os.getpid() * 997 % COUNT
_ports = (FIRST + (_begin + step) % COUNT for step in itertools.count())


def free_port() -> int:
    """Return a loopback port that nothing listens on, and that was not given out lately."""
    return next(port for port in _ports if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
