"""Gives workers back that have had nothing to do for long, and asks for them again when there is work.

    busy ──▶ nothing to do ──limit──▶ results that somebody wants on the workers? ──no──▶ given back
      ▲                                        │ yes: kept, and that is said                  │
      └────────────────────────────────────────┴────── tasks, data or a client arrive ◀───────┘

A result lives in the memory of workers alone, so as long as a client has a future of it (or published it) its workers
stay: nothing but the client can say that it is not needed. The number of workers is remembered. It is asked for again
as soon as tasks arrive, data are scattered or a client connects; whoever scales meanwhile says a number of their own.
Automatic scaling goes down to its minimum by itself and is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Scheduler, SpecCluster

    from casabinder_runtime.notices import Notice

Step = Literal["wait", "keep", "give back", "ask again"]


@dataclass(frozen=True)
class Load:
    """What there is: workers that were asked for, whether tasks are unfinished, results that clients want."""

    workers: int
    unfinished: bool = False
    results: bool = False
    automatic: bool = False


def decide(load: Load, idle_seconds: float, limit: float, given_back: int) -> Step:
    """Return what to do with a session that has had nothing to do for ``idle_seconds``; a ``limit`` of 0 is none."""
    if given_back:
        return "ask again" if load.unfinished else "wait"
    if limit <= 0 or load.automatic or load.workers == 0 or load.unfinished or idle_seconds < limit:
        return "wait"
    return "keep" if load.results else "give back"


def has_work(scheduler: Scheduler) -> bool:
    """Tell whether tasks are unfinished: those that wait for others have one that is queued, or on a worker."""
    return bool(scheduler.queued or scheduler.unrunnable or any(one.processing for one in scheduler.workers.values()))


def holds_results(scheduler: Scheduler) -> bool:
    """Tell whether workers hold a result, or an actor, that a client wants."""
    return any(task.who_wants and task.who_has for task in scheduler.tasks.values())


def duration(seconds: float) -> str:
    """Return a time for a sentence: minutes, or seconds if it is shorter than two of them."""
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:g} s"


class IdleWorkers:
    """Looks after one cluster; ``look`` is called about once a second."""

    def __init__(
        self, cluster: SpecCluster, limit: float, announce: Callable[[str, str], Notice], clock: Callable[[], float]
    ) -> None:
        self._cluster = cluster
        self._limit = limit
        self._announce = announce
        self._clock = clock
        self._since = clock()
        self._transitions = 0
        self._kept = False
        self.given_back = 0

    @property
    def note(self) -> str:
        """What there is to say of idle workers now, in words that fit after a count of workers."""
        if self.given_back:
            return f"{self.given_back} given back while idle, asked for again with the next task"
        return "idle, but kept since they hold results that a notebook still has" if self._kept else ""

    def look(self, *, automatic: bool) -> None:
        """Decide once, and do it."""
        scheduler: Any = self._cluster.scheduler
        unfinished = has_work(scheduler)
        if unfinished or scheduler.transition_counter != self._transitions:
            self._transitions = scheduler.transition_counter
            self._since = self._clock()
        idle = self._clock() - self._since
        late = 0 < self._limit <= idle  # only then is it worth to go through all tasks
        load = Load(len(self._cluster.plan), unfinished, late and holds_results(scheduler), automatic)
        step = decide(load, idle, self._limit, self.given_back)
        self._kept = step == "keep"
        if step == "give back":
            self._give_back(load.workers)
        elif step == "ask again":
            self.ask_again()

    def touched(self) -> None:
        """Somebody scaled: that counts, and what was remembered does not."""
        self._since = self._clock()
        self.given_back = 0
        self._kept = False

    def ask_again(self) -> None:
        """Ask for the workers that were given back, if any were."""
        workers = self.given_back
        self.touched()
        if workers:
            self._cluster.scale(workers)
            self._announce("idle", f"the Dask workers that were given back while idle are asked for again: {workers}.")

    def _give_back(self, workers: int) -> None:
        self.given_back = workers
        self._cluster.scale(0)
        were = "worker was" if workers == 1 else "workers were"
        self._announce(
            "idle",
            f"{workers} Dask {were} given back after {duration(self._limit)} without work; as many are asked for again "
            "as soon as there are tasks, or with cluster.scale().",
        )
