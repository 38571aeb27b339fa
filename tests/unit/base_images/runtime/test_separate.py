from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from casabinder_runtime.cluster_end import end_cluster
from casabinder_runtime.cluster_start import PORTS_TRIED, start_cluster
from casabinder_runtime.control import SessionControl
from casabinder_runtime.data_push import DataAccess
from casabinder_runtime.errors import PoolError
from casabinder_runtime.pools.local import LocalPool
from casabinder_runtime.pools.pool import SessionContext
from casabinder_runtime.separate import SeparateClusters, Share
from casabinder_runtime.session_directory import CLUSTERS, SessionRecord
from casabinder_runtime.tls import TlsFiles

from tests.unit.base_images.runtime.small_pools import OvertakenPool, PublishedPool, wanted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CONTEXT = SessionContext("e", Path("/etc/env.json"), Path("/srv/repo"), TlsFiles(Path("/run/s")), "127.0.0.1", 1, 2)


def with_first_cluster(directory: Path, pool: LocalPool, use: Callable[[SeparateClusters], Awaitable[None]]) -> None:
    """Run ``use`` with what opens separate clusters, in a session that has its first."""

    async def run() -> None:
        context, cluster = await start_cluster(LocalPool(), wanted(directory, pool))
        separate = SeparateClusters(pool, context, 0)
        try:
            control = SessionControl(cluster, separate.share(), directory)
            await cluster.scheduler.register_scheduler_plugin(control, idempotent=False)
            record = SessionRecord("", 0, "", "", "", "", "", "local", 0)
            await separate.start(cluster.scheduler, control, record, DataAccess(cluster.scheduler, ()))
            await use(separate)
        finally:
            await separate.close()
            await end_cluster(cluster)

    asyncio.run(run())


def test_a_second_scheduler_that_workers_could_not_reach_is_refused() -> None:
    separate = SeparateClusters(PublishedPool(), CONTEXT, 0)
    with pytest.raises(PoolError, match="one published port, which is that of its first cluster: use FacilityCluster"):
        asyncio.run(separate.open())


def test_more_workers_than_the_session_may_have_are_refused_before_anything_starts() -> None:
    separate = SeparateClusters(LocalPool(maximum=2), CONTEXT, 0)
    with pytest.raises(PoolError, match="at most 2 workers in all its clusters: 0 are taken, 3 more were asked for"):
        asyncio.run(separate.open(3))


def test_what_others_claim_is_not_left() -> None:
    claimed = [0]
    share = Share(LocalPool(maximum=4), lambda: claimed[0])
    assert (share.maximum, share.kind, share.threads) == (4, "local", 1)
    claimed[0] = 3
    assert share.maximum == 1
    claimed[0] = 5
    assert share.maximum == 0
    assert Share(LocalPool(), lambda: 5).maximum is None


def test_a_cluster_that_is_being_opened_when_the_session_ends_is_closed(tmp_path: Path) -> None:
    async def use(separate: SeparateClusters) -> None:
        opening = asyncio.create_task(separate.open())
        await asyncio.sleep(0)
        assert await separate.close()
        with pytest.raises(PoolError, match="the session is ending"):
            await opening
        assert list((tmp_path / CLUSTERS).iterdir()) == []

    with_first_cluster(tmp_path, LocalPool(), use)


def test_a_port_that_others_were_quicker_to_take_is_followed_by_the_next(tmp_path: Path) -> None:
    with OvertakenPool() as pool:

        async def use(separate: SeparateClusters) -> None:
            address = (await separate.open())["address"]
            [taken] = pool.taken
            assert address.startswith("tls://127.0.0.1:")
            assert not address.endswith(f":{taken}")

        with_first_cluster(tmp_path, pool, use)


def test_one_that_cannot_be_opened_leaves_nothing(tmp_path: Path) -> None:
    async def use(separate: SeparateClusters) -> None:
        with pytest.raises(RuntimeError, match="Cluster failed to start"):
            await separate.open()
        assert not list((tmp_path / CLUSTERS).glob("*"))

    with OvertakenPool(times=PORTS_TRIED) as pool:
        with_first_cluster(tmp_path, pool, use)
