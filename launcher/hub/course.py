"""Brings one launch to its end: asks the hub, follows its progress, tries again, and says why it failed.

Whoever watches gets everything from the beginning; the last line is in the launch's row too, for watchers at other
replicas. A hub that is away, a time that is over and a full hub are tried again; what the spawner explained is not.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import httpx

from launcher.hub.client import HubError
from launcher.hub.launch import LaunchEvent
from launcher.hub.launch_request import new_id
from launcher.hub.vouching import OPTION
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from launcher.hub.client import HubClient
    from launcher.hub.launch import Launch
    from launcher.hub.launch_log import LaunchLog
    from launcher.hub.vouching import LaunchRequest, Voucher
    from launcher.site_config import Launches

logger = logging.getLogger(__name__)

BEAT_SECONDS = 10.0
STOPPED = "the server was stopped while it started"
_RETRY_SECONDS = 2.0
_ANSWER_SECONDS = 15.0
_PAUSE = 0.1


@dataclass(frozen=True)
class Outcome:
    """How a launch ended: its launch, seconds it took, and how often it was tried again."""

    launch: Launch
    seconds: float
    retries: int


@dataclass(frozen=True)
class Surroundings:
    """What courses work with. ``keeps`` says that stopped servers keep their files; ``clock`` is seconds since 1970."""

    hub: HubClient
    log: LaunchLog
    voucher: Voucher
    allowed: Launches
    public_url: str
    proxy_url: str
    keeps: bool
    clock: Callable[[], float]


class _FailedError(CasabinderError):
    """One attempt that did not work; ``final`` if another would not either."""

    def __init__(self, message: str, status: int = 500, *, final: bool) -> None:
        super().__init__(message)
        self.status, self.final = status, final


class Course:
    """One launch on its way."""

    def __init__(self, launch: Launch, request: LaunchRequest, around: Surroundings) -> None:
        self.launch, self.request = launch, request
        self._around = around
        self._events: list[LaunchEvent] = []
        self._news = asyncio.Event()
        self._ended = False

    async def run(self) -> Outcome:
        """Start the server and return how that ended; never raises but when it is cancelled."""
        begun = asyncio.get_running_loop().time()
        beat = asyncio.create_task(self._beat())
        retries = 0
        try:
            async with asyncio.timeout(self._around.allowed.seconds):
                retries = await self._try()
            last = ready_event(self.launch, self.request, self._around)
        except TimeoutError:
            last = _failed(f"the server was not ready after {self._around.allowed.seconds} s", 504)
        except _FailedError as error:
            last = _failed(str(error), error.status)
        except Exception:
            logger.exception("launch %s failed", self.launch.id)
            last = _failed("the launch failed for a reason that is in the service's log", 500)
        finally:
            beat.cancel()
        try:
            if last.kind == "ready" and not await self._note(last):
                last = _failed(STOPPED, 409)
            if last.kind == "failed":
                await self._clean()
                await self._note(last)
        finally:
            self.end(last)
        return Outcome(self.launch, asyncio.get_running_loop().time() - begun, retries)

    def end(self, event: LaunchEvent) -> None:
        """Tell everybody the last event."""
        if not self._ended:
            self._ended = True
            self._add(event)

    async def tell(self, message: str, progress: int = 0) -> None:
        """Tell everybody what happens."""
        self._add(LaunchEvent("message", message, progress))
        now = self._around.clock()
        await asyncio.to_thread(self._around.log.change, self.launch.id, but=("stopped",), message=message, seen=now)

    async def events(self) -> AsyncIterator[LaunchEvent]:
        """Yield all events from the first to the last."""
        seen = 0
        while True:
            news = self._news
            for event in self._events[seen:]:
                seen += 1
                yield event
            if self._ended and seen == len(self._events):
                return
            await news.wait()

    async def _note(self, last: LaunchEvent) -> bool:
        """Write into the log how the launch ended; return ``False`` if somebody has stopped it meanwhile."""
        state: dict[str, Any] = {"state": last.kind, "message": last.message}
        state |= {"kept": self._around.keeps} if last.kind == "ready" else {}
        self.launch = replace(self.launch, **state)
        return await asyncio.to_thread(self._around.log.change, self.launch.id, but=("stopped",), **state)

    def _add(self, event: LaunchEvent) -> None:
        self._events.append(event)
        self._news.set()
        self._news = asyncio.Event()

    async def _try(self) -> int:
        """Return how often it was tried again until the server was ready."""
        for retry in range(self._around.allowed.retries + 1):
            try:
                await self._attempt()
            except _FailedError as error:
                if error.final or retry == self._around.allowed.retries:
                    raise
                logger.warning("launch %s: attempt %d failed: %s", self.launch.id, retry + 1, error)
                await self.tell(f"attempt {retry + 1} failed, trying again: {error}")
                await asyncio.sleep(_RETRY_SECONDS * 2**retry)
                self.request = replace(self.request, id=new_id())
            else:
                return retry
        raise AssertionError

    async def _attempt(self) -> None:
        hub, launch, around = self._around.hub, self.launch, self._around
        if not await asyncio.to_thread(around.log.set_request, launch.id, self.request):
            raise _FailedError(STOPPED, 409, final=True)
        signed = around.voucher.sign(self.request, around.clock())
        try:
            if self.request.mode == "anonymous":
                await hub.create_user(launch.user)
            title = f"{launch.repo.rpartition('/')[2].removesuffix('.git')} {launch.commit[:12]}"
            await hub.start(launch.user, launch.server, {OPTION: signed}, title)
            await self._follow()
            await self._wait_until_it_answers()
        except HubError as error:
            again = error.status in (429, 409) or error.status >= 500 or "pending" in str(error)
            raise _FailedError(str(error), 503 if again else 500, final=not again) from error

    async def _follow(self) -> None:
        """Return when the hub says that the server is ready."""
        while True:
            try:
                async for progress in self._around.hub.progress(self.launch.user, self.launch.server):
                    if progress.ready:
                        return
                    if progress.failed:
                        raise _FailedError(progress.message, final=progress.explained)
                    if progress.message != "Server requested":
                        await self.tell(progress.message, progress.progress)
            except HubError as error:
                if error.status < 500:
                    raise
                logger.warning("launch %s: its progress broke off: %s", self.launch.id, error)
            state = await self._around.hub.state(self.launch.user, self.launch.server)
            if state not in ("ready", "spawn"):
                raise _FailedError("JupyterHub stopped the server while it started", final=False)

    async def _wait_until_it_answers(self) -> None:
        """Return when the server answers through the proxy, as a browser will ask it."""
        deadline = asyncio.get_running_loop().time() + _ANSWER_SECONDS
        async with httpx.AsyncClient(trust_env=False, timeout=5.0) as client:
            while asyncio.get_running_loop().time() < deadline:
                try:
                    answer = await client.get(f"{self._around.proxy_url}{self.launch.path}api")
                    if answer.is_success and "version" in answer.json():
                        return
                except (httpx.TransportError, ValueError):
                    pass
                await asyncio.sleep(_PAUSE)
        raise _FailedError("the server runs, but can't be reached through the proxy", final=False)

    async def _clean(self) -> None:
        """Leave nothing of a launch that failed."""
        try:
            await remove(self._around.hub, self.launch, self.request.mode)
        except HubError as error:
            logger.error("launch %s: what is left of it could not be removed: %s", self.launch.id, error)

    async def _beat(self) -> None:
        """Say that this process still follows the launch."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            await asyncio.to_thread(self._around.log.change, self.launch.id, seen=self._around.clock())


async def remove(hub: HubClient, launch: Launch, mode: str) -> None:
    """Stop a server; a temporary one goes with its user."""
    await hub.stop(launch.user, launch.server)
    if mode == "anonymous":
        await hub.delete_user(launch.user)


def ready_event(launch: Launch, request: LaunchRequest, around: Surroundings) -> LaunchEvent:
    """Return the event that says where a server is and what lets in."""
    url = f"{around.public_url}{launch.path}"
    token = around.voucher.token(request.id) if request.mode == "anonymous" else ""
    return LaunchEvent("ready", f"server running at {url}", 100, url, token, 200)


def _failed(message: str, status: int) -> LaunchEvent:
    return LaunchEvent("failed", message, 100, status=status)
