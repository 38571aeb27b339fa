"""Further clusters of one session: each has a scheduler and workers of its own, in the session's pool.

    FacilityCluster(separate=True) ── casabinder_open ──▶ session's scheduler ──▶ another scheduler at another port
                    close()        ── casabinder_close ─▶                     ──▶ that one and its workers end

They belong to the session process, have its certificates and the same owner, and share its limit of workers: what one
has, or may take by itself, is not left for the others. A separate cluster ends when it is closed, with the session, and
when its kernel has been gone for ``FORGOTTEN_SECONDS``, since nobody could close it any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import shutil
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from casabinder_runtime.cluster_end import end_cluster
from casabinder_runtime.cluster_start import start_cluster
from casabinder_runtime.control import SessionControl
from casabinder_runtime.errors import PoolError
from casabinder_runtime.ports import LOOPBACK
from casabinder_runtime.session_directory import CLUSTERS, RECORD, write_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from distributed import Scheduler, SpecCluster

    from casabinder_runtime.control import ClusterState
    from casabinder_runtime.data_push import DataAccess
    from casabinder_runtime.pools.pool import Pool, SessionContext
    from casabinder_runtime.session_directory import SessionRecord

logger = logging.getLogger(__name__)

FORGOTTEN_SECONDS = 600.0  # a kernel that computes may not let Dask's thread run for minutes
LOOK_SECONDS = 10.0


class Share:
    """The pool as one of several clusters sees it: ``others`` tells how many workers the others claim."""

    def __init__(self, pool: Pool, others: Callable[[], int]) -> None:
        self._pool = pool
        self._others = others

    @property
    def maximum(self) -> int | None:
        """How many workers are left for this cluster, if there is a limit."""
        return None if self._pool.maximum is None else max(0, self._pool.maximum - self._others())

    def __getattr__(self, name: str) -> Any:
        """Return all else as the pool has it."""
        return getattr(self._pool, name)


@dataclass
class _Cluster:
    """A separate cluster that is open; ``heard`` is when its handle last asked (monotonic seconds)."""

    cluster: SpecCluster
    control: SessionControl
    directory: Path
    heard: float


class SeparateClusters:
    """Opens and closes them; ``context`` is that of the session's first cluster, and ``idle_seconds`` hold for all."""

    def __init__(self, pool: Pool, context: SessionContext, idle_seconds: float) -> None:
        self._pool = pool
        self._context = context
        self._idle_seconds = idle_seconds
        self._open: dict[str, _Cluster] = {}
        self._numbers = itertools.count(2)
        self._controls: list[SessionControl] = []
        self._looking: asyncio.Task[None] | None = None
        self._closing = False

    def share(self) -> Pool:
        """Return the pool for the first cluster."""
        return cast("Pool", Share(self._pool, lambda: self._claimed(but=self._controls[:1])))

    async def start(
        self, scheduler: Scheduler, control: SessionControl, record: SessionRecord, data: DataAccess
    ) -> None:
        """Let clients of the session's scheduler open and close further clusters; ``data`` serves their workers too."""
        self._controls.insert(0, control)
        self._record = record
        self._data = data
        scheduler.handlers["casabinder_open"] = self.open
        scheduler.handlers["casabinder_close"] = self.close_one
        self._looking = asyncio.create_task(self._close_forgotten())

    async def open(self, n: int = 0) -> dict[str, Any]:
        """Open a cluster of ``n`` workers and return its :class:`SessionRecord`.

        Raises:
            PoolError: workers could not reach it, or the session may not have so many.
        """
        if self._pool.contact:
            raise PoolError(
                "a separate cluster can't be had here: workers reach this notebook by one published port, "
                "which is that of its first cluster: use FacilityCluster() without separate=True"
            )
        taken = self._claimed(but=[])
        if self._pool.maximum is not None and n + taken > self._pool.maximum:
            raise PoolError(
                f"this session may have at most {self._pool.maximum} workers in all its clusters: "
                f"{taken} are taken, {n} more were asked for"
            )
        number = next(self._numbers)
        directory = self._context.directory / CLUSTERS / str(number)
        share = cast("Pool", Share(self._pool, lambda: self._claimed(but=[control])))
        first = self._context
        wanted = replace(first, port=first.port + 1, dashboard_port=first.dashboard_port + 1, label=f"-c{number}")
        _, cluster = await start_cluster(self._pool, wanted)
        control = SessionControl(cluster, share, directory, idle_seconds=self._idle_seconds)
        scheduler = cluster.scheduler
        try:
            directory.mkdir(mode=0o700, parents=True)
            await scheduler.register_scheduler_plugin(control, idempotent=False)
            await self._data.add(scheduler)
            await control.scale(n)
            if self._closing:
                raise PoolError("the session is ending")
        except BaseException:
            self._data.remove(scheduler)
            await end_cluster(cluster)
            shutil.rmtree(directory, ignore_errors=True)
            raise
        self._controls.append(control)
        address = f"tls://{LOOPBACK}:{scheduler.port}"
        record = replace(self._record, address=address, dashboard_port=scheduler.services["dashboard"].port)
        self._open[address] = _Cluster(cluster, control, directory, time.monotonic())
        scheduler.handlers["casabinder_state"] = self._heard(address, control)
        write_record(directory, record)
        self._publish()
        logger.info("a separate scheduler is at %s", address)
        return asdict(record)

    async def close_one(self, address: str) -> bool:
        """Close the cluster at ``address``, and return whether it ended as it should, or had ended already."""
        closing = self._open.pop(address, None)
        if closing is None:
            return True
        (closing.directory / RECORD).unlink()
        self._data.remove(closing.cluster.scheduler)
        ended = await end_cluster(closing.cluster)
        self._controls.remove(closing.control)
        self._publish()
        await asyncio.to_thread(shutil.rmtree, closing.directory, ignore_errors=True)
        return ended

    async def close(self) -> bool:
        """Close all, and return whether they ended as they should; one that is being opened closes itself."""
        self._closing = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        return all(await asyncio.gather(*(self.close_one(address) for address in list(self._open))))

    def _claimed(self, but: list[SessionControl]) -> int:
        return sum(control.claimed for control in self._controls if control not in but)

    def _publish(self) -> None:
        """Let the page and whoever scales know at once how many workers each cluster may have now."""
        for control in self._controls:
            control.publish()

    def _heard(self, address: str, control: SessionControl) -> Callable[[], Any]:
        async def state() -> ClusterState:
            with contextlib.suppress(KeyError):
                self._open[address].heard = time.monotonic()
            return await control.state()

        return state

    async def _close_forgotten(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for address, one in list(self._open.items()):
                if one.cluster.scheduler.clients:
                    one.heard = time.monotonic()
                elif time.monotonic() - one.heard > FORGOTTEN_SECONDS:
                    logger.warning("nobody has asked after the separate cluster at %s: it is closed", address)
                    await self.close_one(address)
