"""The service's own pre-builds: a list and what is popular, looked at every so often, when a base was pushed, and when
the site's channel names another release.

What is built on today's base is left alone; the rest is queued below what people wait for, and what failed before comes
last and ever more seldom (:mod:`launcher.service.retries`). A round ends early when half of the queue is taken: the
next one goes on.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING

from launcher.jobs.model import PREBUILD
from launcher.refusal import RefusedError
from launcher.security.principal import Principal
from launcher.service.prebuild_list import asked_for, read_list
from launcher.service.retries import Retries
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from launcher.context import Context
    from launcher.jobs.desk import Desk
    from launcher.jobs.model import Asked
    from launcher.jobs.standing import Standing

OWNER = Principal("service", "prebuild")
_CHANNEL_SECONDS = 60.0

_log = logging.getLogger(__name__)


class Prebuilds:
    """Rounds of pre-builds. ``popular`` returns what is launched most; ``wake`` is called when something is queued."""

    def __init__(
        self,
        context: Context,
        desk: Desk,
        popular: Callable[[int], Sequence[Asked]],
        wake: Callable[[], None],
        channel_seconds: float = _CHANNEL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._channel_seconds = channel_seconds if context.site.channel else math.inf
        self._settings = context.site.service.prebuild
        self._hosts = context.facility.fetching.hosts
        self._desk = desk
        self._popular = popular
        self._wake = wake
        self._nudged = asyncio.Event()
        self._retries = Retries(self._settings.every_seconds, clock)

    @property
    def wanted(self) -> bool:
        """Whether the site wants any."""
        return self._settings.list is not None or self._settings.popular > 0

    def nudge(self) -> None:
        """Begin a round now, or after the one under way: a base was pushed, so what failed may work."""
        self._retries.clear()
        self._nudged.set()

    async def run(self) -> None:
        """Begin a round now and then, until cancelled; return at once if the site wants none."""
        before: list[str] = []
        while self.wanted:
            self._nudged.clear()
            offered = await self._offered()
            if offered and offered != before:
                self._retries.clear()
                before = offered
            try:
                await self.round()
            except Exception:  # noqa: BLE001  # the next round may work, and nobody else begins it
                _log.exception("a round of pre-builds has failed")
            await self._pause(offered)

    async def round(self) -> int:
        """Queue what is not built, what failed before last; return how many."""
        queued = 0
        again: list[Asked] = []
        for asked in chain(await asyncio.to_thread(self._listed), again):  # comes to ``again`` when all others are done
            try:
                standing = await self._desk.standing(asked)
                if asked not in again and self._has_failed(asked, standing):
                    again += [asked] if self._retries.due(asked) else []
                else:
                    queued += await self._one(asked, standing)
            except RefusedError as error:
                _log.warning("%s/%s is not pre-built: %s", asked.provider, asked.spec, error)
                if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
                    break
        _log.info("pre-builds: %d queued", queued)
        return queued

    async def _pause(self, offered: list[str]) -> None:
        """Wait until a round is due, or somebody nudges, or other bases than ``offered`` are."""
        left = float(self._settings.every_seconds)
        while left > 0:
            seconds = min(left, self._channel_seconds)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._nudged.wait(), seconds)
                return
            left -= seconds
            if left > 0 and (now := await self._offered()) and now != offered:
                _log.info("the bases have changed: %s", ", ".join(now))
                return

    async def _offered(self) -> list[str]:
        """Return the bases that are offered, none if nobody can tell just now."""
        try:
            return await self._desk.offered()
        except RefusedError as error:
            _log.warning("which bases are offered is not known: %s", error)
            return []

    def _has_failed(self, asked: Asked, standing: Standing) -> bool:
        # An image on yesterday's base stays what it is when building it anew fails.
        return standing == "failed" or (standing == "stale base" and asked in self._retries)

    async def _one(self, asked: Asked, standing: Standing) -> bool:
        if standing in ("built", "not built"):
            self._retries.forget(asked)
        if standing in ("built", "building"):
            return False
        # Of an earlier definition's base there is no image by today's name: a plain build makes it.
        rebuild = standing == "stale base" and await self._desk.find_image(asked, OWNER) is not None
        job = await self._desk.submit(replace(asked, rebuild=rebuild), OWNER, priority=PREBUILD)
        self._wake()
        if standing != "not built":
            self._retries.note(asked)
        return not job.ended

    def _listed(self) -> list[Asked]:
        """Return what to build; what of the list can't be read is logged, for the rest must go on."""
        found: list[Asked] = []
        try:
            entries = read_list(self._settings.list) if self._settings.list else ()
        except CasabinderError as error:
            _log.error("%s", error)
            entries = ()
        for entry in entries:
            try:
                found.append(asked_for(entry, self._hosts))
            except CasabinderError as error:
                _log.error("%s: %s", self._settings.list, error)
        return list(dict.fromkeys([*found, *self._popular(self._settings.popular)]))
