"""Local pools for tests, on a machine where things are not as they should be."""

from __future__ import annotations

import random
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from casabinder_runtime.pools.local import LocalPool
from casabinder_runtime.pools.pool import SessionContext
from casabinder_runtime.tls import create_session_certificates

if TYPE_CHECKING:
    from pathlib import Path

    from distributed import SpecCluster


@dataclass(frozen=True)
class OvertakenPool(LocalPool):
    """A pool on a machine where somebody takes a port just before its scheduler does, several ``times``."""

    times: int = 1
    others: list[socket.socket] = field(default_factory=list)

    @property
    def taken(self) -> list[int]:
        """The ports that somebody has taken."""
        return [other.getsockname()[1] for other in self.others]

    def make_cluster(self, session: SessionContext) -> SpecCluster:
        """Return a cluster; the first times its port is taken by then."""
        if len(self.others) < self.times:
            self.others.append(socket.create_server((session.host, session.port)))
        return super().make_cluster(session)

    def __enter__(self) -> OvertakenPool:
        return self

    def __exit__(self, *_: object) -> None:
        for other in self.others:
            other.close()


@dataclass(frozen=True)
class PublishedPool(LocalPool):
    """A pool whose workers reach one port of this notebook."""

    contact: str = "tls://192.0.2.1:30417"


def wanted(directory: Path, pool: LocalPool) -> SessionContext:
    """Return a session with new certificates that wants ports which are most likely free."""
    port = 31_000 + random.randrange(500) * 2
    tls = create_session_certificates(directory)
    return SessionContext("e", directory, directory, tls, pool.address, port, port + 1, pool.contact)
