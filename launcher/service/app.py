"""The application: all routes of the launch service, in the order in which they are tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tornado.httpserver import HTTPServer
from tornado.web import Application

from launcher.service import api, binder, login, operations, pages, status_badge
from launcher.service.base import BaseHandler, NotFoundHandler
from launcher.service.logs import log_request

if TYPE_CHECKING:
    from launcher.service.services import Services

ROUTES: list[tuple[str, type[BaseHandler]]] = [
    *api.ROUTES,
    *binder.ROUTES,
    *status_badge.ROUTES,
    *operations.ROUTES,
    *login.ROUTES,
    *pages.ROUTES,
]

BODY_BYTES = 16 * 2**20
"""What is read of a request's body, so that the answer reaches whoever sent it; handlers take 64 kB."""
HEADER_BYTES = 32 * 2**10


def make_app(services: Services) -> Application:
    """Return the application. ``pages.error_page(handler, status, message) -> str`` makes the pages of errors."""
    return Application(
        list(ROUTES),
        default_handler_class=NotFoundHandler,
        services=services,
        error_page=pages.error_page,
        log_function=log_request,
    )


def make_server(app: Application) -> HTTPServer:
    """Return the server with limits of size (bytes) and time (seconds); event streams have none of time."""
    return HTTPServer(
        app,
        max_body_size=BODY_BYTES,
        max_header_size=HEADER_BYTES,
        body_timeout=30,
        idle_connection_timeout=120,
    )
