"""Watchers of jobs over a real store: nothing is lost, nothing twice, and many cost what one does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from launcher.database import open_database
from launcher.jobs import feed as feed_room
from launcher.jobs.feed import PAGE, Feed
from launcher.jobs.model import Asked, BuildRequest, JobEvent, Result
from launcher.jobs.store import JobStore
from launcher.refusal import RefusedError
from launcher.site_config import Service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator
    from pathlib import Path

REQUEST = BuildRequest(Asked("gh", "user/repo/HEAD"), "https://github.com/user/repo", "HEAD", "1" * 40)
RUNNER = "here"


class CountingStore(JobStore):
    """A store that counts what is asked of it."""

    asked: int = 0
    read: int = 0

    def heads(self, job_ids: Collection[str]) -> dict[str, int]:
        self.asked += 1
        return super().heads(job_ids)

    def events(self, job_id: str, after: int = 0, limit: int = 1000) -> list[JobEvent]:
        self.read += 1
        return super().events(job_id, after, limit)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CountingStore]:
    engine = open_database(Service(), tmp_path)
    yield CountingStore(engine)
    engine.dispose()


def running_job(store: JobStore) -> str:
    job, _ = store.submit("key", REQUEST, "visitor:a", now=1.0)
    assert store.claim(job.id, RUNNER, 2.0)
    return job.id


def say(store: JobStore, job: str, count: int) -> None:
    lines: list[tuple[float, dict[str, Any]]] = [
        (3.0, {"kind": "message", "phase": "lock", "message": str(number)}) for number in range(count)
    ]
    store.append(job, RUNNER, lines)


def with_feed(store: JobStore, use: Any) -> Any:
    """Run ``use(feed)`` in a loop in which the feed runs."""

    async def run() -> Any:
        feed = Feed(store)
        await feed.start()
        try:
            return await asyncio.wait_for(use(feed), 60)
        finally:
            await feed.stop()

    return asyncio.run(run())


async def numbers(events: AsyncIterator[JobEvent]) -> list[int]:
    return [event.number async for event in events]


def test_a_watcher_gets_what_was_and_what_comes_up_to_the_end(store: CountingStore) -> None:
    """In order, without gaps, over several pages."""
    job = running_job(store)
    say(store, job, 2 * PAGE)

    async def use(feed: Feed) -> list[int]:
        watching = asyncio.create_task(numbers(feed.events(job)))
        await until(lambda: feed.watchers == 1)
        await asyncio.to_thread(say, store, job, 300)
        await asyncio.to_thread(store.finish, job, RUNNER, Result("failed", "no"), 9.0)
        feed.nudge(job)
        return await watching

    last = 2 + 2 * PAGE + 300 + 1
    assert with_feed(store, use) == list(range(1, last + 1))


@pytest.mark.parametrize("after", [0, 1, PAGE - 1, PAGE, PAGE + 1, PAGE + 3])
def test_a_watcher_that_comes_back_goes_on_where_it_was(store: CountingStore, after: int) -> None:
    """Whether the job has ended meanwhile or not."""
    job = running_job(store)
    say(store, job, PAGE)
    store.finish(job, RUNNER, Result("failed", "no"), 9.0)
    assert with_feed(store, lambda feed: numbers(feed.events(job, after))) == list(range(after + 1, PAGE + 4))


def test_a_watcher_that_comes_back_to_its_end_gets_nothing_more(store: CountingStore) -> None:
    """Also with a number that never was."""
    job = running_job(store)
    store.finish(job, RUNNER, Result("failed", "no"), 9.0)
    for after in (3, 1000):
        assert with_feed(store, lambda feed, after=after: numbers(feed.events(job, after))) == []


def test_a_thousand_watchers_ask_the_store_as_one_does(store: CountingStore) -> None:
    """Each gets everything; the store is read once for all of them."""
    job = running_job(store)
    say(store, job, 50)

    async def use(feed: Feed) -> list[list[int]]:
        watching = [asyncio.create_task(numbers(feed.events(job))) for _ in range(1000)]
        await until(lambda: feed.watchers == 1000)
        await asyncio.to_thread(say, store, job, 50)
        await asyncio.to_thread(store.finish, job, RUNNER, Result("failed", "no"), 9.0)
        feed.nudge(job)
        return list(await asyncio.gather(*watching))

    assert with_feed(store, use) == [list(range(1, 104))] * 1000
    assert store.read <= 3  # what was, what came, and at most one in between


def test_a_slow_watcher_holds_nobody_up_and_loses_nothing(store: CountingStore) -> None:
    """It reads when it likes, from the pages or, when those are gone, from the store."""
    job = running_job(store)
    say(store, job, 10)

    async def use(feed: Feed) -> tuple[list[int], list[int]]:
        slow = feed.events(job)
        first = (await anext(slow)).number
        fast = asyncio.create_task(numbers(feed.events(job)))
        await asyncio.to_thread(say, store, job, 100)
        await asyncio.to_thread(store.finish, job, RUNNER, Result("failed", "no"), 9.0)
        done = await fast
        return done, [first, *await numbers(slow)]

    fast, slow = with_feed(store, use)
    assert fast == slow == list(range(1, 114))


def test_the_pages_are_bounded(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old ones are read again by who wants them."""
    monkeypatch.setattr(feed_room, "PAGES", 2)
    job = running_job(store)
    say(store, job, 5 * PAGE)
    store.finish(job, RUNNER, Result("failed", "no"), 9.0)

    async def use(feed: Feed) -> int:
        assert len(await numbers(feed.events(job))) == 5 * PAGE + 3
        assert len(await numbers(feed.events(job))) == 5 * PAGE + 3
        return len(feed._pages)

    assert with_feed(store, use) == 2


