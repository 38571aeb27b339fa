"""Where builds run: the one thing that differs between a single machine and a cluster.

A builder outlives the service that started it. All that is known of it is at the executor: another process with the
same executor, later, finds it and goes on where the first one was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from launcher.jobs.event_file import TimedEvent
    from launcher.jobs.model import Job, Result

Standing = Literal["absent", "running", "ended", "lost"]
"""Of the builder of a job's attempt: never started, at work, ended with a result, gone without one."""


class Executor(Protocol):
    """Starts, follows and ends builders.

    :class:`~launcher.jobs.process_executor.ProcessExecutor` runs a process per build. One for Kubernetes would make a
    Job named after ``job.id`` with its attempt as a label (creating it twice is a conflict, which is what makes
    ``start`` safe), the request as a ConfigMap and the token as a Secret that it owns; the pod writes events and result
    to its log, which ``follow`` reads from a line on; ``find`` is the Job's status, ``kill`` deletes it with a grace
    period of seconds, ``clean`` deletes what is left, ``own`` holds a Lease.
    """

    @property
    def name(self) -> str:
        """Whose builders these are, the same after a restart: jobs are claimed in this name."""

    def own(self) -> bool:
        """Take over the builders; return whether no other living process has them."""

    def disown(self) -> None:
        """Leave the builders, which go on, to the next process."""

    def start(self, job: Job) -> None:
        """Start a builder for the job's attempt; raise :class:`CasabinderError` with one sentence if that can't be."""

    def find(self, job: Job) -> Standing:
        """Return how the builder of the job's attempt stands."""

    def follow(self, job_id: str, after: int) -> Iterator[list[TimedEvent]]:
        """Yield the builder's events but for the first ``after``, several times a second, also when there are none.

        It ends when the builder has ended and everything it wrote has been told.
        """

    def outcome(self, job_id: str) -> Result:
        """Return what a builder that has ended left: its result, or ``failed`` and the sentence on how it died."""

    def kill(self, job_id: str) -> None:
        """End the builder if it is at work, and all that it started; return when nothing of it runs any more."""

    def clean(self, job_id: str) -> None:
        """Forget a builder that has ended: its files, secrets among them."""

    def known(self) -> list[str]:
        """Return the ids of the jobs of which there is anything to clean."""
