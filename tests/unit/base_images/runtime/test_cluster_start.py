"""A cluster begins with ports that were free when it looked, and that others may be quicker to take."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

import pytest
from casabinder_runtime.cluster_end import end_cluster
from casabinder_runtime.cluster_start import port_was_taken, start_cluster
from casabinder_runtime.errors import SessionError

from tests.unit.base_images.runtime.small_pools import OvertakenPool, PublishedPool, wanted

if TYPE_CHECKING:
    from pathlib import Path


def test_a_port_that_others_were_quicker_to_take_is_followed_by_the_next(tmp_path: Path) -> None:
    async def ports(pool: OvertakenPool) -> tuple[int, int]:
        context, cluster = await start_cluster(pool, wanted(tmp_path, pool))
        port = cluster.scheduler.port
        assert await end_cluster(cluster)
        return context.port, port

    with OvertakenPool() as pool:
        planned, found = asyncio.run(ports(pool))
        assert planned == found
        assert pool.taken != [found]


def test_a_scheduler_that_workers_reach_at_one_port_has_no_other(tmp_path: Path) -> None:
    pool = PublishedPool()
    with pytest.raises(SessionError, match="port 8786 of this notebook is taken, and workers reach"):
        asyncio.run(start_cluster(pool, wanted(tmp_path, pool)))


def test_a_port_that_is_taken_is_known_at_the_bottom_of_an_error() -> None:
    error = RuntimeError("Scheduler failed to start.")
    error.__cause__ = OSError(errno.EADDRINUSE, "Address already in use")
    assert port_was_taken(error)
    assert not port_was_taken(OSError(errno.EACCES, "Permission denied"))
