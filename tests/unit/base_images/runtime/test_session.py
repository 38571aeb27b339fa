"""A session begins with ports that were free when it looked, and that others may be quicker to take."""

from __future__ import annotations

import asyncio
import errno
import random
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from casabinder_runtime.errors import SessionError
from casabinder_runtime.identity import Base, Identity
from casabinder_runtime.pools.local import LocalPool
from casabinder_runtime.session import SessionOptions, port_was_taken, start_cluster
from casabinder_runtime.tls import create_session_certificates

if TYPE_CHECKING:
    from pathlib import Path

    from casabinder_runtime.pools.pool import SessionContext
    from distributed import SpecCluster

IDENTITY = Identity("e" * 16, "i" * 16, "t" * 40, Base("base", "sha256:0"), "3.13", "0" * 64, "linux/amd64", 1)


@dataclass(frozen=True)
class OvertakenPool(LocalPool):
    """A pool on a machine where somebody takes the port of the first cluster, just before its scheduler does."""

    others: list[socket.socket] = field(default_factory=list)

    def make_cluster(self, session: SessionContext) -> SpecCluster:
        """Return a cluster; the first time its port is taken by then."""
        if not self.others:
            self.others.append(socket.create_server((session.host, session.port)))
        return super().make_cluster(session)


@dataclass(frozen=True)
class PublishedPool(LocalPool):
    """A pool whose workers reach one port of this notebook."""

    contact: str = "tls://192.0.2.1:30417"


def options(directory: Path) -> SessionOptions:
    port = 31_000 + random.randrange(500) * 2
    return SessionOptions(directory, directory / "env.json", directory, port, port + 1, stop_with_stdin=False)


def test_a_port_that_others_were_quicker_to_take_is_followed_by_the_next(tmp_path: Path) -> None:
    wanted, pool = options(tmp_path), OvertakenPool()

    async def ports() -> tuple[int, int]:
        context, cluster = await start_cluster(wanted, pool, IDENTITY, create_session_certificates(tmp_path))
        async with cluster:
            return context.port, cluster.scheduler.port

    try:
        planned, found = asyncio.run(ports())
    finally:
        taken = [other.getsockname()[1] for other in pool.others]
        for other in pool.others:
            other.close()
    assert planned == found
    assert taken != [found]


def test_a_scheduler_that_workers_reach_at_one_port_has_no_other(tmp_path: Path) -> None:
    wanted = options(tmp_path)
    with pytest.raises(SessionError, match="port 8786 of this notebook is taken, and workers reach"):
        asyncio.run(start_cluster(wanted, PublishedPool(), IDENTITY, create_session_certificates(tmp_path)))


def test_a_port_that_is_taken_is_known_at_the_bottom_of_an_error() -> None:
    error = RuntimeError("Scheduler failed to start.")
    error.__cause__ = OSError(errno.EADDRINUSE, "Address already in use")
    assert port_was_taken(error)
    assert not port_was_taken(OSError(errno.EACCES, "Permission denied"))
