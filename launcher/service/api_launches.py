"""The API of launches: start a notebook server from what is built, follow it, list, stop and resume one's own."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from launcher.refusal import RefusedError
from launcher.service.api_builds import asked_for, visible_job
from launcher.service.audit import AuditEvent, about
from launcher.service.launch_origin import launch_origin
from launcher.service.models import (
    CredentialDocument,
    CredentialSent,
    ImageUseDocument,
    LaunchDocument,
    LaunchEventDocument,
    LaunchSent,
    ListQuery,
    OpenQuery,
    ServerDocument,
    StopQuery,
    time_of,
)
from launcher.service.openapi import ApiHandler, Events, Operation, methods
from launcher.service.parameters import LaunchParameters, relative_path
from launcher.service.responses import data_frame
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from launcher.hub.launch import Launch, LaunchEvent
    from launcher.jobs.model import Asked, Job
    from launcher.security.principal import Principal
    from launcher.service.audit import Action
    from launcher.service.base import BaseHandler


class LaunchesHandler(ApiHandler):
    """``/api/launches``."""

    operations = methods(
        post=Operation(
            "Start a notebook server from what is built",
            {202: LaunchDocument},
            body=LaunchSent,
            errors=(404, 409, 410, 429, 502),
        )
    )

    async def post(self) -> None:
        """Start a server."""
        sent = self.json_body(LaunchSent)
        parameters = LaunchParameters.parse(sent.arguments(), self.services.site)
        principal = await self.principal()
        await self.take("launch")
        job, asked = await self._built(sent, principal)
        record = await self.services.desk.record(job)
        origin = launch_origin(self, asked, job, principal.address)
        audit = self.services.audit
        try:
            launch = await self.services.launches.start(job, record, parameters.options, principal, origin)
        except CasabinderError as error:
            failed = about("launch", job, principal, self.request.headers, status="failure", message=str(error))
            audit.write(failed, self.now())
            raise
        audit.write(about("launch", job, principal, self.request.headers, launch=launch.id), self.now())
        self.finish_json(LaunchDocument.of(launch, parameters), 202)

    async def _built(self, sent: LaunchSent, principal: Principal) -> tuple[Job, Asked]:
        """Return the job that has built what is to be launched, and what was asked for."""
        if sent.build is not None:
            job = await visible_job(self, sent.build)
            asked = job.request.asked
        else:
            asked = await asked_for(self, sent)
            if await self.services.desk.find_image(asked, principal) is None:
                raise RefusedError("it is not built yet: send it to /api/builds, and launch that build", 409)
            job = await self.services.desk.submit(asked, principal)
        if job.state != "built":
            raise RefusedError(f"the build {job.id} is {job.state}; only one that is built can be launched", 409)
        return job, asked


class LaunchEventsHandler(ApiHandler):
    """``/api/launches/{id}/events``."""

    operations = methods(
        get=Operation(
            "Follow a launch: an event stream that ends with `ready` or `failed`",
            {200: Events(LaunchEventDocument)},
            query=OpenQuery,
            errors=(404,),
        )
    )

    async def get(self, id: str) -> None:  # noqa: A002
        """Send what happens to the launch."""
        path = relative_path(self.query(OpenQuery).path)
        principal = await self.principal()
        events = self.services.launches.events(id, principal)
        # What is refused is refused before the stream begins, with a status.
        first = await anext(events, None)
        await self.sse(self._frames(first, events, path))

    async def _frames(
        self, first: LaunchEvent | None, events: AsyncIterator[LaunchEvent], path: str
    ) -> AsyncIterator[bytes]:
        if first is not None:
            yield self._frame(first, path)
        async for event in events:
            yield self._frame(event, path)

    def _frame(self, event: LaunchEvent, path: str) -> bytes:
        told: dict[str, Any] = event.to_json() | {"path": path if event.kind == "ready" else ""}
        if event.url:
            told["url"] = urljoin(f"{self.origin}/", event.url)
        return data_frame(json.dumps(told, separators=(",", ":")))


class ServersHandler(ApiHandler):
    """``/api/servers``."""

    operations = methods(get=Operation("List one's own notebook servers", {200: list[ServerDocument]}))

    async def get(self) -> None:
        """Answer with the servers."""
        launches = await self.services.launches.servers(await self.principal())
        self.finish_json([ServerDocument.of(launch) for launch in launches])


class ServerHandler(ApiHandler):
    """``/api/servers/{id}``."""

    operations = methods(delete=Operation("Stop a server of one's own", {204: None}, query=StopQuery, errors=(404,)))

    async def delete(self, id: str) -> None:  # noqa: A002
        """Stop it."""
        principal = await self.principal()
        await self.services.launches.stop(id, principal, remove_files=self.query(StopQuery).remove)
        _note(self, "stop", id, principal)
        self.set_status(204)
        self.finish()


class StartHandler(ApiHandler):
    """``/api/servers/{id}/start``."""

    operations = methods(
        post=Operation("Resume a server that was stopped", {202: ServerDocument}, errors=(404, 409, 410, 429))
    )

    async def post(self, id: str) -> None:  # noqa: A002
        """Start it again, with its files."""
        principal = await self.principal()
        await self.take("launch")
        launch: Launch = await self.services.launches.resume(id, principal)
        _note(self, "resume", launch.id, principal)
        self.finish_json(ServerDocument.of(launch), 202)


class ImagesHandler(ApiHandler):
    """``/api/images``."""

    operations = methods(
        get=Operation("List images that were launched", {200: list[ImageUseDocument]}, query=ListQuery)
    )

    async def get(self) -> None:
        """Answer with the images."""
        limit = self.query(ListQuery).limit
        uses = await self.services.launches.images(await self.principal(), limit)
        self.finish_json([ImageUseDocument.of(use) for use in uses])


class CredentialsHandler(ApiHandler):
    """``/api/credentials``."""

    operations = methods(
        get=Operation("List the git hosts that one's own tokens are kept for", {200: list[CredentialDocument]}),
        put=Operation(
            "Keep a token for a git host, to build one's private repositories",
            {200: CredentialDocument},
            body=CredentialSent,
        ),
    )

    async def get(self) -> None:
        """Answer with the hosts, never with a token."""
        owner = (await _keeper(self)).owner
        self.finish_json(await self._kept(owner))

    async def put(self) -> None:
        """Keep a token, instead of the one that is there."""
        sent = self.json_body(CredentialSent)
        owner = (await _keeper(self)).owner
        new = await asyncio.to_thread(self.services.vault.put, owner, sent.host, sent.token, self.now())
        self.finish_json(next(entry for entry in await self._kept(owner) if entry.id == new))

    async def _kept(self, owner: str) -> list[CredentialDocument]:
        rows = await asyncio.to_thread(self.services.vault.list, owner)
        return [CredentialDocument(id=row[0], host=row[1], created=time_of(row[2])) for row in rows]


class CredentialHandler(ApiHandler):
    """``/api/credentials/{id}``."""

    operations = methods(delete=Operation("Forget a token", {204: None}, errors=(404,)))

    async def delete(self, id: str) -> None:  # noqa: A002
        """Forget it."""
        owner = (await _keeper(self)).owner
        if not await asyncio.to_thread(self.services.vault.delete, owner, id):
            raise RefusedError("there is no such credential", 404)
        self.set_status(204)
        self.finish()


async def _keeper(handler: BaseHandler) -> Principal:
    """Return who may keep tokens: somebody whom the hub knows, who can come back for them."""
    principal = await handler.principal()
    if not principal.known:
        raise RefusedError("tokens are kept for people who log in; visitors build public repositories", 403)
    return principal


def _note(handler: BaseHandler, action: Action, launch: str, principal: Principal) -> None:
    headers = handler.request.headers
    origin = headers.get("Origin") or headers.get("Sec-Fetch-Site", "")
    event = AuditEvent(action, "success", principal.owner, principal.address, launch=launch)
    handler.services.audit.write(replace(event, origin=headers.get("Host", ""), request_origin=origin), handler.now())
