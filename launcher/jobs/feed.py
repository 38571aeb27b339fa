"""The events of jobs for whoever watches, however many.

::

    store --one query for all watched jobs, a few times a second--> heads: {job: number of its last event}
    store --what is new, once for everybody--> pages: events 1..200, 201..400, ... of a job
    pages --each watcher has a number up to which it has read--> watchers

A watcher is a number and nothing else: no queue fills up behind a slow one, one that leaves changes nothing, and one
that comes late or again reads from wherever it wants. The pages are a cache of what the store has, of bounded size.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from launcher.refusal import RefusedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from launcher.jobs.model import JobEvent
    from launcher.jobs.store import JobStore

PAGE = 200
"""Events of a page."""
PAGES = 64
"""Pages that are kept: with lines of 4 kB, 50 MB at the worst."""
PERIOD = 0.15
SPACING = 0.05
"""Seconds between two queries: without a nudge, and with one."""
RECOVERY = 2.0
"""Seconds after a query that failed."""

_log = logging.getLogger(__name__)


@dataclass
class _Watched:
    """A job that somebody watches: the number of its last event, and what those who have read it wait for."""

    head: int
    watchers: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def moved(self, head: int) -> None:
        """Wake everybody if there is something new."""
        if head > self.head:
            self.head = head
            self.news.set()
            self.news = asyncio.Event()


@dataclass
class _Page:
    """Events in a row. The lock sees to it that what is missing is read once, whoever waits for it."""

    events: list[JobEvent] = field(default_factory=list)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Feed:
    """Watches the jobs in the store that somebody watches here; one per process, used in one event loop."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._jobs: dict[str, _Watched] = {}
        self._pages: OrderedDict[tuple[str, int], _Page] = OrderedDict()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._nudged = asyncio.Event()
        self._someone = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def watchers(self) -> int:
        """How many watch now."""
        return sum(job.watchers for job in self._jobs.values())

    async def start(self) -> None:
        """Begin to ask the store."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._poll())

    async def stop(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._loop = None

    def nudge(self, _job_id: str = "") -> None:
        """Say from any thread that a job has new events: they are looked for at once."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop ends while a runner still works
                self._loop.call_soon_threadsafe(self._nudged.set)

    async def events(self, job_id: str, after: int = 0) -> AsyncIterator[JobEvent]:
        """Yield a job's events with numbers above ``after``, as they come, up to and with the last one.

        Raises :class:`RefusedError` 404 if there is no such job.
        """
        async for batch in self.batches(job_id, after):
            for event in batch:
                yield event

    async def batches(self, job_id: str, after: int = 0) -> AsyncIterator[list[JobEvent]]:
        """Yield what :meth:`events` does, together what is there at once (at most a page)."""
        if after or job_id not in self._jobs:
            job = await asyncio.to_thread(self._store.get, job_id)
            if job is None:
                raise RefusedError("there is no such build", 404)
            if job.ended and after >= job.last_event:
                return
            self._jobs.setdefault(job_id, _Watched(job.last_event)).moved(job.last_event)
        watched = self._jobs[job_id]
        watched.watchers += 1
        self._someone.set()
        try:
            while True:
                news = watched.news
                if watched.head > after:
                    batch = await self._read(job_id, after, watched.head)
                    after = batch[-1].number
                    yield batch
                    if batch[-1].last:
                        return
                else:
                    await news.wait()
        finally:
            watched.watchers -= 1
            if not watched.watchers:
                self._jobs.pop(job_id, None)

    async def _read(self, job_id: str, after: int, head: int) -> list[JobEvent]:
        """Return events from ``after + 1`` on, at most up to the page's end; there is one, since ``head`` is above."""
        number, offset = divmod(after, PAGE)
        page = self._pages.setdefault((job_id, number), _Page())
        self._pages.move_to_end((job_id, number))
        while len(self._pages) > PAGES:
            self._pages.popitem(last=False)
        wanted = min(head - number * PAGE, PAGE)
        if len(page.events) < wanted:
            async with page.lock:
                have = len(page.events)
                if have < wanted:
                    page.events += await asyncio.to_thread(
                        self._store.events, job_id, number * PAGE + have, PAGE - have
                    )
        found = page.events[offset:]
        if not found:
            raise RefusedError("the log of this build is no longer kept", 410)
        return found

    async def _poll(self) -> None:
        while True:
            await self._someone.wait()
            if not self._jobs:
                self._someone.clear()
                continue
            self._nudged.clear()
            try:
                heads = await asyncio.to_thread(self._store.heads, list(self._jobs))
            except Exception:  # noqa: BLE001 - whatever the database has, watchers wait until it is back
                _log.exception("the events of jobs can't be read; trying again in %g s", RECOVERY)
                await asyncio.sleep(RECOVERY)
                continue
            for job_id, head in heads.items():
                if job_id in self._jobs:
                    self._jobs[job_id].moved(head)
            await asyncio.sleep(SPACING)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._nudged.wait(), PERIOD - SPACING)
