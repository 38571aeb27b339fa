"""BinderHub's ``/build/<provider>/<spec>``, as a view of a job and a launch.

It is an event stream over a job and, once that has built an image, over a launch of its own.
Whoever leaves changes nothing; whoever comes back joins the same job. A client that accepts ``application/json`` gets
refusals as HTTP statuses with a JSON body; any other gets 200 and one ``failed`` event, as from BinderHub.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from launcher.jobs.model import Asked
from launcher.refusal import RefusedError
from launcher.service import binder_events
from launcher.service.audit import about
from launcher.service.base import BaseHandler
from launcher.service.binder_links import default_branch_spec
from launcher.service.build_tokens import USES, BuildTokens, invalid, origin_of
from launcher.service.launch_origin import launch_origin
from launcher.service.logs import bound
from launcher.service.parameters import LaunchParameters
from launcher.service.responses import failure
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from launcher.container import LaunchOptions
    from launcher.jobs.model import Job
    from launcher.service.audit import Action

LINGER = 2.0
"""Seconds that a stream stays open after ``ready``: a client that sees its end before it has closed it itself takes
that for a failure (binderhub-client's ``onclose``). BinderHub waits 60."""
_DO_NOT_RETRY = b"retry: 86400000\n\n"
"""An EventSource that is not closed would come back for another server after 3 seconds; milliseconds."""
_LONGEST_SPEC = 2048


class BuildHandler(BaseHandler):
    """``/build/<provider>/<spec>``: build if need be, launch unless ``build_only=true``, and tell."""

    async def get(self) -> None:
        """Answer with the event stream."""
        _, _, provider, spec = self.request.path.rstrip("/").split("/", 3)
        if self.request.headers.get("Sec-Fetch-Mode") == "navigate":
            # Somebody has opened the link in a tab: a page is of more use, and another site's link starts nothing.
            self.redirect(self._page(provider, spec))
            return
        if not spec or len(spec) > _LONGEST_SPEC:
            raise RefusedError(f"name the repository in at most {_LONGEST_SPEC} characters", 400)
        arguments = {name: self.get_query_arguments(name) for name in self.request.query_arguments}
        launch = LaunchParameters.parse(arguments, self.services.site)
        if not await self._check_token(provider, spec):
            await self.take("build")
        asked = Asked(provider, spec, base=launch.base, as_of=launch.as_of)
        job, asked, advice = await self._submit(asked)
        build_only = self.get_query_argument("build_only", "").lower() == "true"
        if not job.ended:
            self.services.runner.wake()
        if build_only or not job.ended:
            await self._note("build", job, asked)
        with bound(request_id=self.request_id, job=job.id):
            await self.sse(self._frames(job, asked, None if build_only else launch.options, advice))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with a ``failed`` event, or as the rest of the service does to a client that accepts JSON."""
        if "application/json" in self.request.headers.get("Accept", ""):
            super().write_error(status_code, **kwargs)
            return
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        refused = failure(error, status_code, self.request_id)
        self.set_status(200)
        if refused.retry_after:
            self.set_header("Retry-After", str(refused.retry_after))
        self.set_header("Content-Type", "text/event-stream; charset=utf-8")
        self.set_header("Cache-Control", "no-cache, no-transform")
        self.finish(self._last_frame(refused))

    @classmethod
    def allowed(cls) -> list[str]:
        """Return the methods; HEAD is not among them, since it would start what GET starts and tell nothing."""
        return ["GET", "OPTIONS"]

    async def _check_token(self, provider: str, spec: str) -> bool:
        """Say whether a good build token was shown; raise :class:`RefusedError` for a bad one."""
        token = self.get_query_argument("build_token", "")
        if not token:
            return False
        name = BuildTokens(self.services.keys).check(token, provider, spec, origin_of(self.request.headers))
        now = self.services.authentication.now()
        try:
            await asyncio.to_thread(self.services.rates.take, f"build-token:{name}", USES, now)
        except RefusedError as error:
            raise invalid() from error
        return True

    async def _submit(self, asked: Asked) -> tuple[Job, Asked, str]:
        """Return the job, what it is for, and a sentence if that is not quite what was asked for."""
        principal = await self.principal()
        try:
            return await self.services.desk.submit(asked, principal), asked, ""
        except RefusedError as error:
            spec = default_branch_spec(asked.provider, asked.spec)
            if error.status != HTTPStatus.NOT_FOUND or spec is None:
                raise
            instead = replace(asked, spec=spec)
            try:
                job = await self.services.desk.submit(instead, principal)
            except RefusedError:
                raise error from None
        branch = asked.spec.rpartition("/")[2]
        return job, instead, f"There is no {branch}: taking HEAD, the default branch. Please update your links."

    async def _frames(self, job: Job, asked: Asked, options: LaunchOptions | None, advice: str) -> AsyncIterator[bytes]:
        """Tell the job, and the launch if there are options for one; what goes wrong on the way is told last."""
        build_only = options is None
        try:
            if advice:
                yield _frame(binder_events.waiting(advice))
            if job.state == "built":
                yield _frame(binder_events.of_found(job, build_only=build_only))
            else:
                async for events in self.services.feed.batches(job.id):
                    messages = [binder_events.of_job(event, build_only=build_only) for event in events]
                    ending = _DO_NOT_RETRY if events[-1].last else b""
                    yield ending + b"".join(_frame(message) for message in messages if message)
                ended = await asyncio.to_thread(self.services.store.get, job.id)
                job = ended or job
            if job.state == "built":
                if options is not None:
                    async for frame in self._launch(job, asked, options):
                        yield frame
                await asyncio.sleep(LINGER)
        except CasabinderError as error:
            yield self._last_frame(error)
        except Exception as error:
            yield self._last_frame(error)
            raise

    def _last_frame(self, error: Exception) -> bytes:
        refused = failure(error, HTTPStatus.INTERNAL_SERVER_ERROR, self.request_id)
        return _DO_NOT_RETRY + _frame(binder_events.failed(str(refused), refused.status))

    async def _launch(self, job: Job, asked: Asked, options: LaunchOptions) -> AsyncIterator[bytes]:
        """Start a server from what the job has built, and tell how that goes."""
        principal = await self.principal()
        record = await self.services.desk.record(job)
        origin = launch_origin(self, asked, job, principal.address)
        yield _frame(binder_events.launching())
        try:
            launch = await self.services.launches.start(job, record, options, principal, origin)
        except CasabinderError as error:
            await self._note("launch", job, asked, status="failure", message=str(error))
            raise
        async for event in self.services.launches.events(launch.id, principal):
            if event.kind == "ready":
                await self._note("launch", job, asked, launch=launch.id)
            elif event.kind == "failed":
                await self._note("launch", job, asked, launch=launch.id, status="failure", message=event.message)
            message = binder_events.of_launch(event, job, origin)
            yield (b"" if event.kind == "message" else _DO_NOT_RETRY) + _frame(message)

    async def _note(self, action: Action, job: Job, asked: Asked, **more: Any) -> None:
        """Write a line of the audit log."""
        token = bool(self.get_query_argument("build_token", ""))
        request = replace(job.request, asked=asked)
        headers = self.request.headers
        event = about(action, replace(job, request=request), await self.principal(), headers, build_token=token, **more)
        self.services.audit.write(event, self.services.authentication.now())

    def _page(self, provider: str, spec: str) -> str:
        """Return the launch page of a build's address."""
        kept = [
            (name, self.get_query_argument(name))
            for name in self.request.query_arguments
            if name not in ("build_token", "build_only")
        ]
        return f"/v2/{provider}/{spec}" + (f"?{urlencode(kept)}" if kept else "")


def _frame(message: binder_events.Message) -> bytes:
    return binder_events.encode(message).encode()
