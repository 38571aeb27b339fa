"""Starts the scheduler of a cluster at ports that others on this machine may be quicker to take."""

from __future__ import annotations

import errno
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from casabinder_runtime.errors import SessionError
from casabinder_runtime.ports import LOOPBACK, SCHEDULER_PORT, first_free_port

if TYPE_CHECKING:
    from distributed import SpecCluster

    from casabinder_runtime.pools.pool import Pool, SessionContext

logger = logging.getLogger(__name__)

PORTS_TRIED = 5


async def start_cluster(pool: Pool, wanted: SessionContext) -> tuple[SessionContext, SpecCluster]:
    """Return a cluster whose scheduler listens, and ``wanted`` with its ports: those that were wanted, or later ones.

    Raises:
        SessionError: workers could not reach the scheduler.
    """
    for attempt in range(1, PORTS_TRIED + 1):
        context = _with_free_ports(wanted)
        cluster = pool.make_cluster(context)
        try:
            await cluster
        except Exception as error:
            if attempt == PORTS_TRIED or not port_was_taken(error):
                raise
            logger.info("port %s was taken meanwhile: another one is tried", context.port)
        else:
            break
    return context, cluster


def port_was_taken(error: BaseException | None) -> bool:
    """Tell whether an error comes, in the end, from a port on which somebody else listens."""
    while error is not None:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            return True
        error = error.__cause__ or error.__context__
    return False


def _with_free_ports(wanted: SessionContext) -> SessionContext:
    port = first_free_port(wanted.port, host=LOOPBACK if wanted.host == LOOPBACK else "")
    if wanted.contact and port != SCHEDULER_PORT:
        raise SessionError(
            f"port {SCHEDULER_PORT} of this notebook is taken, and workers reach its Dask scheduler by no other: "
            "stop what listens there, and restart the server"
        )
    return replace(wanted, port=port, dashboard_port=first_free_port(wanted.dashboard_port, but=frozenset({port})))
