"""Starts notebook servers of built images through the hub, and says which there are.

::

    Job + ImageRecord --quotas--> row in the launch log --Course--> hub --> ready(url, token) | failed(cause)

Nothing but the courses under way is in this process's memory: another replica answers for every launch from the log,
and corrects the log by what the hub says is running.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from builder.container.foreign_image import foreign
from builder.cuda import CUDA, CUDA_DRIVER
from launcher.hub.client import HubError
from launcher.hub.course import BEAT_SECONDS, STOPPED, Course, Outcome, Surroundings, ready_event, remove
from launcher.hub.launch import ACTIVE, ImageUse, Launch, LaunchEvent, Origin
from launcher.hub.launch_log import Entry, LaunchLog
from launcher.hub.launch_request import bounded, make_request, new_id, without_workers_if_foreign
from launcher.hub.vouching import Voucher
from launcher.image_labels import image_labels
from launcher.pools.gpus import server_gpus
from launcher.refusal import RefusedError
from registry_sync.reference import ImageReference

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy import Engine

    from builder.record import ImageRecord
    from launcher.container import LaunchOptions
    from launcher.context import Context
    from launcher.hub.client import HubClient
    from launcher.jobs.model import Job
    from launcher.security.keys import Keys
    from launcher.security.principal import Principal

__all__ = ["ImageUse", "Launch", "LaunchEvent", "Launches", "Origin", "Outcome"]

logger = logging.getLogger(__name__)

_FRESH_SECONDS = 5.0
_LOST_SECONDS = 6 * BEAT_SECONDS
_WATCH_SECONDS = 0.5
_DAY = 86_400.0


class Launches:
    """The servers of a facility. ``public_url`` is what browsers see, ``proxy_url`` how this machine gets there."""

    def __init__(
        self,
        context: Context,
        engine: Engine,
        keys: Keys,
        hub: HubClient,
        *,
        public_url: str,
        proxy_url: str,
        on_end: Callable[[Outcome], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._context, self._site, self._hub = context, context.site, hub
        self._log, self._clock, self._on_end = LaunchLog(engine), clock, on_end
        allowed = context.site.service.launches
        urls = public_url.rstrip("/"), proxy_url.rstrip("/")
        self._around = Surroundings(hub, self._log, Voucher(keys), allowed, *urls, self._keeps, clock)
        self._courses: dict[str, tuple[Course, asyncio.Task[None]]] = {}
        self._refreshed = self._purged = 0.0
        self._refreshing = asyncio.Lock()

    async def start(
        self, job: Job, record: ImageRecord, options: LaunchOptions, principal: Principal, origin: Origin
    ) -> Launch:
        """Start a server of an image and return at once; :meth:`events` tells the rest.

        Who logs in and launches the same again gets the server that runs, or the stopped one with its files. Raises
        :class:`RefusedError`: 400 for options that the site does not allow, 403 for nobody in particular where people
        log in, 429 for too many servers.
        """
        options = bounded(options, self._site)
        said = ""
        if foreign(record):
            name = ImageReference.parse(record.image)
            manifest = await asyncio.to_thread(
                self._context.facility.store.get_manifest, name.repository, record.digest
            )
            options, said = without_workers_if_foreign(options, record, manifest.annotations)
        labels = await asyncio.to_thread(self._cuda_labels, record)
        options = replace(options, gpus=server_gpus(self._site.limits.gpus, labels))
        request = replace(make_request(record, options, principal, origin, self._site), cuda=labels)
        now = self._clock()
        asked = job.request.asked
        launch = Launch(
            id=new_id(),
            owner=principal.owner,
            user=request.user,
            server=request.server,
            state="starting",
            image=record.image,
            digest=record.digest,
            env_id=record.env_id,
            repo=record.repo,
            ref=record.ref,
            commit=record.commit,
            provider=asked.provider,
            spec=asked.spec,
            created=now,
        )
        return await self._go(Entry(launch, request, job.private, record.bytes.get("total", 0), now), said)

    async def events(self, launch_id: str, principal: Principal) -> AsyncIterator[LaunchEvent]:
        """Yield what happens to a launch, ``ready`` or ``failed`` last; raise :class:`RefusedError` 404 if it is not
        the principal's."""
        entry = await self._entry(launch_id, principal)
        if launch_id in self._courses:
            async for event in self._courses[launch_id][0].events():
                yield event
            return
        said = ""
        while entry.launch.state == "starting":
            if entry.launch.message != said:
                said = entry.launch.message
                yield LaunchEvent("message", said)
            await asyncio.sleep(_WATCH_SECONDS)
            await self.refresh()
            entry = await self._entry(launch_id, principal)
        launch = entry.launch
        if launch.state == "ready":
            yield ready_event(launch, entry.request, self._around)
        else:
            yield LaunchEvent("failed", launch.message or "the server was stopped", 100, status=500)

    async def servers(self, principal: Principal) -> list[Launch]:
        """Return the principal's servers that run, start, or can be resumed, the latest first."""
        await self.refresh()
        found = await asyncio.to_thread(self._log.find, owner=principal.owner)
        return [entry.launch for entry in found if entry.launch.state in ACTIVE or entry.launch.resumable]

    async def running(self) -> int:
        """Return how many servers run or start here."""
        return len(await asyncio.to_thread(self._log.find, active=True))

    async def stop(self, launch_id: str, principal: Principal, *, remove_files: bool = False) -> None:
        """Stop a server. Where people log in, its files are kept until it is stopped with ``remove_files``.

        Raises :class:`RefusedError` 404 for somebody else's, :class:`HubError` if the hub could not stop it.
        """
        entry = await self._entry(launch_id, principal)
        launch = entry.launch
        kept = self._keeps and not remove_files and (launch.kept or launch.state in ACTIVE)
        # The row first: whatever course is under way somewhere then leaves its state alone.
        await asyncio.to_thread(self._log.change, launch_id, state="stopped", message="", kept=kept)
        if launch_id in self._courses:
            course, task = self._courses.pop(launch_id)
            task.cancel()
            course.end(LaunchEvent("failed", STOPPED, 100, status=409))
        try:
            if self._keeps:
                await self._hub.stop(launch.user, launch.server, remove=not kept)
            else:
                await remove(self._hub, launch, entry.request.mode)
        except HubError:
            # It may run on, so it stays listed and counted, and can be stopped again.
            before = {"state": launch.state, "message": launch.message, "kept": launch.kept}
            await asyncio.to_thread(self._log.change, launch_id, but=(*ACTIVE, "failed"), **before)
            raise

    async def resume(self, launch_id: str, principal: Principal) -> Launch:
        """Start a stopped server again, with the files it had."""
        entry = await self._entry(launch_id, principal)
        if not self._keeps:
            raise RefusedError("a temporary server that was stopped is gone: launch it again", 410)
        if entry.launch.state not in ACTIVE and not entry.launch.resumable:
            raise RefusedError("this server was removed: launch it again", 410)
        return await self._go(replace(entry, request=replace(entry.request, id=new_id()), seen=self._clock()))

    async def images(self, principal: Principal, limit: int = 100) -> list[ImageUse]:
        """Return the images that were launched here, the latest first; those of private repositories to their owner."""
        return await asyncio.to_thread(self._log.images, principal.owner, limit, everything=principal.admin)

    async def refresh(self, *, now: bool = False) -> None:
        """Correct the log by what the hub says, unless that was done within the last seconds."""
        async with self._refreshing:
            if not now and self._clock() - self._refreshed < _FRESH_SECONDS:
                return
            rows = await asyncio.to_thread(self._log.find, active=True)
            try:
                active = await self._hub.active() if rows else set()
            except HubError as error:
                logger.warning("the hub does not say which servers run: %s", error)
                return
            self._refreshed = self._clock()
            for entry in rows:
                await self._correct(entry, (entry.launch.user, entry.launch.server) in active)
            if self._clock() - self._purged > _DAY:
                self._purged = self._clock()
                await asyncio.to_thread(self._log.purge, self._clock() - _DAY * self._site.service.builds.keep_days)

    async def close(self) -> None:
        """Leave the courses that are under way: the hub goes on, and another process finds what became of them."""
        tasks = [task for _, task in self._courses.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._hub.close()

    @property
    def _keeps(self) -> bool:
        return self._site.hub.mode == "login" and self._site.hub.spawner == "docker"

    def _cuda_labels(self, record: ImageRecord) -> dict[str, str]:
        """Return the labels of an image that say what it needs of GPUs; asked of sites with GPUs alone."""
        if not self._site.limits.gpus and not self._site.pool.gpus:
            return {}
        repository = ImageReference.parse(record.image).repository
        labels = image_labels(self._context.facility.store, repository, record.digest)
        return {name: labels[name] for name in (CUDA, CUDA_DRIVER) if name in labels}

    async def _go(self, entry: Entry, said: str = "") -> Launch:
        await self.refresh()
        try:
            entry, starting = await asyncio.to_thread(self._log.claim, entry, self._around.allowed)
        except RefusedError:
            await self.refresh(now=True)
            entry, starting = await asyncio.to_thread(self._log.claim, entry, self._around.allowed)
        if starting:
            course = Course(entry.launch, entry.request, self._around)
            if said:
                await course.tell(said)
            self._courses[entry.launch.id] = course, asyncio.create_task(self._run(course))
        return entry.launch

    async def _run(self, course: Course) -> None:
        try:
            self._on_end(await course.run())
        except Exception:
            logger.exception("launch %s could not be brought to its end", course.launch.id)
        finally:
            if self._courses.get(course.launch.id, (None,))[0] is course:
                del self._courses[course.launch.id]

    async def _entry(self, launch_id: str, principal: Principal) -> Entry:
        entry = await asyncio.to_thread(self._log.get, launch_id)
        if entry is None or not principal.owns(entry.launch.owner):
            raise RefusedError("there is no such launch, or it is somebody else's", 404)
        return entry

    async def _correct(self, entry: Entry, runs: bool) -> None:
        """Write into the log what became of a server that stopped, or whose launch nobody follows any more."""
        launch = entry.launch
        if launch.state == "ready":
            if not runs:
                ended = {"state": "stopped", "message": "the server has ended, or was not used for a while"}
                await asyncio.to_thread(self._log.change, launch.id, but=("starting", "stopped"), **ended)
            return
        if launch.id in self._courses or self._clock() - entry.seen < _LOST_SECONDS:
            return
        try:
            if runs and await self._hub.state(launch.user, launch.server) == "ready":
                values: dict[str, Any] = {"state": "ready", "message": "", "kept": self._keeps}
            else:
                await remove(self._hub, launch, entry.request.mode)
                values = {"state": "failed", "message": "the launch service ended while the server started: try again"}
        except HubError as error:
            logger.warning("what became of launch %s is not known: %s", launch.id, error)
            return
        await asyncio.to_thread(self._log.change, launch.id, but=("ready", "stopped"), **values)
