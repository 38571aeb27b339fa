"""Rounds of pre-builds: when they begin, and what they do about an image on yesterday's base."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

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
    from pathlib import Path

    from launcher.jobs.desk import Desk

REPOSITORY = Asked("gh", "team/repo/HEAD")


@dataclass
class ScriptedDesk:
    """Says what it is told to say of bases and images, and keeps what was asked for."""

    base: str = "host/bases/b@sha256:1"
    word: str = "built"
    found: object = None
    silent: bool = False
    submitted: list[Asked] = field(default_factory=list)

    async def offered(self) -> list[str]:
        if self.silent:
            raise RefusedError("the registry does not answer", 503)
        return [self.base]

    async def standing(self, _: Asked) -> str:
        return self.word

    async def find_image(self, *_: Any) -> object:
        return self.found

    async def submit(self, asked: Asked, principal: object, *, priority: int) -> object:
        assert (principal, priority) == (OWNER, PREBUILD)
        self.submitted.append(asked)
        return waiting("1", OWNER.owner, asked.spec)


def prebuilds(directory: Path, desk: ScriptedDesk, *, channel: bool, every: int = 3600) -> Prebuilds:
    settings = Service(prebuild=Prebuild(popular=1, every_seconds=every))
    site = Site(channel="stable" if channel else None, service=settings)
    store = LayoutStore(directory / "store")
    context = Context(site, Facility(store, "host", "", directory), Workshop(directory))
    return Prebuilds(context, cast("Desk", desk), lambda _: [REPOSITORY], lambda: None, channel_seconds=0.01)


async def until(condition: Any, seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def rounds(rooms: Prebuilds, play: Any) -> None:
    async def both() -> None:
        running = asyncio.ensure_future(rooms.run())
        try:
            await play()
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    asyncio.run(both())


def test_a_new_release_is_taken_up_without_waiting_for_the_next_turn(tmp_path: Path) -> None:
    desk = ScriptedDesk()

    async def play() -> None:
        await asyncio.sleep(0.1)
        assert desk.submitted == []
        desk.silent = True
        await asyncio.sleep(0.05)
        # The image of the base before is known by another name: a plain build makes this one's.
        desk.silent, desk.word, desk.base = False, "stale base", "host/bases/b@sha256:2"
        await until(lambda: desk.submitted)
        assert desk.submitted[0] == REPOSITORY
        taken = len(desk.submitted)
        desk.word = "built"
        await asyncio.sleep(0.1)
        assert len(desk.submitted) == taken

    rounds(prebuilds(tmp_path, desk, channel=True), play)


def test_without_a_channel_only_the_schedule_and_a_nudge_count(tmp_path: Path) -> None:
    desk = ScriptedDesk()
    rooms = prebuilds(tmp_path, desk, channel=False)

    async def play() -> None:
        await asyncio.sleep(0.05)
        desk.word, desk.base, desk.found = "stale base", "host/bases/b@sha256:2", object()
        await asyncio.sleep(0.1)
        assert desk.submitted == []
        rooms.nudge()
        await until(lambda: desk.submitted)
        # A base that was made anew under its tag: what is there by that name has to be built again.
        assert desk.submitted == [replace(REPOSITORY, rebuild=True)]

    rounds(rooms, play)
