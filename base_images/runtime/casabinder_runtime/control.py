"""Lets clients of the scheduler steer the session's workers.

The session process owns the cluster: only it may start and stop workers, so that they survive a kernel. A
``FacilityCluster`` in a kernel sends its wishes to these handlers over the scheduler's own TLS connection. Every one
answers with the same small state.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, TypedDict

from distributed.diagnostics.plugin import SchedulerPlugin
from tornado.ioloop import PeriodicCallback

from casabinder_runtime.errors import PoolError
from casabinder_runtime.idle import IdleWorkers
from casabinder_runtime.notices import TOPIC, Notice
from casabinder_runtime.pools import check_workers
from casabinder_runtime.session_directory import SaidNotice, SessionStatus, write_status

if TYPE_CHECKING:
    from pathlib import Path

    from distributed import Adaptive, Scheduler, SpecCluster

    from casabinder_runtime.pools.pool import Pool

logger = logging.getLogger(__name__)

PUBLISH_SECONDS = 1.0
STEP_SECONDS = 10.0  # that a step of automatic scaling may take, in which workers hand over what they hold
LATEST = 5  # notices that the page shows


class ClusterState(TypedDict):
    """What is told to whoever asks."""

    pool: str
    running: int
    requested: int
    maximum: int | None
    adaptive: list[int] | None  # least and most workers, while scaling is automatic
    notes: list[str]  # how the workers fare that do not run, as far as the pool knows
    idle: str  # what became of workers without work, if anything did


class SessionControl(SchedulerPlugin):  # type: ignore[misc]  # distributed is untyped
    """Handles ``casabinder_scale``, ``casabinder_adapt``, ``casabinder_wake`` and ``casabinder_state``.

    Keeps ``status.json`` up to date, and sees that workers without work for ``idle_seconds`` are given back.
    """

    name = "casabinder-session-control"

    _adaptive: Adaptive | None = None
    _published: SessionStatus | None = None

    def __init__(
        self, cluster: SpecCluster, pool: Pool, directory: Path, message: str = "", idle_seconds: float = 0
    ) -> None:
        self._cluster = cluster
        self._pool = pool
        self._directory = directory
        self._message = message
        self._idle = IdleWorkers(cluster, idle_seconds, self._announce, time.monotonic)

    async def start(self, scheduler: Scheduler) -> None:
        """Add the handlers."""
        self._scheduler = scheduler
        scheduler.handlers["casabinder_scale"] = self.scale
        scheduler.handlers["casabinder_adapt"] = self.adapt
        scheduler.handlers["casabinder_state"] = self.state
        scheduler.handlers["casabinder_wake"] = self.wake
        self._scatter = scheduler.handlers["scatter"]
        scheduler.handlers["scatter"] = self.scatter
        self._publishing = PeriodicCallback(self._look, PUBLISH_SECONDS * 1000)
        self._publishing.start()

    async def close(self) -> None:
        """Called by the scheduler when it ends."""
        self._publishing.stop()

    @property
    def claimed(self) -> int:
        """How many workers the cluster means to have, may take by itself, or asks for again with the next task."""
        return max(len(self._cluster.plan), self._adaptive.maximum if self._adaptive else 0, self._idle.given_back)

    async def scale(self, n: int) -> ClusterState:
        """Ask the pool for ``n`` workers in all; ends automatic scaling.

        Raises:
            PoolError: that is more than this session may have.
        """
        check_workers(n, self._pool.maximum)
        await self._stop_adaptive()
        self._idle.touched()
        self._cluster.scale(n)
        return await self.state()

    async def obey(self, n: int) -> None:
        """Scale as the page asks; what is wrong with it is announced, since nobody waits for an answer."""
        try:
            await self.scale(n)
        except PoolError as error:
            self._announce("scale", f"{error}.")

    async def wake(self) -> ClusterState:
        """Ask for the workers again that were given back while idle."""
        self._idle.ask_again()
        return await self.state()

    async def scatter(self, **message: Any) -> Any:
        """Take data, for which there must be workers."""
        self._idle.ask_again()
        return await self._scatter(**message)

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
        check_workers(minimum, self._pool.maximum)
        check_workers(most, self._pool.maximum)
        await self._stop_adaptive()
        self._idle.touched()
        self._adaptive = self._cluster.adapt(minimum=minimum, maximum=most)
        return await self.state()

    async def state(self) -> ClusterState:
        """Return how many workers run and how many were asked for."""
        self.publish()
        return {
            "pool": self._pool.kind,
            "running": len(self._scheduler.workers),
            "requested": len(self._cluster.plan),
            "maximum": self._pool.maximum,
            "adaptive": [self._adaptive.minimum, self._adaptive.maximum] if self._adaptive else None,
            "notes": self._pool.notes(self._cluster),
            "idle": self._idle.note,
        }

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:  # noqa: ARG002
        """Called by the scheduler for each worker that joins."""
        self.publish()

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:  # noqa: ARG002
        """Called by the scheduler for each worker that leaves."""
        self.publish()

    def add_client(self, scheduler: Scheduler, client: str) -> None:  # noqa: ARG002
        """Called by the scheduler for each client that connects: somebody begins to work."""
        self._idle.ask_again()

    def update_graph(self, scheduler: Scheduler, **_: Any) -> None:  # noqa: ARG002
        """Called by the scheduler when tasks arrive."""
        self._idle.ask_again()

    def publish(self) -> None:
        """Write ``status.json`` if it does not say so already."""
        notes = self._pool.notes(self._cluster)
        events = list(self._scheduler.get_events(topic=TOPIC))[-LATEST:]
        status = SessionStatus(
            state="running",
            workers=len(self._scheduler.workers),
            requested=len(self._cluster.plan),
            message="; ".join(filter(None, [self._message, *notes, self._idle.note])),
            pool=self._pool.kind,
            maximum=self._pool.maximum,
            automatic=(self._adaptive.minimum, self._adaptive.maximum) if self._adaptive else None,
            idle=self._idle.note,
            groups=tuple(self._pool.groups(self._cluster)),
            notices=tuple(SaidNotice(round(when, 3), event["message"]) for when, event in events),
        )
        if status != self._published:
            write_status(self._directory, status)
            self._published = status

    async def _stop_adaptive(self) -> None:
        """End automatic scaling. A step of it that is under way takes workers out of the plan when it ends: that is
        waited for, else it would undo what is asked for now."""
        adaptive, self._adaptive = self._adaptive, None
        if adaptive is not None:
            adaptive.stop()
            end = time.monotonic() + STEP_SECONDS
            while adaptive._adapting and time.monotonic() < end:
                await asyncio.sleep(0.05)

    def _announce(self, kind: str, message: str) -> Notice:
        notice = Notice(kind, message)
        logger.info("%s", message)
        self._scheduler.log_event(TOPIC, notice.event())
        return notice

    def _look(self) -> None:
        self._idle.look(automatic=self._adaptive is not None)
        self.publish()
