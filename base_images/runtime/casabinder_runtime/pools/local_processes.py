"""Dask's cluster of processes beside the notebook, whose workers hand over what they hold before they end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from distributed import SpecCluster
from distributed.core import Status

from casabinder_runtime.pools.retiring import retire

if TYPE_CHECKING:
    from distributed import Nanny

TOLD_SECONDS = 2.0  # from being told to end until the nanny is told


class LocalProcesses(SpecCluster):  # type: ignore[misc]  # distributed is untyped
    """The session's workers as child processes."""

    async def _correct_state_internal(self) -> None:
        """See off the workers that have no more place; all else is Dask's.

        Dask, too, has the scheduler retire them, but by their names where it expects addresses, so that they end
        with all that they hold.
        """
        try:
            async with self._lock:
                if self.status == Status.running:
                    await self._see_off()
        finally:
            await super()._correct_state_internal()

    async def _see_off(self) -> None:
        leaving = {name: worker for name, worker in self.workers.items() if name not in self.worker_spec}
        if leaving:
            await retire(self.scheduler, leaving)
            await asyncio.gather(*(_end(worker) for worker in leaving.values()))
        for name in leaving:
            self.workers.pop(name, None)


async def _end(worker: Nanny) -> None:
    """End a worker that the scheduler has told to end: it tells its nanny, and would wait for one that is gone."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TOLD_SECONDS):
            while worker.status == Status.running:
                await asyncio.sleep(0.01)
    await worker.close()
