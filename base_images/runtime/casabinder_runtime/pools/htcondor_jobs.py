"""dask-jobqueue's HTCondor job and cluster, submitting through the bindings instead of the command line.

The worker's command line, its name and when it is started and stopped are dask-jobqueue's and Dask's; the description
of the job is ``submission.describe``. A submission that fails is kept as the job's ``problem``, to be told and tried
again: Dask would lose the error in a task that nobody waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from typing import TYPE_CHECKING, Any

from dask_jobqueue.htcondor import HTCondorCluster, HTCondorJob
from distributed import Security
from distributed.core import Status

from casabinder_runtime.errors import PoolError
from casabinder_runtime.pools.queue_watch import QueueWatch
from casabinder_runtime.pools.submission import WorkerIdentity, describe, submit_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from casabinder_runtime.pools.schedd import Schedd
    from casabinder_runtime.pools.submission import PoolSite, WorkerShape

logger = logging.getLogger(__name__)


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
        """Remove the job from the queue."""
        if self.status == Status.closed:
            return
        self.status = Status.closed
        if self.cluster_id is not None:
            # Without the queue nothing can be removed: the worker ends by itself once its scheduler is gone.
            with contextlib.suppress(PoolError):
                await self._schedd.remove(self.cluster_id)


class PoolCluster(HTCondorCluster):
    """The session's workers as jobs. ``watch`` knows how they fare in the queue."""

    job_cls = WorkerJob  # type: ignore[assignment]  # a narrower class

    def __init__(self, schedd: Schedd, shape: WorkerShape, **options: Any) -> None:
        self._schedd = schedd
        self._numbers = itertools.count()
        self._watching: asyncio.Task[None] | None = None
        super().__init__(schedd=schedd, shape=shape, **options)
        self.watch = QueueWatch(self, schedd, shape)

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
        if self._watching is None:
            self._watching = asyncio.create_task(self.watch.run())

    async def _close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        await super()._close()
        try:
            await self._schedd.remove()
        except PoolError as error:
            logger.warning("jobs may be left in the queue: %s", error)
        await self._schedd.close()
