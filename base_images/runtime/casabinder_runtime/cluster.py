"""``FacilityCluster``: a handle on the session's Dask cluster, for notebooks.

The cluster itself belongs to the session process, so it is there when the notebook opens and outlives a kernel.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from dask.utils import format_bytes
from distributed import Security
from distributed.core import Status, rpc
from distributed.deploy.cluster import Cluster
from distributed.objects import SchedulerInfo
from distributed.utils import Log, Logs
from tornado.ioloop import PeriodicCallback

from casabinder_runtime.cluster_view import rows
from casabinder_runtime.openssl_errors import clear_errors_before_use
from casabinder_runtime.scheduler_plugin import STARTUP_KEY
from casabinder_runtime.session_directory import (
    STARTUP_SECONDS,
    SessionRecord,
    find_session_directory,
    wait_for_record,
)
from casabinder_runtime.worker_logs import ended_workers, read_logs

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from casabinder_runtime.control import ClusterState


REFRESH_SECONDS = 1.0


def client_security(record: SessionRecord) -> Security:
    """Return what a client needs to talk to the session's scheduler.

    Every client of it comes past here; Dask does not ask the security loader for one that is made from a cluster.
    """
    clear_errors_before_use()
    return Security(
        require_encryption=True,
        tls_ca_file=record.tls_ca_file,
        tls_client_cert=record.tls_client_cert,
        tls_client_key=record.tls_client_key,
    )


class FacilityCluster(Cluster):  # type: ignore[misc]  # distributed is untyped
    """The Dask cluster of this notebook.

    >>> cluster = FacilityCluster()           # doctest: +SKIP
    >>> cluster.scale(4)                      # doctest: +SKIP
    >>> client = cluster.get_client()         # doctest: +SKIP

    Args:
        n_workers: scale to so many workers; left out: leave them as they are.
        separate: open a cluster of its own, beside the one that all other handles share: with a scheduler and workers
            of its own, within the session's limit. It ends with ``close()``, or with the session.
        session: directory of the session; left out: the one of this notebook server.
        asynchronous: to be used with ``await`` in a running event loop.
        timeout: seconds to wait for a session that is still starting.

    Raises:
        SessionError: there is no session, or it failed to start; the message says why.
        PoolError: there can be no separate cluster here, or not one of so many workers.
    """

    _session_comm: rpc | None = None  # of a separate cluster's session

    def __init__(
        self,
        n_workers: int | None = None,
        *,
        separate: bool = False,
        session: Path | None = None,
        asynchronous: bool = False,
        timeout: float = STARTUP_SECONDS,
    ) -> None:
        self._directory = session or find_session_directory()
        self._record = wait_for_record(self._directory, seconds=timeout)
        self._n_workers = n_workers
        self._separate = separate
        self.security = client_security(self._record)
        super().__init__(asynchronous=asynchronous, name=f"casabinder-{self._record.env_id}")
        if not self.called_from_running_loop:
            self._loop_runner.start()
            self.sync(self._start)

    @property
    def env_id(self) -> str:
        """The environment of this notebook, its scheduler and all its workers."""
        return self._record.env_id

    @property
    def workers(self) -> dict[str, dict[str, Any]]:
        """The workers that run, by address."""
        return cast("dict[str, dict[str, Any]]", self.scheduler_info["workers"])

    @property
    def worker_env_ids(self) -> set[str]:
        """The environments that the running workers found in their own images: ``env_id``, and no other."""
        return {worker[STARTUP_KEY] for worker in self.workers.values()}

    def scale(self, n: int) -> Any:
        """Ask for ``n`` workers in all; they join as the pool gives them.

        Raises:
            PoolError: that is more than this session may have.
        """
        return self.sync(self._steer, "casabinder_scale", n=n)

    def adapt(self, *, minimum: int = 0, maximum: int | None = None) -> Any:
        """Let the number of workers follow the load; ``scale()`` ends it.

        Raises:
            PoolError: that is more than this session may have.
        """
        return self.sync(self._steer, "casabinder_adapt", minimum=minimum, maximum=maximum)

    def logs(self) -> Logs:
        """Return the logs of the scheduler and of the workers by name, also of those that have ended.

        What an ended worker wrote is there some seconds later: up to 256 KiB of it, of the last 100 workers. A worker
        that was started again under its name has what it wrote before as ``NAME (before)``.
        """
        return cast("Logs", self.sync(self._logs))

    async def _logs(self) -> Logs:
        names = {address: str(worker["name"]) for address, worker in self.workers.items()}
        running = await self._get_logs(cluster=False)
        found = Logs({names.get(where, where): log for where, log in running.items()})
        for name, text in read_logs(self._directory).items():
            found[f"{name} (before)" if name in found else name] = Log(text)
        return found

    def disconnect(self) -> Any:
        """Let go of the cluster and leave its workers running."""
        return self.sync(self._disconnect)

    async def _start(self) -> None:
        """Connect.

        The base class would subscribe to the scheduler's worker status, of which there is one subscriber only: the
        session's own cluster. A handle asks instead.
        """
        self.scheduler_comm = self._connect()
        if self._separate:
            self._session_comm = self.scheduler_comm
            self._record = SessionRecord(**await self._session_comm.casabinder_open(n=self._n_workers or 0))
            self.scheduler_comm = self._connect()
        await self._steer("casabinder_state")
        if self._n_workers is not None and not self._separate:
            await self._steer("casabinder_scale", n=self._n_workers)
        self._refreshing = PeriodicCallback(self._refresh, REFRESH_SECONDS * 1000)
        self._refreshing.start()
        self.status = Status.running

    def _connect(self) -> rpc:
        return rpc(self._record.address, connection_args=self.security.get_connection_args("client"))

    async def _wait_for_workers(self, n_workers: int = 0, timeout: float | None = None) -> None:
        """Ask for the workers again that were given back while idle, then wait."""
        await self._steer("casabinder_wake")
        await super()._wait_for_workers(n_workers, timeout)

    async def _refresh(self) -> None:
        try:
            await self._steer("casabinder_state")
        except OSError:  # the session has ended
            self._refreshing.stop()
            self.scheduler_info["workers"].clear()

    async def _close(self) -> None:
        """Give all workers back; the session's own scheduler stays, a separate one ends."""
        if self.status == Status.running:
            with suppress(OSError):  # a session that has ended has no workers
                if self._session_comm is not None:
                    self._refreshing.stop()
                    await self._session_comm.casabinder_close(address=self._record.address)
                else:
                    await self._steer("casabinder_scale", n=0)
        await self._disconnect()

    async def _disconnect(self) -> None:
        if self.status == Status.running:
            self._refreshing.stop()
        if self._session_comm is not None:
            await self._session_comm.close_rpc()
        await super()._close()

    async def _steer(self, operation: str, **arguments: int | None) -> None:
        self._state: ClusterState = await getattr(self.scheduler_comm, operation)(**arguments)
        self.scheduler_info = SchedulerInfo(await self.scheduler_comm.identity())

    def __await__(self) -> Generator[Any, Any, FacilityCluster]:
        async def started() -> FacilityCluster:
            if self.status == Status.created:
                await self._start()
            return self

        return started().__await__()

    @property
    def requested(self) -> set[str]:
        """The names of the workers that run; the pool alone knows those to come."""
        return cast("set[str]", self.observed)

    plan = requested

    def _scaling_status(self) -> str:
        return f"<table>{self._rows()}</table>"

    def _rows(self) -> str:
        adaptive = self._state["adaptive"]
        scaling = "manual" if adaptive is None else f"automatic, {adaptive[0]} to {adaptive[1]} workers"
        return rows(self._state["pool"], scaling, len(self.workers), self._not_running(), len(self._ended()))

    def _not_running(self) -> list[str]:
        notes = list(self._state["notes"])
        starting = max(0, self._state["requested"] - len(self.workers)) if self._state["adaptive"] is None else 0
        if starting and not notes:
            notes = [f"{starting} starting"]
        return [*notes, *filter(None, [self._state["idle"]])]

    def _ended(self) -> list[str]:
        return ended_workers(self._directory)

    def _worker_text(self) -> str:
        return ", ".join([f"{len(self.workers)} running", *self._not_running()])

    def _repr_html_(self, cluster_status: str | None = None) -> str:
        return cast("str", super()._repr_html_(cluster_status=cluster_status or self._rows()))

    def __repr__(self) -> str:
        if self.status != Status.running:
            return f"FacilityCluster({self.env_id}, {self.status.name})"
        threads = sum(worker["nthreads"] for worker in self.workers.values())
        memory = format_bytes(sum(worker["memory_limit"] for worker in self.workers.values()))
        ended = len(self._ended())
        logs = f", ended: {ended} (see logs())" if ended else ""
        return (
            f"FacilityCluster({self.env_id}, {self.scheduler_address}, {self._state['pool']} pool, "
            f"workers: {self._worker_text()}, threads: {threads}, memory: {memory}{logs})"
        )
