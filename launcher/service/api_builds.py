"""The API of builds: ask for one, look at it, follow it, cancel it; what is there to build on, and what is built."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from base_images.definition import catalogue
from builder.repository.spec import RepositoryError
from launcher.jobs.model import Asked
from launcher.refusal import RefusedError
from launcher.service.audit import about
from launcher.service.models import (
    BaseDocument,
    BuildSent,
    BuildsQuery,
    EventsQuery,
    ImageDocument,
    ImageQuery,
    JobDocument,
    JobEventDocument,
    ParseSent,
    PastedDocument,
    RepositorySent,
)
from launcher.service.openapi import TEXT, ApiHandler, Events, Operation, methods
from launcher.service.pasted import launch_page, with_ref
from launcher.service.responses import RETRY, event_frames
from launcher.site_config import Rate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from launcher.jobs.model import Job, JobEvent
    from launcher.service.audit import Action
    from launcher.service.base import BaseHandler

LOG_PAGE = 1000
QUESTIONS = Rate(requests=120, seconds=60)
"""How often a visitor may ask whether an image is there: it may take a question to the repository's host."""
RESUME = {"Last-Event-ID": "the number of the last event that is known; an EventSource sends it when it comes back"}


async def asked_for(handler: BaseHandler, sent: RepositorySent, *, rebuild: bool = False) -> Asked:
    """Return what a request's body names, in BinderHub's words."""
    if sent.url is None:
        return sent.asked(sent.provider or "", sent.spec or "", rebuild=rebuild)
    try:
        pasted = handler.services.desk.pasted(sent.url)
        return sent.asked(pasted.provider, with_ref(pasted, sent.ref or ""), rebuild=rebuild)
    except RepositoryError as error:
        raise RefusedError(str(error)) from error


async def visible_job(handler: BaseHandler, job_id: str) -> Job:
    """Return a job that the principal may see; raise :class:`RefusedError` 404 for others as for none."""
    principal = await handler.principal()
    job = await asyncio.to_thread(handler.services.store.get, job_id)
    if job is None or not principal.may_see(job.owner, private=job.private):
        raise RefusedError("there is no such build", 404)
    return job


class BuildsHandler(ApiHandler):
    """``/api/builds``."""

    operations = methods(
        get=Operation("List builds, newest first", {200: list[JobDocument]}, query=BuildsQuery),
        post=Operation(
            "Ask for an image: of a repository that is built, the build is answered (200), else one is begun (202)",
            {200: JobDocument, 202: JobDocument},
            body=BuildSent,
            errors=(404, 429, 502),
        ),
    )

    async def get(self) -> None:
        """List what the principal may see."""
        asked = self.query(BuildsQuery)
        principal = await self.principal()
        jobs = await asyncio.to_thread(
            self.services.store.find,
            repo=asked.repo,
            state=asked.state,
            owner=principal.owner if asked.mine else "",
            viewer=None if principal.admin else principal.owner,
            limit=asked.limit,
            before=asked.before or "",
        )
        self.finish_json([JobDocument.of(job, principal) for job in jobs])

    async def post(self) -> None:
        """Find or begin a build."""
        sent = self.json_body(BuildSent)
        principal = await self.principal()
        await self.take("build")
        job = await self.services.desk.submit(await asked_for(self, sent, rebuild=sent.rebuild), principal)
        await _begun(self, "rebuild" if sent.rebuild else "build", job)


class BuildHandler(ApiHandler):
    """``/api/builds/{id}``."""

    operations = methods(
        get=Operation("Look at a build", {200: JobDocument}, errors=(404,)),
        delete=Operation(
            "Cancel a build: it has ended (200), or its builder is being stopped (202)",
            {200: JobDocument, 202: JobDocument},
            errors=(404,),
        ),
    )

    async def get(self, id: str) -> None:  # noqa: A002 - the name in the path
        """Answer with the build."""
        job = await visible_job(self, id)
        self.finish_json(JobDocument.of(job, await self.principal()))

    async def delete(self, id: str) -> None:  # noqa: A002
        """Cancel it."""
        principal = await self.principal()
        job = await visible_job(self, id)
        if not principal.owns(job.owner):
            raise RefusedError("only who asked for this build first, or an administrator, can cancel it", 403)
        job = await asyncio.to_thread(self.services.store.cancel, job.id, self.now())
        self.services.runner.wake()
        self.services.feed.nudge(job.id)
        self.services.audit.write(about("cancel", job, principal, self.request.headers), self.now())
        self.finish_json(JobDocument.of(job, principal), 200 if job.ended else 202)


class RebuildHandler(ApiHandler):
    """``/api/builds/{id}/rebuild``."""

    operations = methods(
        post=Operation(
            "Build the same commit again, even if there is an image", {202: JobDocument}, errors=(404, 429, 502)
        )
    )

    async def post(self, id: str) -> None:  # noqa: A002
        """Begin another build of the build's commit."""
        job = await visible_job(self, id)
        await self.take("build")
        job = await self.services.desk.rebuild(job, await self.principal())
        await _begun(self, "rebuild", job)


