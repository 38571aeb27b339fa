"""The pages that people see. They hold no state and nothing private: their scripts ask the API for that."""

from __future__ import annotations

import re
from functools import cache
from typing import Any
from urllib.parse import unquote

from jinja2 import Environment, PackageLoader, StrictUndefined

from launcher.refusal import RefusedError
from launcher.service.assets import assets
from launcher.service.base import BaseHandler
from launcher.service.binder_links import raw_spec
from launcher.service.binder_page import page_config, page_config_script
from launcher.service.page_words import choices, contact, error_words
from launcher.service.parameters import LaunchParameters
from launcher.service.responses import CONTENT_SECURITY_POLICY

DESCRIPTION = (
    "Paste the address of a repository: its environment is built and opens as a notebook server with Dask workers."
)
_FOR_EVER = "public, max-age=31536000, immutable"


class AssetHandler(BaseHandler):
    """``/static/<version>/<name>``."""

    public = True
    quiet = True

    async def get(self, version: str, name: str) -> None:
        """Answer with the file; one of another version only for now."""
        asset = assets().files.get(name)
        if asset is None:
            raise RefusedError("there is no such file", 404)
        self.set_header("Content-Type", asset.media_type)
        self.set_header("Cache-Control", _FOR_EVER if version == assets().version else "no-cache")
        self.set_header("Vary", "Accept-Encoding")
        if asset.compressed and "gzip" in self.request.headers.get("Accept-Encoding", ""):
            self.set_header("Content-Encoding", "gzip")
            self.finish(asset.compressed)
        else:
            self.finish(asset.content)


class _Page(BaseHandler):
    page = True

    def show(self, template: str, **words: Any) -> None:
        """Answer with a page; its one inline script, if ``config`` is given, is allowed by its hash."""
        config = words.pop("config", None)
        if config is not None:
            words["config"], source = page_config_script(config)
            policy = CONTENT_SECURITY_POLICY.replace("script-src 'self'", f"script-src 'self' {source}")
            self.set_header("Content-Security-Policy", policy)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        self.finish(render(self, template, **words))


class HomePage(_Page):
    """``/``: the field that takes any address; ``?address=`` fills it."""

    async def get(self) -> None:
        """Answer with the page."""
        self.show(
            "home.html",
            title="Launch",
            social_title=self.services.site.service.name,
            address=self.get_query_argument("address", "")[:2000],
            choices=choices(self.services.site),
            config=page_config(self),
        )


class BuildPage(_Page):
    """``/v2/<provider>/<spec>``: builds, shows how, launches."""

    async def get(self, provider: str, _decoded: str) -> None:
        """Answer with the page; raise :class:`RefusedError` for a provider or parameters that can't be."""
        names = {entry["id"]: entry["displayName"] for entry in self.services.desk.providers()}
        if provider not in names:
            raise RefusedError(f"there is no provider {provider[:40]!r}; there are {', '.join(names)}", 404)
        arguments = {name: self.get_query_arguments(name) for name in self.request.query_arguments}
        parameters = LaunchParameters.parse(arguments, self.services.site)
        spec = raw_spec(self.request.path, f"/v2/{provider}/")
        words = unquote(spec)
        self.show(
            "build.html",
            title=words,
            social_title=f"{names[provider]}: {words}",
            description=f"Launch {words} as a notebook server with Dask workers.",
            provider=provider,
            provider_name=names[provider],
            spec=spec,
            words=re.sub(r"^https?://|(\.git)?/HEAD$", "", words),
            path=parameters.path,
            opens=unquote(parameters.path.removeprefix("lab/tree/")),
            config=page_config(self, provider, spec),
        )


class ServersPage(_Page):
    """``/servers``: the servers of whoever looks."""

    async def get(self) -> None:
        """Answer with the page."""
        self.show("servers.html", title="My servers")


class ImagesPage(_Page):
    """``/images``: what was built here."""

    async def get(self) -> None:
        """Answer with the page."""
        self.show("images.html", title="Images")


class TokensPage(_Page):
    """``/tokens``: the tokens for git hosts of a person who logged in."""

    async def get(self) -> None:
        """Answer with the page."""
        if not self.services.authentication.login:
            raise RefusedError("nobody logs in here, so nobody can keep tokens", 404)
        self.show("tokens.html", title="Tokens")


class StoppedPage(_Page):
    """``/user/...``: the hub's proxy hands us the requests for notebook servers that are gone."""

    public = True
    quiet = True

    async def _gone(self, *_args: str, **_kwargs: str) -> None:
        raise RefusedError("this notebook server has stopped", 424)

    get = head = post = put = patch = delete = _gone


def error_page(handler: BaseHandler, status: int, message: str) -> str:
    """Return the page of an error as HTML; of a stopped server it offers to start it again."""
    title, advice = error_words(status)
    sentence = f"{message[:1].upper()}{message[1:].rstrip('.')}."
    stopped = isinstance(handler, StoppedPage)
    return render(handler, "message.html", title=title, status=status, message=sentence, advice=advice, stopped=stopped)


def render(handler: BaseHandler, template: str, **words: Any) -> str:
    """Return a page as HTML, with what all pages have."""
    service, login = handler.services.site.service, handler.services.authentication.login
    pages = [("/servers", "My servers"), ("/images", "Images"), *([("/tokens", "Tokens")] if login else [])]
    frame = {
        "name": service.name,
        "banner": service.banner,
        "contact": contact(service.contact),
        "static": assets().prefix,
        "pages": pages,
        "here": handler.request.path,
        "login": login,
        "person": handler.services.authentication.page_name(handler),
        "description": DESCRIPTION,
        "social_title": "",
        "config": "",
    }
    return _templates().get_template(template).render(frame | words)


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("launcher.service"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


ROUTES: list[tuple[str, type[BaseHandler]]] = [
    (r"/", HomePage),
    (r"/v2/([^/]+)/(.+)", BuildPage),
    (r"/servers", ServersPage),
    (r"/images", ImagesPage),
    (r"/tokens", TokensPage),
    (r"/user/(.*)", StoppedPage),
    (r"/static/(?:([0-9a-f]{12})/)?([a-z-]+\.[a-z0-9]+)", AssetHandler),
]
