"""The API's routes, and the document that describes them."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from launcher.service import api_builds, api_launches, webhooks
from launcher.service.openapi import JSON, ApiHandler, Operation, document, methods

if TYPE_CHECKING:
    from launcher.service.base import BaseHandler

_JOB = r"(?P<id>[0-9a-z]{1,40})"
_ID = r"(?P<id>[0-9A-Za-z_-]{1,64})"


class DocumentHandler(ApiHandler):
    """``/api/openapi.json``."""

    operations = methods(get=Operation("This document", {200: JSON}))
    public = True

    def get(self) -> None:
        """Answer with the document."""
        self.finish_json(api_document())


ROUTES: list[tuple[str, type[BaseHandler]]] = [
    (r"/api/openapi\.json", DocumentHandler),
    (r"/api/parse", api_builds.ParseHandler),
    (r"/api/bases", api_builds.BasesHandler),
    (r"/api/builds", api_builds.BuildsHandler),
    (rf"/api/builds/{_JOB}", api_builds.BuildHandler),
    (rf"/api/builds/{_JOB}/events", api_builds.EventsHandler),
    (rf"/api/builds/{_JOB}/log", api_builds.LogHandler),
    (rf"/api/builds/{_JOB}/rebuild", api_builds.RebuildHandler),
    (r"/api/images", api_launches.ImagesHandler),
    (r"/api/images/(?P<provider>[a-z]{1,20})/(?P<spec>.+)", api_builds.ImageHandler),
    (r"/api/launches", api_launches.LaunchesHandler),
    (rf"/api/launches/{_ID}/events", api_launches.LaunchEventsHandler),
    (r"/api/servers", api_launches.ServersHandler),
    (rf"/api/servers/{_ID}", api_launches.ServerHandler),
    (rf"/api/servers/{_ID}/start", api_launches.StartHandler),
    (r"/api/credentials", api_launches.CredentialsHandler),
    (rf"/api/credentials/{_ID}", api_launches.CredentialHandler),
    *webhooks.ROUTES,
]


@cache
def api_document() -> dict[str, Any]:
    """Return the OpenAPI document of :data:`ROUTES`."""
    return document(ROUTES, "casabinder", version("casabinder"))
