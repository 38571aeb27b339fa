"""A batch system's queue whose every answer a test decides, behind the real cluster, scheduler and watch."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from casabinder_runtime.pools.htcondor_jobs import PoolCluster
from casabinder_runtime.pools.schedd import Schedd, ScheddAddress
from casabinder_runtime.pools.submission import WORKER_ATTRIBUTE, PoolSite, WorkerShape
from casabinder_runtime.tls import create_session_certificates

if TYPE_CHECKING:
    from pathlib import Path

SESSION = "a1b2c3"
IDLE, RUNNING = 1, 2


class ScriptedQueue(Schedd):
    """``ads`` are the jobs by cluster; what it is asked is in ``asked``, and each answer takes ``seconds``.

    The first answers to ``remove`` and ``retrieve`` are the errors in ``refusals``, if there are any.
    """

    def __init__(self, directory: Path) -> None:
        token = directory / "token"
        token.write_text("e30.e30.c2ln")
        super().__init__(ScheddAddress("c:1", "facility@testbed", "testbed", token, "127.0.0.1"), SESSION, directory)
        self.ads: dict[int, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.seconds = 0.0
        self.refusals: list[str] = []
        self._may_have_jobs = True
        self._given_up = asyncio.Event()

    async def close(self) -> None:
        """Let go of what is being asked, as the end of the child process does."""
        self._given_up.set()
        await super().close()

    async def _ask(self, request: Any) -> dict[str, Any]:
        self.asked.append(request["do"])
        self._given_up.clear()
        try:
            async with asyncio.timeout(self.seconds):
                await self._given_up.wait()
        except TimeoutError:
            return self._answer(request)
        return {"error": "the process with HTCondor's bindings ended", "reached": True, "submitted": True}

    def _answer(self, request: Any) -> dict[str, Any]:
        if request["do"] == "submit":
            cluster = len(self.asked)
            [name] = [line.split('"')[1] for line in request["text"].splitlines() if WORKER_ATTRIBUTE in line]
            self.ads[cluster] = {"ClusterId": cluster, "JobStatus": IDLE, WORKER_ATTRIBUTE: name}
            return {"result": cluster}
        if request["do"] == "query":
            return {"result": list(self.ads.values())}
        if self.refusals:
            return {"error": self.refusals.pop(0), "reached": True, "submitted": True}
        if request["do"] == "retrieve":
            return {"result": None}
        which = request["constraint"].rpartition("ClusterId == ")[2]
        removed = [cluster for cluster in self.ads if not which.isdecimal() or cluster == int(which)]
        for cluster in removed:
            del self.ads[cluster]
        return {"result": len(removed)}


def pool_cluster(directory: Path, queue: ScriptedQueue) -> PoolCluster:
    """Return a cluster whose workers are jobs of ``queue``; its scheduler is real, with new certificates."""
    tls = create_session_certificates(directory)
    security = tls.security("scheduler", "worker", "client")
    options = {"protocol": "tls://", "host": "127.0.0.1", "port": 0, "security": security}
    options |= {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
    return PoolCluster(
        queue,
        WorkerShape(1, 2**28, 2**20),
        directory,
        [],
        session=SESSION,
        env_id="e",
        site=PoolSite("registry.example.org/x:1"),
        files=[],
        security=security,
        scheduler_options=options,
        protocol="tls://",
        worker_command="casabinder_runtime.worker",
        death_timeout=60,
        local_directory="dask",
        silence_logs=False,
        asynchronous=True,
        name="w",
    )
