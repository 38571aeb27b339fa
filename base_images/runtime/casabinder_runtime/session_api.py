"""The session's HTTP API on the notebook server: how it fares, and a number of workers to scale to.

``GET casabinder/api/session`` is asked again and again by JupyterLab's panel, so it does not count as activity of a
person, which would keep an abandoned server from being stopped. ``POST casabinder/api/session/scale`` takes
``{"workers": 4}``; like every change through Jupyter's API it wants the XSRF token of the page, or the server's token.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import tornado.web
from jupyter_server.base.handlers import APIHandler

from casabinder_runtime.errors import PoolError
from casabinder_runtime.session_directory import SessionStatus

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class SessionReport(SessionStatus):
    """A ``SessionStatus``, of which ``state`` may be "off", in which environment, and the dashboard's path."""

    env_id: str = ""
    dashboard: str = ""

    @classmethod
    def of(cls, status: SessionStatus, env_id: str, dashboard: str = "") -> SessionReport:
        """Return the report of a status."""
        return cls(**{**vars(status), "env_id": env_id, "dashboard": dashboard})


class SessionHandler(APIHandler):
    """``GET casabinder/api/session``."""

    _track_activity = False

    def initialize(self, report: Callable[[], SessionReport]) -> None:
        """Take what tells how the session fares."""
        self._report = report

    @tornado.web.authenticated
    def get(self) -> None:
        """Answer with a ``SessionReport``."""
        self.finish(asdict(self._report()))


class ScaleHandler(APIHandler):
    """``POST casabinder/api/session/scale``."""

    def initialize(self, scale: Callable[[int], None]) -> None:
        """Take what passes a number of workers on to the session."""
        self._scale = scale

    @tornado.web.authenticated
    def post(self) -> None:
        """Pass the number on and answer at once: workers come when the pool gives them."""
        body = self.get_json_body()
        workers = body.get("workers") if isinstance(body, dict) else None
        if isinstance(workers, bool) or not isinstance(workers, int):
            raise tornado.web.HTTPError(HTTPStatus.BAD_REQUEST, 'the body must be JSON such as {"workers": 4}')
        try:
            self._scale(workers)
        except PoolError as error:
            raise tornado.web.HTTPError(HTTPStatus.CONFLICT, str(error).replace("%", "%%")) from error
        self.set_status(HTTPStatus.ACCEPTED)
        self.finish({"workers": workers})
