"""Loads the server's part of dask-labextension once the server answers, not before.

It imports Dask, which takes as long as half of the server's own start, and nobody asks for it until JupyterLab's page
has been loaded. So ``etc/jupyter/jupyter_server_config.json`` turns the extension off, and a route in front of all
others loads it for the first request that is meant for it.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tornado.routing import PathMatches, Router, Rule

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp
    from tornado.httputil import HTTPServerRequest

EXTENSION = "dask_labextension"
PATHS = "dask/.*"


class LateExtension(Router):
    """The route to the extension; there is none in a server that does not have it."""

    def __init__(self, server: ServerApp) -> None:
        self._server = server
        self._missing = find_spec(EXTENSION) is not None
        if self._missing:
            server.web_app.default_router.rules.insert(0, Rule(PathMatches(f"{server.base_url}{PATHS}"), self))

    def find_handler(self, request: HTTPServerRequest, **_: Any) -> None:  # noqa: ARG002
        """Load the extension if need be, and leave the request to its handlers: tornado asks them next."""
        if self._missing:
            self._missing = False
            import_module(EXTENSION).load_jupyter_server_extension(self._server)

    async def prepare(self) -> None:
        """Import what the first request needs, while the server goes on answering others."""
        if self._missing:
            await asyncio.to_thread(import_module, EXTENSION)
