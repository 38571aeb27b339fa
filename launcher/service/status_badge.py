"""``/badge/<provider>/<spec>.svg``: whether a repository's image is built, as a badge for its README.

It is for everybody and knows nobody: no cookie is set or read, and what is not public is ``not built``. Whoever asks
begins nothing. What is known is kept for a minute, so that a README with many readers asks git host and registry once a
minute; questions beyond that are counted by address. Who has none left gets the word that was known last, for a proxy
such as GitHub's asks for all its readers and would show them a broken picture.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

from tornado.web import RequestHandler

from launcher.jobs.model import Asked
from launcher.refusal import RefusedError
from launcher.service.badges import badge
from launcher.service.binder import PublicHandler
from launcher.service.models import ImageQuery
from launcher.service.proxies import network_of
from launcher.service.recent import Recent
from launcher.site_config import Rate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from launcher.service.base import BaseHandler
    from launcher.service.services import Services

FRESH_SECONDS = 60
BRIEF_SECONDS = 10
"""For how long a word is good that may be an old one."""
QUESTIONS = Rate(requests=120, seconds=60)
"""How many badges that are not known yet one address (or IPv6 network) may ask for."""
UNKNOWN = "unknown"
COLOURS: Mapping[str, str] = {
    "built": "#2e7d32",
    "building": "#8a5a00",
    "failed": "#c62828",
    "stale base": "#8a5a00",
    "not built": "#616161",
    UNKNOWN: "#616161",
}
"""By word; white text on each has a contrast of 4.5 and more."""


class StatusBadgeHandler(PublicHandler):
    """``/badge/<provider>/<spec>.svg?base=&as_of=``."""

    async def get(self, provider: str, spec: str) -> None:
        """Answer with the badge."""
        _ = spec  # decoded; a spec is what was sent
        self.services.authentication.refuse_banned(self.address)
        sent = self.request.path.split("/", 3)[3].removesuffix(".svg")
        query = self.query(ImageQuery)
        asked = Asked(provider, sent, base=query.base, as_of=query.as_of or "")
        word, seconds = await self._word(asked)
        self.set_header("Content-Type", "image/svg+xml")
        self.set_header("Cache-Control", f"public, max-age={seconds}")
        self.finish(badge("casabinder", word, colour=COLOURS[word]))

    async def _word(self, asked: Asked) -> tuple[str, int]:
        """Return the word, and for how many seconds it may be kept."""
        recent: Recent[str] = self.settings.setdefault("status_badges", Recent(FRESH_SECONDS))
        if recent.known(asked) is None:
            name, now = f"badge:{network_of(self.address)}", self.services.authentication.now()
            try:
                await asyncio.to_thread(self.services.rates.take, name, QUESTIONS, now)
            except RefusedError:
                return recent.last(asked) or UNKNOWN, BRIEF_SECONDS
        return await recent.get(asked, lambda: standing_of(self.services, asked)), FRESH_SECONDS

    def compute_etag(self) -> str | None:
        """Return a tag of the badge, so that nothing is sent to those who have it."""
        return RequestHandler.compute_etag(self)


async def standing_of(services: Services, asked: Asked) -> str:
    """Return the word for an image; a git host or a registry that is silent is no reason to say ``not built``."""
    shown = services.site.service.status_badges
    if not (services.site.hub.mode == "anonymous" if shown is None else shown):
        return "not built"
    try:
        return await services.desk.standing(asked)
    except RefusedError as error:
        return UNKNOWN if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "not built"


ROUTES: list[tuple[str, type[BaseHandler]]] = [(r"/badge/([a-z]{1,20})/(.+)\.svg", StatusBadgeHandler)]