def test_one_that_leaves_is_forgotten_and_nobody_is_asked_for_nobody(store: CountingStore) -> None:
    """Without watchers there are no queries."""
    job = running_job(store)

    async def use(feed: Feed) -> int:
        watching = asyncio.create_task(numbers(feed.events(job)))
        await until(lambda: feed.watchers == 1 and store.asked > 0)
        watching.cancel()
        await until(lambda: feed.watchers == 0)
        await asyncio.sleep(2 * feed_room.PERIOD)
        asked = store.asked
        await asyncio.sleep(2 * feed_room.PERIOD)
        return store.asked - asked

    assert with_feed(store, use) == 0


def test_a_database_that_is_away_is_waited_for(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watchers get what comes after it is back."""
    monkeypatch.setattr(feed_room, "RECOVERY", 0.05)
    job = running_job(store)
    heads, failures = store.heads, iter([OSError("away"), OSError("away")])

    def sometimes(job_ids: Collection[str]) -> dict[str, int]:
        for failure in failures:
            raise failure
        return heads(job_ids)

    monkeypatch.setattr(store, "heads", sometimes)

    async def use(feed: Feed) -> list[int]:
        watching = asyncio.create_task(numbers(feed.events(job)))
        await until(lambda: feed.watchers == 1)
        await asyncio.to_thread(store.finish, job, RUNNER, Result("failed", "no"), 9.0)
        return await watching

    assert with_feed(store, use) == [1, 2, 3]


def test_there_is_no_such_job(store: CountingStore) -> None:
    """It is refused, not waited for."""
    with pytest.raises(RefusedError, match="no such build"):
        with_feed(store, lambda feed: numbers(feed.events("nothing")))


def test_a_nudge_after_the_end_is_nobodys_fault(store: CountingStore) -> None:
    """Runners outlive the loop by a moment."""
    feed = Feed(store)
    feed.nudge("x")

    async def use(feed: Feed) -> Feed:
        return feed

    with_feed(store, use).nudge("x")


async def until(what: Callable[[], bool]) -> None:
    """Wait until something is so."""
    while not what():
        await asyncio.sleep(0.005)
