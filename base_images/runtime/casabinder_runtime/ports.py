"""Finds a TCP port that nobody listens on."""

from __future__ import annotations

import socket

LOOPBACK = "127.0.0.1"
SCHEDULER_PORT = 8786
DASHBOARD_PORT = 8787


def first_free_port(
    preferred: int, *, host: str = LOOPBACK, tries: int = 100, but: frozenset[int] = frozenset()
) -> int:
    """Return ``preferred`` if it is free on ``host``, else the next port that is, passing over those in ``but``.

    Raises:
        OSError: none of the ``tries`` ports from ``preferred`` on is free.
    """
    for port in range(preferred, min(preferred + tries, 65536)):
        if port not in but and _is_free(host, port):
            return port
    raise OSError(f"no free port on {host} between {preferred} and {preferred + tries - 1}: stop what listens there")


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connection is still in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
