"""Gists, which are git repositories: ``gist/user/id[/ref]``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from builder.providers.provider import Pasted, display, wrong_spec
from builder.repository.spec import RepoSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

_SPEC = re.compile(r"(?P<user>[\w.-]+)/(?P<id>[0-9a-f]{5,64})(?:/(?P<ref>.+))?")


@dataclass(frozen=True)
class Gist:
    """GitHub's gists."""

    host: str = "https://gist.github.com"
    prefix: str = "gist"

    @property
    def display_config(self) -> Mapping[str, Any]:
        """The entry of the page."""
        host = re.escape(urlsplit(self.host).netloc)
        return display(
            "Gist",
            self.prefix,
            r"[^/]+/[^/]+(/[^/]+)?",
            rf"^(?:https?://)?{host}/(?<repo>[^/]+/[0-9a-f]+)(?:\.git)?(?:/.*)?$",
            "Gist ID (username/gistId) or URL",
            "example: user/0123456789abcdef0123456789abcdef",
            encode=False,
            ref=True,
        )

    def parse(self, spec: str) -> RepoSpec:
        """Parse ``user/id`` or ``user/id/ref``."""
        match = _SPEC.fullmatch(spec.rstrip("/"))
        if not match:
            raise wrong_spec(self.prefix, spec, "USER/ID or gist/USER/ID/REF")
        return RepoSpec(f"{self.host}/{match['user']}/{match['id']}", match["ref"] or "HEAD")

    def pasted(self, url: str) -> Pasted | None:
        """Recognise the address of a gist, or of a revision of it."""
        parts = urlsplit(url if "://" in url else f"https://{url}")
        match = _SPEC.fullmatch(parts.path.strip("/").removesuffix(".git"))
        if parts.netloc != urlsplit(self.host).netloc or not match:
            return None
        ref = match["ref"] or ""
        return Pasted(
            self.prefix, f"{match['user']}/{match['id']}/{ref if re.fullmatch('[0-9a-f]{40}', ref) else 'HEAD'}"
        )
