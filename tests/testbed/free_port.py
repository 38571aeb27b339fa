"""Ports for servers of tests that run side by side."""

from __future__ import annotations

import random

from casabinder_runtime.ports import first_free_port


def free_port() -> int:
    """Return a port of loopback that nobody has, below those that the kernel gives to clients (from 32768 on): one of
    those may be taken before the server is there."""
    return first_free_port(random.randrange(10_000, 20_000))
