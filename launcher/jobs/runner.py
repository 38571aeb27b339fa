"""Takes jobs out of the queue, has them built, and copies what their builders say into the store.

One thread claims jobs in fair order, gives signs of life and takes over what others have left; one thread per running
build copies its events. Nothing but threads is in memory: what a runner that was killed left is found again in the
store (which jobs are its own, how many of their events are there) and at the executor (how their builders stand). The
builder of a job that is running in the store::

    is at work, or has ended      -> is followed from the event after the last one stored
    was never started             -> is started
    is gone without a result      -> the job is queued again; the second time it has failed

Every turn looks for jobs that run in this runner's name and that nobody follows: those of a runner that was killed, and
those whose claim met an error on the way to the builder. Until they are followed they take up the place of a build.

Runners of other machines are known by their signs of life. When there is none for a minute, their jobs are queued
again; a runner that comes back later finds that the jobs are no longer its own, and ends their builders.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from launcher.jobs.model import INTERACTIVE, Result
from launcher.jobs.store import LostClaimError
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable

    from launcher.jobs.executor import Executor
    from launcher.jobs.model import Job
    from launcher.jobs.store import JobStore
    from launcher.site_config import Site

_LOG = logging.getLogger(__name__)
MOST_ATTEMPTS = 2
_BUSY_SECONDS, _IDLE_SECONDS = 1.0, 2.0
_BEAT_SECONDS, _DEAD_SECONDS = 10.0, 60.0
_PURGE_SECONDS = 3600.0
_TROUBLE_SECONDS = 3.0
_STOP_SECONDS = 10.0
_PAGE = 1000
_AGAIN = "the builder was lost when the service or its machine went down; building again"
_NOT_AGAIN = "the builder was lost twice and is not started again; ask for the build again, or tell the administrator"
_REMOVED = "the files of the builder were removed while it was at work; ask for the build again"


@dataclass(frozen=True)
class _Build:
    """A running build: the thread that follows it, and whether somebody wants it cancelled."""

    job: Job
    thread: threading.Thread
    cancelled: threading.Event = field(default_factory=threading.Event)


class Runner:
    """Builds ``site.service.builds.concurrent`` jobs at once.

    ``nudged`` is called with a job's id whenever there are new events of it. ``clock`` gives seconds since 1970.
    """

    def __init__(
        self,
        store: JobStore,
        executor: Executor,
        site: Site,
        clock: Callable[[], float] = time.time,
        *,
        nudged: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.nudged = nudged
        self._store = store
        self._executor = executor
        self._limits = site.service.builds
        self._clock = clock
        self._builds: dict[str, _Build] = {}
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="runner")
        self._beaten = self._purged = 0.0

    def start(self) -> None:
        """Begin, in threads: take over what was left running, then build what is queued."""
        self._thread.start()

    def stop(self) -> None:
        """End the threads and return; builders go on, and the next runner finds them."""
        self._stopping.set()
        self._wake.set()
        for thread in (self._thread, *(build.thread for build in list(self._builds.values()))):
            thread.join(_STOP_SECONDS)
        self._executor.disown()

    def wake(self) -> None:
        """Look at the queue and for jobs to cancel now, not in a second."""
        self._wake.set()

    @property
    def active(self) -> int:
        """How many builds run."""
        return len(self._builds)

    def _run(self) -> None:
        cleaned = False
        while not self._stopping.is_set():
            self._wake.clear()
            pause = _BUSY_SECONDS
            try:
                if not cleaned and self._executor.own():
                    self._clean_up()
                    cleaned = True
                if cleaned:
                    all_well = self._turn()
                    pause = _TROUBLE_SECONDS if not all_well else _BUSY_SECONDS if self._builds else _IDLE_SECONDS
            except Exception:  # noqa: BLE001  # nobody else would go on building
                _LOG.exception("the runner can't work; it goes on in %.0f s", _TROUBLE_SECONDS)
                pause = _TROUBLE_SECONDS
            self._wake.wait(pause)

    def _turn(self) -> bool:
        """Do what is to be done now; return whether all running jobs are followed."""
        now = self._clock()
        if now - self._beaten >= _BEAT_SECONDS:
            self._beaten = now
            self._store.beat(self._executor.name, now)
            for job in self._store.abandoned(now - _DEAD_SECONDS):
                self._tell(self._store.requeue(job, _AGAIN, now))
        left = self._attend()
        while len(self._builds) + left < self._limits.concurrent and self._claim_one():
            pass
        if now - self._purged >= _PURGE_SECONDS:
            self._purged = now
            self._store.purge(now - self._limits.keep_days * 86_400)
        return not left

    def _attend(self) -> int:
        """Pass on who is to be cancelled, and take over what nobody follows; return how many could not be taken over.

        Only this thread claims jobs and has them followed: what runs and was not followed before is not by now.
        """
        followed, left = dict(self._builds), 0
        for job in self._store.running(self._executor.name):
            if job.id in followed:
                if job.cancelling:
                    followed[job.id].cancelled.set()
                continue
            try:
                self._take_over(job)
            except Exception:  # noqa: BLE001  # one job must not keep the others from being looked at
                _LOG.exception("a build can't be taken over; that is tried again", extra={"job": job.id})
                left += not self._given_up(job, cancelled=job.cancelling)
        return left

    def _claim_one(self) -> bool:
        """Begin the job whose turn it is; return whether there was one.

        What nobody waits for never has all places: a build takes long, and is not stopped for one that is waited for.
        """
        prebuilds = sum(build.job.priority > INTERACTIVE for build in list(self._builds.values()))
        full = prebuilds >= max(1, self._limits.concurrent - 1)
        for job in self._store.waiting():
            if self._stopping.is_set() or (full and job.priority > INTERACTIVE):
                return False
            if job.id not in self._builds and self._store.claim(job.id, self._executor.name, self._clock()):
                self._begin(job.id)
                return True
        return False

    def _begin(self, job_id: str) -> None:
        """Start a job that was claimed."""
        job = self._store.get(job_id)
        if job is None:
            return
        self._tell(job)
        try:
            if job.attempt > MOST_ATTEMPTS:
                raise CasabinderError(_NOT_AGAIN)
            self._executor.start(job)
        except CasabinderError as error:
            self._finish(job, Result("failed", str(error)))
        else:
            self._watch(job)

    def _take_over(self, job: Job) -> None:
        """Go on with a job that is running in this runner's name, from wherever it was left."""
        standing = self._executor.find(job)
        _LOG.info("a build was found again: %s", standing, extra={"job": job.id})
        if standing == "absent":
            self._begin(job.id)
        elif standing != "lost":
            self._watch(job)
        else:
            self._executor.kill(job.id)
            if job.cancelling:
                self._finish(job, Result("cancelled"))
            elif job.attempt >= MOST_ATTEMPTS:
                self._finish(job, Result("failed", _NOT_AGAIN))
            else:
                self._tell(self._store.requeue(job, _AGAIN, self._clock()))
                self._executor.clean(job.id)

    def _clean_up(self) -> None:
        """Remove what is left of the builds of all jobs but those that are running in this runner's name."""
        running = {job.id for job in self._store.running(self._executor.name)}
        for job_id in self._executor.known():
            if job_id not in running:
                self._drop(job_id)

    def _watch(self, job: Job) -> None:
        thread = threading.Thread(target=self._follow, args=(job.id,), daemon=True, name=f"build-{job.id}")
        self._builds[job.id] = _Build(job, thread)
        try:
            thread.start()
        except RuntimeError:  # there are too many threads just now
            del self._builds[job.id]
            raise

    def _follow(self, job_id: str) -> None:
        """Copy a build's events until it has ended, whatever happens to the database meanwhile."""
        build = self._builds[job_id]
        while not self._stopping.is_set():
            try:
                if not self._copy(build):
                    return
                break
            except LostClaimError:
                self._let_go(job_id)
                break
            except Exception:  # noqa: BLE001
                # What was stored and what was not is looked up again: the store itself may have been away.
                _LOG.exception("a build can't be followed; that is tried again", extra={"job": job_id})
                if self._given_up(build.job, cancelled=build.cancelled.is_set()):
                    break
                self._stopping.wait(_TROUBLE_SECONDS)
        del self._builds[job_id]
        self._wake.set()

    def _copy(self, build: _Build) -> bool:
        """Copy the events that are not in the store yet and finish the job; return ``False`` if it was left running."""
        job, ending = build.job, None
        if self._executor.find(job) == "absent":
            self._executor.kill(job.id)
            self._finish(job, Result("failed", _REMOVED))
            return True
        for events in self._executor.follow(job.id, self._copied(job.id)):
            if events:
                self._store.append(job.id, self._executor.name, events)
                self.nudged(job.id)
            if self._stopping.is_set():
                return False
            if ending is None:
                ending = self._wanted_end(job, cancelled=build.cancelled.is_set())
                if ending is not None:
                    self._executor.kill(job.id)
        if self._executor.find(job) != "ended":
            self._executor.kill(job.id)  # what it has started may have outlived it
        self._settle(job, ending)
        return True

    def _given_up(self, job: Job, *, cancelled: bool) -> bool:
        """End a build that something keeps going wrong with, if it is to be ended; return whether it is over."""
        ending = self._wanted_end(job, cancelled=cancelled)
        if ending is None:
            return False
        try:
            self._executor.kill(job.id)
            self._settle(job, ending)
        except LostClaimError:
            self._let_go(job.id)
        except Exception:  # noqa: BLE001  # it may be the store that does not answer
            _LOG.exception("a build can't be ended; that is tried again", extra={"job": job.id})
            return False
        return True

    def _settle(self, job: Job, ending: Result | None) -> None:
        """Finish a job whose builder has ended: with its image if there is one, else as it was ended or has failed."""
        result = self._executor.outcome(job.id)
        self._finish(job, result if ending is None or result.state == "built" else ending)

    def _wanted_end(self, job: Job, *, cancelled: bool) -> Result | None:
        """Return with which result a build is to be ended now, if it is."""
        if cancelled:
            return Result("cancelled")
        if self._clock() - (job.started or 0.0) > self._limits.seconds:
            return Result(
                "failed", f"the build took more than {self._limits.seconds} s, which is as long as this facility allows"
            )
        return None

    def _copied(self, job_id: str) -> int:
        """Return how many events of the builder of this attempt are in the store."""
        count = after = 0
        while page := self._store.events(job_id, after, _PAGE):
            for event in page:
                count = 0 if event.data["kind"] == "state" else count + 1
            after = page[-1].number
        return count

    def _finish(self, job: Job, result: Result) -> None:
        self._tell(self._store.finish(job.id, self._executor.name, result, self._clock()))
        self._executor.clean(job.id)

    def _let_go(self, job_id: str) -> None:
        _LOG.warning("the build was given to another runner", extra={"job": job_id})
        self._drop(job_id)

    def _drop(self, job_id: str) -> None:
        """Remove what is left of a build that is not this runner's any more."""
        self._executor.kill(job_id)
        self._executor.clean(job_id)

    def _tell(self, job: Job) -> None:
        _LOG.info("the build is %s", job.state, extra={"job": job.id, "env_id": job.env_id})
        self.nudged(job.id)
