"""Brings the output of jobs that have ended, or are held, from the schedd into the session's directory.

HTCondor transfers a job's output to the schedd when the job ends, and gives out none of a job that is sent away or
removed (``ON_EXIT_OR_EVICT`` brings it to the spool, under names that ``retrieve`` does not know: 25.14). Such a worker
hands over its log itself, while it has time; what it wrote besides, and all of a lost node's workers, is gone.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from casabinder_runtime.errors import PoolError
from casabinder_runtime.worker_logs import MOST_BYTES, add_log, keep_within_limits, last_words, take_in

if TYPE_CHECKING:
    from pathlib import Path

    from casabinder_runtime.pools.schedd import QueuedJob, Schedd

logger = logging.getLogger(__name__)

MOST_FETCHED = 2**24  # bytes that one worker may have written
TRIES = 3  # for output that the schedd does not give


class JobOutput:
    """Output of a session's jobs, each fetched once for every time that it ran; ``directory`` is that of the logs."""

    def __init__(self, schedd: Schedd, directory: Path) -> None:
        self._schedd = schedd
        self._directory = directory
        self._tries: dict[tuple[int, int], int] = {}  # that are left, by job and run

    async def fetch(self, job: QueuedJob) -> bool:
        """Fetch a job's output, unless that was done; return whether that is settled, so that the job may go."""
        run = (job.cluster, job.started)
        left = self._tries.get(run, TRIES)
        if not left or not job.started:
            return True
        self._tries[run] = 0
        if job.output > MOST_FETCHED:
            said = f"casabinder: {job.output} bytes of output are left in the pool: that is too much to fetch"
            await asyncio.to_thread(add_log, self._directory, job.worker, said)
        else:
            try:
                await self._schedd.retrieve(job.cluster)
                await asyncio.to_thread(take_in, self._directory, job.worker)
            except PoolError as error:
                logger.warning("the output of worker %s could not be fetched: %s", job.worker, error)
                self._tries[run] = left - 1
        await asyncio.to_thread(keep_within_limits, self._directory)
        return self._tries[run] == 0

    async def last_words(self, job: QueuedJob) -> str:
        """Return the line in which a job says why it ended, if it does."""
        await self.fetch(job)
        return await asyncio.to_thread(last_words, self._directory, job.worker)

    async def farewell(self, worker: str, log: str) -> None:
        """Take the log of a worker that must go."""
        await asyncio.to_thread(add_log, self._directory, worker, log[-MOST_BYTES:])
        await asyncio.to_thread(keep_within_limits, self._directory)
