"""Any git repository: ``git/<URL-encoded URL>/<ref>``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from builder.providers.provider import Pasted, display, escaped_and_ref, quoted, wrong_spec
from builder.repository.spec import ARCHIVES, SCP_LIKE, RepositoryError, RepoSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

_SCHEMES = ("https", "http", "ssh", "git")
_FORM = "<URL-encoded URL>/REF"


@dataclass(frozen=True)
class PlainGit:
    """A git repository by its URL."""

    prefix: str = "git"

    @property
    def display_config(self) -> Mapping[str, Any]:
        """The entry of the page."""
        return display(
            "Git repository",
            self.prefix,
            r"[^/]+/.+",
            r"^(?<repo>(?:(?:https?|ssh|git)://|[\w.-]+@[\w.-]+:).+?)/?$",
            "Arbitrary git repository URL (http://git.example.com/repo)",
            "example: http://git.example.com/repo",
            encode=True,
            ref=True,
        )

    def parse(self, spec: str) -> RepoSpec:
        """Parse an encoded URL (or ``user@host:path``) and a ref. A directory of the machine is refused."""
        url, ref = escaped_and_ref(self.prefix, spec, _FORM)
        if not _is_url(url):
            raise wrong_spec(self.prefix, spec, _FORM, f" with a URL of {', '.join(_SCHEMES)}")
        return RepoSpec(url, ref)

    def pasted(self, url: str) -> Pasted | None:
        """Recognise any git URL."""
        return Pasted(self.prefix, f"{quoted(url.rstrip('/'))}/HEAD") if _is_url(url) else None


def _is_url(url: str) -> bool:
    if url.startswith("-"):
        return False
    if "://" in url:
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError as error:
            raise RepositoryError(f"{url!r} is not a URL: {error}") from error
        return parts.scheme in _SCHEMES and bool(parts.hostname)
    match = SCP_LIKE.fullmatch(url)
    return bool(match and match["user"]) and url.partition(":")[0] not in ARCHIVES
