"""Scaling by hand while automatic scaling is under way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from casabinder_runtime.cluster_end import end_cluster
from casabinder_runtime.cluster_start import start_cluster
from casabinder_runtime.control import SessionControl
from casabinder_runtime.pools.local import LocalPool

from tests.unit.base_images.runtime.small_pools import wanted

if TYPE_CHECKING:
    from pathlib import Path


def test_a_step_of_automatic_scaling_does_not_undo_what_is_asked_for_during_it(tmp_path: Path) -> None:
    async def run() -> None:
        pool = LocalPool(maximum=4)
        _, cluster = await start_cluster(pool, wanted(tmp_path, pool))
        try:
            control = SessionControl(cluster, pool, tmp_path)
            await cluster.scheduler.register_scheduler_plugin(control, idempotent=False)
            await control.adapt(0, 4)
            step = cluster._adaptive
            step._adapting = True  # it waits for workers to hand over what they hold
            scaling = asyncio.create_task(control.scale(0))
            await asyncio.sleep(0.2)
            assert not scaling.done()
            step._adapting = False
            assert (await scaling)["adaptive"] is None
        finally:
            await end_cluster(cluster)

    asyncio.run(run())
