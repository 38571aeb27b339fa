"""Sees workers off that have no more place in the cluster: they end by themselves, and their output is fetched.

    retire ──▶ the worker hands over its results and ends ──▶ HTCondor has its output ──▶ fetch ──▶ remove the job

A job that does not run, or whose worker never joined, is removed at once; so is one that takes longer than
``LEAVE_SECONDS``. HTCondor keeps nothing of a job that is removed while it runs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from casabinder_runtime.pools.retiring import retire

if TYPE_CHECKING:
    from collections.abc import Iterable

    from casabinder_runtime.pools.job_output import JobOutput
    from casabinder_runtime.pools.schedd import QueuedJob, Schedd

logger = logging.getLogger(__name__)

PER_LOOK = 10  # jobs that are seen off at once, so that nothing else has to wait
LEAVE_SECONDS = 40.0  # from being told until the job is removed


class Departures:
    """Jobs on their way out; whoever looks at the queue calls :meth:`see_off` with what is there."""

    def __init__(self, schedd: Schedd, output: JobOutput) -> None:
        self._schedd = schedd
        self._output = output
        self._leaving: dict[int, float] = {}  # since when, by cluster
        self._told: dict[str, None] = {}
        self._telling: asyncio.Task[None] | None = None

    def __bool__(self) -> bool:
        """Whether any job is on its way out."""
        return bool(self._leaving)

    def add(self, scheduler: Any, worker: str, cluster: int, *, at_once: bool) -> None:
        """Let a worker go; with ``at_once`` its job is removed without waiting for it, since it can't end by itself."""
        self._leaving[cluster] = float("-inf") if at_once else time.monotonic()
        if not at_once:
            self._told[worker] = None
            if self._telling is None or self._telling.done():
                self._telling = asyncio.create_task(self._tell(scheduler))

    async def see_off(self, jobs: Iterable[QueuedJob]) -> None:
        """Fetch the output of those that have ended, and take them, and those that do not end, out of the queue.

        Raises:
            PoolError: HTCondor does not answer; what was not done is done the next time.
        """
        there = {job.cluster: job for job in jobs}
        seen_off = 0
        for cluster, since in list(self._leaving.items()):
            job = there.get(cluster)
            if job is None:
                del self._leaving[cluster]
                continue
            if job.state in ("running", "leaving") and time.monotonic() - since < LEAVE_SECONDS:
                continue
            if seen_off == PER_LOOK:
                return
            seen_off += 1
            if (job.state == "held" or job.status is not None) and not await self._output.fetch(job):
                continue
            await self._schedd.remove(cluster)
            del self._leaving[cluster]

    async def close(self) -> None:
        """Stop telling workers to go."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.wait([self._telling])

    async def _tell(self, scheduler: Any) -> None:
        """Retire the workers that were told at once together."""
        await asyncio.sleep(0)
        names, self._told = list(self._told), {}
        await retire(scheduler, names)
