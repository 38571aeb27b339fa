"""Tells why workers that had joined are not there any more, from what the queue says of their jobs.

    their job                                what it means
    idle again, or given to a node again     it had to leave its node; HTCondor starts it again under its name
    running where it ran, for long           its node does not answer: it is lost
    ended, gone, held                        told by ``queue_watch``

HTCondor itself gives a node up only when the job's lease ends, after 40 minutes if the pool does not say otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Set

    from casabinder_runtime.pools.schedd import QueuedJob

SILENT_SECONDS = 15.0  # a worker that has left ends its job sooner than this, also on a node with much to do


@dataclass
class _Run:
    """One run of a worker that has joined; ``left`` is when it was first missed (monotonic seconds)."""

    started: int
    node: str
    left: float | None = None


class Partings:
    """What is known of the workers that have joined."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}

    def look(self, jobs: Iterable[QueuedJob], joined: Set[str], now: float) -> tuple[dict[str, str], dict[str, str]]:
        """Return those that had to leave their node, and those whose node does not answer, each with how to say it."""
        away: dict[str, str] = {}
        lost: dict[str, str] = {}
        for job in jobs:
            run = self._runs.get(job.worker)
            if job.worker in joined:
                self._runs[job.worker] = _Run(job.started, job.node)
            elif run is None:
                continue
            elif job.state in ("ended", "held", "leaving"):
                run.left = None
            elif job.state in ("running", "fetching") and job.started == run.started:
                run.left = now if run.left is None else run.left
                if now - run.left > SILENT_SECONDS:
                    lost[job.worker] = f"is lost (its node {run.node} does not answer)"
                    del self._runs[job.worker]
            else:
                away[job.worker] = f"had to leave its node {run.node}{f' ({job.vacated})' if job.vacated else ''}"
                del self._runs[job.worker]
        return away, lost


def announcements(fates: dict[str, str], then: str) -> list[str]:
    """Return one sentence for all workers of the same fate, such as ``worker x is lost: another one is started``."""
    names: dict[str, list[str]] = {}
    for name, fate in sorted(fates.items()):
        names.setdefault(fate, []).append(name)
    return [f"{_workers(workers)}{fate}{then}" for fate, workers in names.items()]


def _workers(names: list[str]) -> str:
    if len(names) == 1:
        return f"worker {names[0]} "
    return f"{len(names)} workers ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}), each "