class EventsHandler(ApiHandler):
    """``/api/builds/{id}/events``."""

    operations = methods(
        get=Operation(
            "Follow a build: an event stream of its log, which ends with the build; 204 when nothing more will come",
            {200: Events(JobEventDocument), 204: None},
            query=EventsQuery,
            headers=RESUME,
            errors=(404, 410),
        )
    )

    async def get(self, id: str) -> None:  # noqa: A002
        """Send the events after the last one that the client knows."""
        after = self.query(EventsQuery).after
        stated = self.request.headers.get("Last-Event-ID", "")
        if stated.isascii() and stated.isdecimal():
            after = max(after, int(stated[:15]))
        job = await visible_job(self, id)
        if job.ended and after >= job.last_event:
            self.set_status(204)  # an EventSource does not come back after this
            self.finish()
            return
        await self.sse(self._frames(job.id, after))

    async def _frames(self, job_id: str, after: int) -> AsyncIterator[bytes]:
        yield RETRY
        async for batch in self.services.feed.batches(job_id, after):
            yield event_frames(batch)


class LogHandler(ApiHandler):
    """``/api/builds/{id}/log``."""

    operations = methods(get=Operation("Read a build's log so far, as text", {200: TEXT}, errors=(404,)))

    async def get(self, id: str) -> None:  # noqa: A002
        """Send the log, a page at a time."""
        job = await visible_job(self, id)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.set_header("Content-Disposition", f'inline; filename="build-{job.id}.log"')
        self.set_header("Cache-Control", "no-store")
        after = 0
        while self.request.method != "HEAD":
            page = await asyncio.to_thread(self.services.store.events, job.id, after, LOG_PAGE)
            self.write("".join(log_line(event) for event in page))
            if len(page) < LOG_PAGE:
                break
            after = page[-1].number
            await self.flush()
        self.finish()


class ImageHandler(ApiHandler):
    """``/api/images/{provider}/{spec}``."""

    operations = methods(
        get=Operation(
            "Is it built? Never begins a build", {200: ImageDocument}, query=ImageQuery, errors=(404, 429, 502)
        )
    )

    async def get(self, provider: str, spec: str) -> None:
        """Answer with the image's record."""
        _ = spec  # decoded; a spec is what was sent
        sent = self.request.path.split("/", 4)[4]
        await self.take("image", QUESTIONS)
        query = self.query(ImageQuery)
        asked = Asked(provider, sent, base=query.base, as_of=query.as_of or "")
        record = await self.services.desk.find_image(asked, await self.principal())
        if record is None:
            raise RefusedError("it is not built yet", 404)
        self.finish_json(ImageDocument.model_validate(record.to_json()))


class ParseHandler(ApiHandler):
    """``/api/parse``."""

    operations = methods(post=Operation("Say what a pasted text means", {200: PastedDocument}, body=ParseSent))

    async def post(self) -> None:
        """Answer with provider, spec and path."""
        sent = self.json_body(ParseSent)
        await self.principal()
        try:
            pasted = self.services.desk.pasted(sent.text)
        except RepositoryError as error:
            raise RefusedError(str(error)) from error
        names = {entry["id"]: entry["displayName"] for entry in self.services.desk.providers()}
        self.finish_json(
            PastedDocument(
                provider=pasted.provider,
                provider_name=names.get(pasted.provider, pasted.provider),
                spec=pasted.spec,
                path=pasted.path,
                launch=launch_page(pasted),
            )
        )


class BasesHandler(ApiHandler):
    """``/api/bases``."""

    operations = methods(get=Operation("List the base images, the site's default first", {200: list[BaseDocument]}))

    async def get(self) -> None:
        """Answer with the catalogue."""
        await self.principal()
        self.finish_json(await asyncio.to_thread(self._bases))

    def _bases(self) -> list[BaseDocument]:
        context = self.services.context
        default = context.site.base
        names = sorted(catalogue(context.catalogues), key=lambda name: (name != default, name))
        found = [context.definition(name) for name in names]
        return [
            BaseDocument(
                name=base.name,
                title=base.document.title,
                description=base.document.description,
                python=base.python,
                default=base.name == default,
            )
            for base in found
        ]


def log_line(event: JobEvent) -> str:
    """Return an event as a line of text, or nothing for one that only counts bytes."""
    data = event.data
    if data.get("kind") == "progress":
        return ""
    time = datetime.fromtimestamp(event.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    what = str(data.get("phase") or data.get("state", ""))
    end = f"done in {data['seconds']:.1f} s" if data.get("kind") == "end" and "seconds" in data else ""
    said = " ".join(part for part in (str(data.get("message", "")).rstrip(), end) if part)
    return f"{time} {what:<9} {said}".rstrip() + "\n"


async def _begun(handler: BaseHandler, action: Action, job: Job) -> None:
    """Answer with a build that was asked for, and see to it that it begins."""
    principal = await handler.principal()
    if not job.ended:
        handler.services.runner.wake()
    audit = handler.services.audit
    audit.write(about(action, job, principal, handler.request.headers), handler.now())
    handler.set_header("Location", f"/api/builds/{job.id}")
    handler.finish_json(JobDocument.of(job, principal), 200 if job.ended else 202)
