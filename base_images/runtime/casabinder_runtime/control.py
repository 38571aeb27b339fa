"""Lets clients of the scheduler steer the session's workers.

The session process owns the cluster: only it may start and stop workers, so that they survive a kernel. A
``FacilityCluster`` in a kernel sends its wishes to these handlers over the scheduler's own TLS connection. Every one
answers with the same small state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from distributed.diagnostics.plugin import SchedulerPlugin
from tornado.ioloop import PeriodicCallback

from casabinder_runtime.errors import PoolError
from casabinder_runtime.session_directory import SessionStatus, write_status

if TYPE_CHECKING:
    from pathlib import Path

    from distributed import Adaptive, Scheduler, SpecCluster

    from casabinder_runtime.pools.pool import Pool


PUBLISH_SECONDS = 1.0


class ClusterState(TypedDict):
    """What is told to whoever asks."""

    pool: str
    running: int
    requested: int
    maximum: int | None
    adaptive: list[int] | None  # least and most workers, while scaling is automatic
    notes: list[str]  # how the workers fare that do not run, as far as the pool knows


class SessionControl(SchedulerPlugin):  # type: ignore[misc]  # distributed is untyped
    """Handles ``casabinder_scale``, ``casabinder_adapt`` and ``casabinder_state``; keeps ``status.json`` up to date."""

    name = "casabinder-session-control"

    _adaptive: Adaptive | None = None
    _published: SessionStatus | None = None

    def __init__(self, cluster: SpecCluster, pool: Pool, directory: Path, message: str = "") -> None:
        self._cluster = cluster
        self._pool = pool
        self._directory = directory
        self._message = message

    async def start(self, scheduler: Scheduler) -> None:
        """Add the handlers."""
        self._scheduler = scheduler
        scheduler.handlers["casabinder_scale"] = self.scale
        scheduler.handlers["casabinder_adapt"] = self.adapt
        scheduler.handlers["casabinder_state"] = self.state
        self._publishing = PeriodicCallback(self._publish, PUBLISH_SECONDS * 1000)
        self._publishing.start()

    async def close(self) -> None:
        """Called by the scheduler when it ends."""
        self._publishing.stop()

    @property
    def claimed(self) -> int:
        """How many workers the cluster means to have, or may take by itself."""
        return max(len(self._cluster.plan), self._adaptive.maximum if self._adaptive else 0)

    async def scale(self, n: int) -> ClusterState:
        """Ask the pool for ``n`` workers in all; ends automatic scaling.

        Raises:
            PoolError: that is more than this session may have.
        """
        self._check(n)
        self._stop_adaptive()
        self._cluster.scale(n)
        return await self.state()

    async def adapt(self, minimum: int, maximum: int | None) -> ClusterState:
        """Let the number of workers follow the load, between ``minimum`` and ``maximum`` (left out: the limit).

        Raises:
            PoolError: that is more than this session may have, or no range at all.
        """
        most = self._pool.maximum if maximum is None else maximum
        if most is None:
            raise PoolError("adapt() needs a maximum: this pool has no limit of its own")
        if minimum > most:
            raise PoolError(f"adapt() was asked for at least {minimum} and at most {most} workers")
        self._check(minimum)
        self._check(most)
        self._stop_adaptive()
        self._adaptive = self._cluster.adapt(minimum=minimum, maximum=most)
        return await self.state()

    async def state(self) -> ClusterState:
        """Return how many workers run and how many were asked for."""
        self._publish()
        return {
            "pool": self._pool.kind,
            "running": len(self._scheduler.workers),
            "requested": len(self._cluster.plan),
            "maximum": self._pool.maximum,
            "adaptive": [self._adaptive.minimum, self._adaptive.maximum] if self._adaptive else None,
            "notes": self._pool.notes(self._cluster),
        }

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:  # noqa: ARG002
        """Called by the scheduler for each worker that joins."""
        self._publish()

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:  # noqa: ARG002
        """Called by the scheduler for each worker that leaves."""
        self._publish()

    def _check(self, n: int) -> None:
        if n < 0:
            raise PoolError(f"a cluster cannot have {n} workers")
        if self._pool.maximum is not None and n > self._pool.maximum:
            raise PoolError(f"this session may have at most {self._pool.maximum} workers, {n} were asked for")

    def _stop_adaptive(self) -> None:
        if self._adaptive is not None:
            self._adaptive.stop()
            self._adaptive = None

    def _publish(self) -> None:
        message = "; ".join(filter(None, [self._message, *self._pool.notes(self._cluster)]))
        status = SessionStatus("running", len(self._scheduler.workers), len(self._cluster.plan), message)
        if status != self._published:
            write_status(self._directory, status)
            self._published = status
