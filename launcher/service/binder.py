"""BinderHub's endpoints: the route of ``/build``, and what is small: versions, providers, old links, badges."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from builder.layers.layer import RECIPE
from launcher.service.badges import badge, icon
from launcher.service.base import BaseHandler
from launcher.service.binder_build import BuildHandler
from launcher.service.binder_links import launch_page

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = version("casabinder")
BADGES: Mapping[str, str] = {
    "badge.svg": badge("launch", "casabinder"),
    "badge_logo.svg": badge("launch", "casabinder", logo=True),
}
ICONS: Mapping[str, str] = {state: icon(state) for state in ("fail", "success", "building")}
_A_DAY = "public, max-age=86400"


class PublicHandler(BaseHandler):
    """What everybody may read from everywhere, other sites' pages included."""

    public = True
    quiet = True

    def set_default_headers(self) -> None:
        """Allow pages of any site to read the answer."""
        super().set_default_headers()
        self.set_header("Access-Control-Allow-Origin", "*")
        self.set_header("Access-Control-Allow-Headers", "cache-control")


class VersionsHandler(PublicHandler):
    """``/versions``: equal on all members of a federation that give the same image for the same repository."""

    async def get(self) -> None:
        """Answer with the versions."""
        self.finish_json({"builder_info": {"casabinder-version": VERSION, "recipe": RECIPE}, "binderhub": VERSION})


class ProvidersHandler(PublicHandler):
    """``/api/repoproviders``: what a page needs to ask for a repository."""

    async def get(self) -> None:
        """Answer with the providers in the order of a menu."""
        self.finish_json(self.services.desk.providers())


class LegacyHandler(BaseHandler):
    """``/repo/<user>/<repo>[/path]``: links of Binder before 2017."""

    public = True

    async def get(self, user: str, repo: str, path: str | None = None) -> None:
        """Send to the launch page."""
        _ = user, repo, path  # decoded by tornado; what was sent is in the path
        _, _, user, repo, *rest = self.request.path.split("/", 4)
        self.redirect(launch_page(user, repo, f"/{rest[0]}" if rest else ""))


class BadgeHandler(PublicHandler):
    """``/badge.svg`` and ``/badge_logo.svg``, also where mybinder.org's READMEs have them."""

    async def get(self, name: str) -> None:
        """Answer with the badge."""
        self._image(BADGES[name])

    def _image(self, image: str) -> None:
        self.set_header("Content-Type", "image/svg+xml")
        self.set_header("Cache-Control", _A_DAY)
        self.finish(image)


class IconHandler(BadgeHandler):
    """``/favicon_building.ico`` and so on: the state of a build, for a browser's tab."""

    async def get(self, name: str) -> None:
        """Answer with the icon."""
        self._image(ICONS[name])


ROUTES: list[tuple[str, type[BaseHandler]]] = [
    (r"/build/[^/]+/.*[^/].*", BuildHandler),
    (r"/versions", VersionsHandler),
    (r"/api/repoproviders", ProvidersHandler),
    (r"/repo/([^/]+)/([^/]+)(/.*)?", LegacyHandler),
    (r"/(?:static/images/|assets/images/)?(badge(?:_logo)?\.svg)", BadgeHandler),
    (r"/favicon_(fail|success|building)\.ico", IconHandler),
]
