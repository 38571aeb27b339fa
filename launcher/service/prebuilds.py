"""The service's own pre-builds: a list and what is popular, looked at every so often and when a base was pushed.

What is built on today's base is left alone; the rest is queued below what people wait for. A round ends early when half
of the queue is taken: the next one goes on.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from launcher.jobs.model import PREBUILD
from launcher.refusal import RefusedError
from launcher.security.principal import Principal
from launcher.service.prebuild_list import asked_for, read_list
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from launcher.context import Context
    from launcher.jobs.desk import Desk
    from launcher.jobs.model import Asked

OWNER = Principal("service", "prebuild")

_log = logging.getLogger(__name__)


class Prebuilds:
    """Rounds of pre-builds. ``popular`` returns what is launched most; ``wake`` is called when something is queued."""

    def __init__(
        self, context: Context, desk: Desk, popular: Callable[[int], Sequence[Asked]], wake: Callable[[], None]
    ) -> None:
        self._settings = context.site.service.prebuild
        self._hosts = context.facility.fetching.hosts
        self._desk = desk
        self._popular = popular
        self._wake = wake
        self._nudged = asyncio.Event()

    @property
    def wanted(self) -> bool:
        """Whether the site wants any."""
        return self._settings.list is not None or self._settings.popular > 0

    def nudge(self) -> None:
        """Begin a round now, or after the one under way."""
        self._nudged.set()

    async def run(self) -> None:
        """Begin a round now and then, until cancelled; return at once if the site wants none."""
        while self.wanted:
            self._nudged.clear()
            try:
                await self.round()
            except Exception:  # noqa: BLE001  # the next round may work, and nobody else begins it
                _log.exception("a round of pre-builds has failed")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._nudged.wait(), self._settings.every_seconds)

    async def round(self) -> int:
        """Queue what is not built; return how many."""
        queued = 0
        for asked in await asyncio.to_thread(self._listed):
            try:
                queued += await self._one(asked)
            except RefusedError as error:
                _log.warning("%s/%s is not pre-built: %s", asked.provider, asked.spec, error)
                if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
                    break
        _log.info("pre-builds: %d queued", queued)
        return queued

    async def _one(self, asked: Asked) -> bool:
        standing = await self._desk.standing(asked)
        if standing in ("built", "building"):
            return False
        # Of an earlier definition's base there is no image by today's name: a plain build makes it.
        rebuild = standing == "stale base" and await self._desk.find_image(asked, OWNER) is not None
        job = await self._desk.submit(replace(asked, rebuild=rebuild), OWNER, priority=PREBUILD)
        self._wake()
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
