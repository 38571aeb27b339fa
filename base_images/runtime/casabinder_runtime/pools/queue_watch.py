"""Watches a session's jobs: says how they fare, and replaces workers that are lost.

Each look compares three things: the jobs in HTCondor's queue, the workers that have joined the scheduler, and the jobs
that the cluster believes to have.

    in the queue    joined    what it is
    idle            no        waiting for a slot, with the negotiator's reason once it has been refused one
    fetching        no        the node pulls the image
    running         no        starting; one that had joined has left: see ``partings``
    held            no        HTCondor's reason is told; left alone, since another one would be held as well
    ended, gone     no        replaced by a job of a new name, unless several in a row never joined

The notebook is told of each change in one sentence: why a worker ended (with the last error of its output), was sent
away or lost, what a hold or an idle job waits for, and that HTCondor does not answer, or does again.
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
from casabinder_runtime.pools.departures import Departures
from casabinder_runtime.pools.job_output import JobOutput
from casabinder_runtime.pools.partings import Partings, announcements
from casabinder_runtime.pools.schedd import SIGNALS
from casabinder_runtime.session_directory import WorkerGroup

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence, Set
    from pathlib import Path

    from casabinder_runtime.pools.htcondor_jobs import WorkerJob
    from casabinder_runtime.pools.schedd import QueuedJob, Schedd
    from casabinder_runtime.pools.submission import WorkerShape

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
LEAST_AGE = 5  # seconds for which something must last to be worth a word
MINUTE = 60
RETRY_SECONDS = 15.0  # until a submission that failed is tried again
PATIENCE = 3  # workers in a row that may end before they join
REPLACED = ": another one is started"
AGAIN = ": HTCondor starts it again"
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
            findings[Finding(WAITING, f"no free slot has {_wanted(shape)} ({job.reason})")] += 1
        elif job.state in ("idle", "submitted"):
            findings[Finding(WAITING)] += 1
        elif job.state == "fetching":
            findings[Finding("pulling the image")] += 1
        elif job.state in ("running", "leaving"):
            findings[Finding("starting")] += 1
        else:
            findings[Finding("held", job.reason)] += 1
    return findings


def _wanted(shape: WorkerShape) -> str:
    """Return what a worker asks for, in words."""
    cores = f"{shape.cores} cores" if shape.cores > 1 else "1 core"
    sizes = f"{format_bytes(shape.memory)} of memory and {format_bytes(shape.disk)} of disk"
    if not shape.gpus:
        return f"{cores}, {sizes}"
    gpus = f"{shape.gpus} GPUs" if shape.gpus > 1 else "a GPU"
    driver = f" whose driver supports CUDA {shape.cuda_driver}" if shape.cuda_driver else ""
    return f"{gpus}{driver} with {cores}, {sizes}"


def longest(jobs: Iterable[QueuedJob], joined: Set[str], now: float) -> dict[str, int]:
    """Return for how many seconds those fetch the image, and those start, that have done so for the longest time."""
    ages: dict[str, int] = {}
    for job in jobs:
        what = {"fetching": "pulling the image", "running": "starting"}.get(job.state)
        if what is not None and job.worker not in joined:
            ages[what] = max(ages.get(what, 0), int(now) - job.started)
    return ages


def groups(findings: Counter[Finding], ages: Mapping[str, int] | None = None) -> list[WorkerGroup]:
    """Return each finding with its count, and for how long, those with a reason last.

    One with a reason is a delay in the queue, and a failure elsewhere.
    """
    found = []
    for one in sorted(findings, key=lambda finding: (bool(finding.reason), finding)):
        seconds = (ages or {}).get(one.what, 0)
        age = f" for {_duration(seconds)}" if seconds >= LEAST_AGE else ""
        level = ("delayed" if one.what == WAITING else "failed") if one.reason else ""
        found.append(WorkerGroup(findings[one] if one.what else 0, f"{one.what}{age}", one.reason, level))
    return found


def sentences(found: Iterable[WorkerGroup]) -> list[str]:
    """Return the same as sentences."""
    return [": ".join(filter(None, [f"{one.count} {one.what}" if one.count else "", one.reason])) for one in found]


def _duration(seconds: int) -> str:
    """Return a time in words that change seldom."""
    return f"{seconds // LEAST_AGE * LEAST_AGE} s" if seconds < 2 * MINUTE else f"{seconds // MINUTE} min"


def missing(known: Iterable[tuple[str, int]], jobs: Sequence[QueuedJob], joined: Set[str]) -> set[str]:
    """Return the workers whose jobs are known by name and cluster, but have ended or are gone from the queue."""
    alive = {job.cluster for job in jobs if job.state != "ended"}
    return {name for name, cluster in known if cluster not in alive and name not in joined}


class QueueWatch:
    """Looks once a second while it runs."""

    def __init__(self, cluster: Any, schedd: Schedd, shape: WorkerShape, logs: Path) -> None:
        self._cluster = cluster
        self._schedd = schedd
        self._shape = shape
        self._output = JobOutput(schedd, logs)
        self._departures = Departures(schedd, self._output)
        self._partings = Partings()
        self._jobs: list[QueuedJob] = []
        self._troubles: Counter[Finding] = Counter()  # what the queue does not tell
        self._joined_once: set[str] = set()
        self._suspected: set[str] = set()
        self._fruitless = 0
        self._last_end = ""
        self._announced: set[Finding] = set()
        self._answers = True

    @property
    def notes(self) -> list[str]:
        """How the workers that do not run fare, in sentences."""
        return sentences(self.groups)

    @property
    def groups(self) -> list[WorkerGroup]:
        """The same as values."""
        return groups(self._findings(), longest(self._own(self._jobs), self._joined(), time.time()))

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        self._cluster.scheduler.handlers["casabinder_farewell"] = self.farewell
        try:
            while True:
                try:
                    await self.look()
                except PoolError as error:
                    self._answers = False
                    self._troubles = Counter({Finding("", f"{error}; workers that run go on"): 1})
                    self._announce()
                except Exception:
                    logger.exception("the queue could not be looked at")
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await self._departures.close()

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
        jobs = await self._ask() if known or self._departures else []
        await self._departures.see_off(jobs)
        joined = self._joined()
        if joined - self._joined_once:
            self._fruitless = 0
        self._joined_once |= joined
        await self._replace(known, jobs, joined)
        if self._fruitless >= PATIENCE:
            why = f"the last one {self._last_end}; scale to 0 and up again to try once more"
            problems[Finding("ended before they joined", why)] = self._fruitless
        for job in self._own(jobs):
            if job.state == "held":
                await self._output.fetch(job)
        self._jobs, self._troubles = jobs, problems
        self._announce()

    async def _ask(self) -> list[QueuedJob]:
        jobs = await self._schedd.jobs()
        if not self._answers:
            self._answers = True
            self.say(f"HTCondor's schedd {self._schedd.address.name} answers again")
        return jobs

    async def farewell(self, worker: str, log: str) -> None:
        """Take the log of a worker that HTCondor sends away; of one that is there, since its name becomes a file's."""
        if worker in self._joined():
            await self._output.farewell(worker, log)

    def let_go(self, job: WorkerJob) -> None:
        """See a job off that the cluster has no more place for."""
        assert job.cluster_id is not None  # noqa: S101  # else there is no job
        name = str(job.name)
        at_once = job.lost or name not in self._joined_once | self._joined()
        self._departures.add(self._cluster.scheduler, name, job.cluster_id, at_once=at_once)

    def say(self, message: str) -> None:
        """Tell the notebook, and the log."""
        logger.warning("%s", message)
        self._cluster.scheduler.log_event(TOPIC, Notice("pool", message).event())

    def _joined(self) -> set[str]:
        return {worker.name for worker in self._cluster.scheduler.workers.values()}

    def _own(self, jobs: Iterable[QueuedJob]) -> list[QueuedJob]:
        """Return the jobs of the workers that the cluster means to have."""
        return [job for job in jobs if job.worker in self._cluster.workers]

    def _findings(self) -> Counter[Finding]:
        return summarize(self._own(self._jobs), self._joined(), self._shape) + self._troubles

    async def _replace(self, known: Sequence[tuple[str, int]], jobs: Sequence[QueuedJob], joined: Set[str]) -> None:
        """Start new workers for those that ended or are lost, and say why; say also which were sent away.

        One that is seen as gone once may just be leaving as it was told to.
        """
        gone = missing(known, jobs, joined)
        away, fates = self._partings.look(self._own(jobs), joined, time.monotonic())
        ends = {job.worker: job for job in jobs if job.state == "ended"}
        for name in sorted(gone & self._suspected & set(self._cluster.worker_spec)):
            fates[name] = await self._how_it_ended(ends.get(name))
        self._suspected = gone
        told = {}
        for name in sorted(set(fates) & set(self._cluster.worker_spec) & set(self._cluster.workers)):
            if name not in self._joined_once:
                if self._fruitless >= PATIENCE:
                    continue
                self._fruitless += 1
                self._last_end = fates[name]
                if self._fruitless >= PATIENCE:
                    continue
            told[name] = fates[name]
            self._start_another(name, lost=name not in gone)
        for message in [*announcements(away, AGAIN), *announcements(told, REPLACED)]:
            self.say(message)

    async def _how_it_ended(self, job: QueuedJob | None) -> str:
        if job is None:
            return "is lost (its job is gone from the queue)"
        if job.status is None:
            return job.reason
        words = await self._output.last_words(job)
        return f"{job.reason}: {words}" if words and 0 < job.status < SIGNALS else job.reason

    def _start_another(self, name: str, *, lost: bool) -> None:
        wanted = len(self._cluster.worker_spec)
        job = self._cluster.workers.pop(name)
        job.lost = lost
        self._cluster.worker_spec.pop(name, None)
        self._cluster._futures.add(asyncio.ensure_future(job.close()))
        self._cluster.scale(wanted)

    def _try_again(self) -> None:
        """Submit again what could not be submitted."""
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
            [sentence] = sentences(groups(Counter({finding: findings[finding]})))
            self.say(f"Dask workers in the HTCondor pool: {sentence}")
