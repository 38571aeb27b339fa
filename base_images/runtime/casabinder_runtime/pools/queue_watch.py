"""Watches a session's jobs: says how they fare, and replaces workers that are lost.

Each look compares three things: the jobs in HTCondor's queue, the workers that have joined the scheduler, and the jobs
that the cluster believes to have.

    in the queue    joined    what it is
    idle            no        waiting for a slot, with the negotiator's reason once it has been refused one
    running         no        starting: the node pulls the image, or Python starts
    held            no        HTCondor's reason is told; left alone, since another one would be held as well
    ended, gone     no        lost: replaced by a job of a new name, unless several in a row never joined

HTCondor itself restarts a job that was vacated, under its old name.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask.utils import format_bytes

from casabinder_runtime.errors import PoolError
from casabinder_runtime.notices import TOPIC, Notice
from casabinder_runtime.session_directory import WorkerGroup

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence, Set

    from casabinder_runtime.pools.schedd import QueuedJob, Schedd
    from casabinder_runtime.pools.submission import WorkerShape

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
RETRY_SECONDS = 15.0  # until a submission that failed is tried again
PATIENCE = 3  # workers in a row that may end before they join
WAITING = "idle in the queue"


@dataclass(frozen=True, order=True)
class Finding:
    """How some workers fare; one with a ``reason`` is announced to the notebook."""

    what: str
    reason: str = ""


def summarize(jobs: Iterable[QueuedJob], joined: Set[str], shape: WorkerShape) -> Counter[Finding]:
    """Count how the jobs fare whose workers have not joined."""
    findings: Counter[Finding] = Counter()
    for job in jobs:
        if job.worker in joined or job.state == "ended":
            continue
        if job.state == "idle" and job.reason:
            wanted = f"{shape.cores} cores" if shape.cores > 1 else "1 core"
            sizes = f"{wanted}, {format_bytes(shape.memory)} of memory and {format_bytes(shape.disk)} of disk"
            findings[Finding(WAITING, f"no free slot has {sizes} ({job.reason})")] += 1
        elif job.state in ("idle", "submitted"):
            findings[Finding(WAITING)] += 1
        elif job.state == "running":
            findings[Finding("starting")] += 1
        else:
            findings[Finding("held", job.reason)] += 1
    return findings


def sentences(findings: Counter[Finding]) -> list[str]:
    """Return each finding with its count, those with a reason last."""
    return [f"{one.count} {one.what}{': ' if one.reason else ''}{one.reason}" for one in groups(findings)]


def groups(findings: Counter[Finding]) -> list[WorkerGroup]:
    """Return the findings as the page is told: one with a reason is a delay in the queue, elsewhere a failure."""
    ordered = sorted(findings, key=lambda finding: (bool(finding.reason), finding))
    return [WorkerGroup(findings[one], one.what, one.reason, _level(one)) for one in ordered]


def _level(finding: Finding) -> str:
    if not finding.reason:
        return ""
    return "delayed" if finding.what == WAITING else "failed"


def missing(known: Iterable[tuple[str, int]], jobs: Sequence[QueuedJob], joined: Set[str]) -> set[str]:
    """Return the workers whose jobs are known by name and cluster, but have ended or are gone from the queue."""
    alive = {job.cluster for job in jobs if job.state != "ended"}
    return {name for name, cluster in known if cluster not in alive and name not in joined}


class QueueWatch:
    """Looks once a second while it runs."""

    def __init__(self, cluster: Any, schedd: Schedd, shape: WorkerShape) -> None:
        self._cluster = cluster
        self._schedd = schedd
        self._shape = shape
        self._jobs: list[QueuedJob] = []
        self._troubles: Counter[Finding] = Counter()  # what the queue does not tell
        self._joined_once: set[str] = set()
        self._suspected: set[str] = set()
        self._fruitless = 0
        self._last_end = ""
        self._announced: set[Finding] = set()

    @property
    def notes(self) -> list[str]:
        """How the workers that do not run fare, in sentences."""
        return sentences(self._findings())

    @property
    def groups(self) -> list[WorkerGroup]:
        """The same as values."""
        return groups(self._findings())

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await self.look()
            except PoolError as error:
                self._troubles = Counter({Finding("not watched", str(error)): len(self._cluster.workers)})
                self._announce()
            except Exception:
                logger.exception("the queue could not be looked at")
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Compare queue, scheduler and cluster once.

        Raises:
            PoolError: HTCondor does not tell.
        """
        known = [(name, job.cluster_id) for name, job in self._cluster.workers.items() if job.cluster_id is not None]
        problems = Counter(
            Finding("not submitted", job.problem) for job in self._cluster.workers.values() if job.problem
        )
        self._try_again()
        jobs = await self._schedd.jobs() if known else []
        joined = self._joined()
        if joined - self._joined_once:
            self._fruitless = 0
        self._joined_once |= joined
        lost = missing(known, jobs, joined)
        self._replace(lost & self._suspected, {job.worker: job.reason for job in jobs})
        self._suspected = lost
        if self._fruitless >= PATIENCE:
            why = f"the last with {self._last_end}; scale to 0 and up again to try once more"
            problems[Finding("ended before they joined", why)] = self._fruitless
        self._jobs, self._troubles = jobs, problems
        self._announce()

    def _joined(self) -> set[str]:
        return {worker.name for worker in self._cluster.scheduler.workers.values()}

    def _findings(self) -> Counter[Finding]:
        wanted = [job for job in self._jobs if job.worker in self._cluster.workers]
        return summarize(wanted, self._joined(), self._shape) + self._troubles

    def _replace(self, lost: Set[str], reasons: dict[str, str]) -> None:
        """Start new workers for lost ones. One that is seen as lost once may just be leaving as it was told to."""
        for name in sorted(lost & set(self._cluster.worker_spec)):
            if name not in self._joined_once:
                if self._fruitless >= PATIENCE:
                    continue
                self._fruitless += 1
                self._last_end = reasons.get(name) or "its job gone from the queue"
                if self._fruitless >= PATIENCE:
                    continue
            logger.warning("worker %s is lost (%s): another one is started", name, reasons.get(name, "gone"))
            wanted = len(self._cluster.worker_spec)
            job = self._cluster.workers.pop(name)
            del self._cluster.worker_spec[name]
            self._cluster._futures.add(asyncio.ensure_future(job.close()))
            self._cluster.scale(wanted)

    def _try_again(self) -> None:
        """Submit again what could not be submitted, and what Dask gave up since it did not come back."""
        cluster = self._cluster
        if cluster._lock.locked() or cluster._correct_state_waiting:
            return
        for name, job in list(cluster.workers.items()):
            if job.problem and time.monotonic() - job.tried > RETRY_SECONDS:
                del cluster.workers[name]
        gone = set(cluster.worker_spec) - set(cluster.workers)
        if gone:
            wanted = len(cluster.worker_spec)
            for name in gone:
                del cluster.worker_spec[name]
            cluster.scale(wanted)

    def _announce(self) -> None:
        """Announce to the notebook what has a reason and was not announced yet."""
        findings = self._findings()
        news = {finding for finding in findings if finding.reason} - self._announced
        self._announced = (self._announced | news) & set(findings)
        for finding in sorted(news):
            message = f"Dask workers in the HTCondor pool: {findings[finding]} {finding.what}: {finding.reason}"
            logger.warning("%s", message)
            self._cluster.scheduler.log_event(TOPIC, Notice("pool", message).event())
