"""Free ports of the loopback interface."""

from __future__ import annotations

from streams.embedded import free_port as _free_port

_handed_out: set[int] = set()


def free_port() -> int:
    """Return a loopback port that nothing listens on and that this test run has not been given before."""
    while (port := _free_port()) in _handed_out:
        pass
    _handed_out.add(port)
    return port
