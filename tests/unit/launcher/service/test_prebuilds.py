"""Rounds of pre-builds: when they begin, and what they do about an image on yesterday's base."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from base_images.identity import Workshop
from builder.facility import Facility
from launcher.context import Context
from launcher.jobs.model import PREBUILD, Asked
from launcher.refusal import RefusedError
from launcher.service.prebuilds import OWNER, Prebuilds
from launcher.site_config import Prebuild, Service, Site
from registry_sync.layout import LayoutStore
from tests.testbed.jobs import waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from launcher.jobs.desk import Desk

HOUR = 3600
REPOSITORY = Asked("gh", "team/repo/HEAD")
BROKEN, OTHER = Asked("gh", "team/broken/HEAD"), Asked("gh", "team/other/HEAD")


@dataclass
class ScriptedDesk:
    """Says what it is told to say of bases and images, and keeps what was asked for.

    ``asked_bases`` and ``asked_images`` count the questions.
    """

    base: str = "host/bases/b@sha256:1"
    word: str = "built"
    found: object = None
    silent: bool = False
    full: bool = False
    words: dict[Asked, str] = field(default_factory=dict)
    submitted: list[Asked] = field(default_factory=list)
    asked_bases: int = 0
    asked_images: int = 0

    async def offered(self) -> list[str]:
        self.asked_bases += 1
        if self.silent:
            raise RefusedError("the registry does not answer", 503)
        return [self.base]

    async def standing(self, asked: Asked) -> str:
        self.asked_images += 1
        return self.words.get(asked, self.word)

    async def find_image(self, *_: Any) -> object:
        return self.found

    async def submit(self, asked: Asked, principal: object, *, priority: int) -> object:
        assert (principal, priority) == (OWNER, PREBUILD)
        if self.full:
            raise RefusedError("half of the queue is taken", 503)
        self.submitted.append(asked)
        return waiting("1", OWNER.owner, asked.spec)


def prebuilds(
    directory: Path,
    desk: ScriptedDesk,
    *,
    channel: bool = False,
    listed: Sequence[Asked] = (REPOSITORY,),
    clock: Callable[[], float] = time.monotonic,
) -> Prebuilds:
    settings = Service(prebuild=Prebuild(popular=1, every_seconds=HOUR))
    site = Site(channel="stable" if channel else None, service=settings)
    store = LayoutStore(directory / "store")
    context = Context(site, Facility(store, "host", "", directory), Workshop(directory))
    return Prebuilds(context, cast("Desk", desk), lambda _: listed, lambda: None, channel_seconds=0.01, clock=clock)


async def until(condition: Any, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def looked_at_bases(desk: ScriptedDesk, times: int = 3) -> None:
    """Wait until the bases were asked for so often again: whatever an answer begins has begun."""
    before = desk.asked_bases
    await until(lambda: desk.asked_bases >= before + times)


@asynccontextmanager
async def running(rooms: Prebuilds) -> AsyncIterator[None]:
    """Let rounds be begun."""
    task = asyncio.ensure_future(rooms.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def test_a_new_release_is_taken_up_without_waiting_for_the_next_turn(tmp_path: Path) -> None:
    desk = ScriptedDesk()

    async def play() -> None:
        async with running(prebuilds(tmp_path, desk, channel=True)):
            await until(lambda: desk.asked_images)
            await looked_at_bases(desk)
            desk.silent = True
            await looked_at_bases(desk)
            assert (desk.asked_images, desk.submitted) == (1, [])
            # The image of the base before is known by another name: a plain build makes this one's.
            desk.silent, desk.word, desk.base = False, "stale base", "host/bases/b@sha256:2"
            await until(lambda: desk.submitted)
            await looked_at_bases(desk)
            assert desk.submitted == [REPOSITORY]

    asyncio.run(play())


def test_without_a_channel_only_the_schedule_and_a_nudge_count(tmp_path: Path) -> None:
    desk, other = ScriptedDesk(), ScriptedDesk()
    rooms, beside = prebuilds(tmp_path, desk, channel=False), prebuilds(tmp_path, other, channel=True)

    async def play() -> None:
        async with running(rooms), running(beside):
            await until(lambda: desk.asked_images)
            desk.word, desk.base, desk.found = "stale base", "host/bases/b@sha256:2", object()
            await looked_at_bases(other)  # with a channel they are
            assert (desk.asked_bases, desk.asked_images) == (1, 1)
            rooms.nudge()
            await until(lambda: desk.submitted)
            # A base that was made anew under its tag: what is there by that name has to be built again.
            assert desk.submitted == [replace(REPOSITORY, rebuild=True)]

    asyncio.run(play())


@pytest.mark.parametrize("word", ["failed", "stale base"])
def test_what_fails_again_and_again_is_tried_ever_more_seldom(word: str, tmp_path: Path) -> None:
    desk, now = ScriptedDesk(word=word), [0.0]
    rooms = prebuilds(tmp_path, desk, clock=lambda: now[0])

    def hours_of_tries(hours: int) -> list[int]:
        tried = []
        for hour in range(hours):
            if asyncio.run(rooms.round()):
                tried.append(hour)
            now[0] += HOUR
        return tried

    assert hours_of_tries(20) == [0, 1, 3, 7, 15]
    *_, before, last = hours_of_tries(1000)
    assert last - before == 7 * 24
    desk.word = "built"
    assert hours_of_tries(1) == []
    desk.word = word
    assert hours_of_tries(4) == [0, 1, 3]
    rooms.nudge()  # it may be the base that was mended
    assert hours_of_tries(2) == [0, 1]


def test_a_new_commit_of_what_failed_is_built_at_once(tmp_path: Path) -> None:
    desk = ScriptedDesk(word="failed")
    rooms = prebuilds(tmp_path, desk, clock=lambda: 0.0)
    assert [asyncio.run(rooms.round()) for _ in range(2)] == [1, 0]
    desk.word = "not built"
    assert asyncio.run(rooms.round()) == 1
    desk.word = "failed"
    assert [asyncio.run(rooms.round()) for _ in range(2)] == [1, 0]


def test_what_failed_comes_after_all_others(tmp_path: Path) -> None:
    desk = ScriptedDesk(word="not built", words={BROKEN: "failed"}, full=True)
    rooms = prebuilds(tmp_path, desk, listed=[BROKEN, REPOSITORY, OTHER])
    assert asyncio.run(rooms.round()) == 0
    desk.full = False
    assert asyncio.run(rooms.round()) == 3
    assert desk.submitted == [REPOSITORY, OTHER, BROKEN]


def test_on_another_base_what_failed_is_tried_at_once(tmp_path: Path) -> None:
    desk = ScriptedDesk(word="stale base")

    async def play() -> None:
        async with running(prebuilds(tmp_path, desk, channel=True, clock=lambda: 0.0)):
            await until(lambda: len(desk.submitted) == 1)
            desk.base = "host/bases/b@sha256:2"
            await until(lambda: len(desk.submitted) == 2)

    asyncio.run(play())
