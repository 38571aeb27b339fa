"""dask-jobqueue's HTCondor job and cluster, submitting through the bindings instead of the command line.

The worker's command line, its name and when it is started and stopped are dask-jobqueue's and Dask's; the description
of the job is ``submission.describe``. A submission that fails is kept as the job's ``problem``, to be told and tried
again: Dask would lose the error in a task that nobody waits for.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from dask_jobqueue.htcondor import HTCondorCluster, HTCondorJob
from distributed import Security
from distributed.core import Status
from distributed.deploy.cluster import Cluster

from casabinder_runtime.errors import PoolError
from casabinder_runtime.left_behind import job_names
from casabinder_runtime.pools.queue_watch import LOOK_SECONDS, RETRY_SECONDS, QueueWatch
from casabinder_runtime.pools.submission import WorkerIdentity, describe, submit_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from casabinder_runtime.pools.schedd import Schedd
    from casabinder_runtime.pools.submission import PoolSite, WorkerShape

logger = logging.getLogger(__name__)

END_SECONDS = 23.0  # of a session's end, in which its jobs are removed


class WorkerJob(HTCondorJob):
    """One worker, one job. ``cluster_id`` is set once HTCondor has taken it; ``problem`` says why it did not."""

    def __init__(
        self,
        scheduler: str | None = None,
        name: str | None = None,
        *,
        schedd: Schedd,
        session: str,
        env_id: str,
        site: PoolSite,
        shape: WorkerShape,
        files: Sequence[Path],
        **options: Any,
    ) -> None:
        resources = {"cores": shape.cores, "memory": f"{shape.memory}B", "disk": f"{shape.disk}B", "processes": 1}
        super().__init__(scheduler, name, **resources, **options)  # type: ignore[no-untyped-call]
        self._schedd = schedd
        self._description = describe(
            WorkerIdentity(str(name), session, env_id), site, shape, self._command_template, files
        )
        self.cluster_id: int | None = None
        self.problem = ""
        self.lost = False  # it can't end by itself any more
        self.tried = 0.0

    def job_script(self) -> str:
        """Return the submit file."""
        return submit_text(self._description)

    async def start(self) -> None:
        """Submit the job."""
        self.tried = time.monotonic()
        self.status = Status.running  # what Dask wants of a worker that was started, here also of one that was not
        try:
            self.cluster_id = await self._schedd.submit(self.job_script())
        except PoolError as error:
            self.problem = str(error)
        else:
            self.job_id = f"{self.cluster_id}.0"

    async def close(self) -> None:
        """Let the worker go; at the session's end all jobs are removed together."""
        if self.status == Status.closed:
            return
        self.status = Status.closed
        cluster = self._cluster and self._cluster()  # Dask sets it on what it has created
        if self.cluster_id is not None and cluster is not None and not cluster.ending:
            cluster.watch.let_go(self)


class PoolCluster(HTCondorCluster):
    """The session's workers as jobs. ``watch`` knows how they fare in the queue."""

    job_cls = WorkerJob  # type: ignore[assignment]  # a narrower class

    def __init__(
        self, schedd: Schedd, shape: WorkerShape, logs: Path, left_behind: Sequence[Path], **options: Any
    ) -> None:
        self._schedd = schedd
        self._left_behind = left_behind
        self.ending = False
        self._numbers = itertools.count()
        self._tasks: list[asyncio.Task[None]] = []
        super().__init__(schedd=schedd, shape=shape, **options)
        self.watch = QueueWatch(self, schedd, shape, logs)

    def _get_worker_security(self, security: Security) -> Security:  # noqa: ARG002  # dask-jobqueue calls it
        """Return the TLS files under the names that they have in the job's working directory."""
        return Security(
            require_encryption=True, tls_ca_file="ca.pem", tls_worker_cert="worker.pem", tls_worker_key="worker.key"
        )

    def _new_worker_name(self, worker_number: int) -> str:  # noqa: ARG002  # Dask counts from the gaps
        """Return a name that no worker had before: Dask may still be waiting for a lost one to come back."""
        return str(super()._new_worker_name(next(self._numbers)))  # type: ignore[no-untyped-call]

    async def _start(self) -> None:
        await super()._start()
        if not self._tasks:
            self._tasks = [asyncio.create_task(self.watch.run()), asyncio.create_task(self._end_left_behind())]

    async def _end_left_behind(self) -> None:
        """Remove the jobs of earlier sessions that were killed, as soon as HTCondor lets it be done, and say so."""
        ended = 0
        for directory in self._left_behind:
            for name in job_names(directory):
                ended += await _until_done(partial(self._schedd.remove_session, name), RETRY_SECONDS)
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        if ended:
            workers = "1 worker" if ended == 1 else f"{ended} workers"
            self.watch.say(f"{workers} of this notebook's earlier session {'was' if ended == 1 else 'were'} ended")

    def _update_worker_status(self, op: str, msg: Any) -> None:
        """Note which workers are there. What becomes of those that left is for :class:`QueueWatch` to find out: Dask
        would remove the job after seconds, also one that HTCondor is about to start again."""
        Cluster._update_worker_status(self, op, msg)

    async def _close(self) -> None:
        end = time.monotonic() + END_SECONDS
        self.ending = True
        for task in self._tasks:
            task.cancel()
        try:
            if self._tasks:
                await asyncio.wait(self._tasks)
            await self._schedd.end_submitting()
            await super()._close()
        finally:
            removing = asyncio.ensure_future(self._remove_jobs(end))
            try:
                await asyncio.shield(removing)
            except asyncio.CancelledError:
                await removing
                raise

    async def _remove_jobs(self, end: float) -> None:
        """Remove all jobs, trying again until ``end`` (monotonic seconds): nobody knows of them afterwards."""
        try:
            async with asyncio.timeout(end - time.monotonic()):
                await _until_done(self._schedd.remove, LOOK_SECONDS)
        except TimeoutError:
            logger.warning("jobs may be left in the queue")
        await self._schedd.close()


async def _until_done(remove: Callable[[], Awaitable[int]], pause: float) -> int:
    """Return what ``remove`` returns, called again after ``pause`` seconds for as long as HTCondor does not do it."""
    while True:
        try:
            return await remove()
        except PoolError as error:
            logger.warning("jobs are not removed yet: %s", error)
        await asyncio.sleep(pause)
