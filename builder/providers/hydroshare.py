"""HydroShare resources: ``hydroshare/<32 hex digits or the resource's URL>``.

API: https://help.hydroshare.org/developer-api/ (``hsapi/resource/<id>/files/``, paginated, with MD5 sums).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from builder.providers.deposit import Deposit, DepositFile, checksum_of, deposited
from builder.providers.described import reading
from builder.providers.doi import find_doi
from builder.providers.provider import Pasted, display, wrong_spec
from builder.repository.spec import RepositoryError, RepoSpec
from builder.repository.web import get_json, web_client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.repository.fetching import Fetching
    from builder.repository.spec import Commit

_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
_CONTENTS = "/data/contents/"
_MOST_PAGES = 1000


@dataclass(frozen=True)
class HydroShare:
    """HydroShare at ``host``."""

    host: str = "https://www.hydroshare.org"
    prefix: str = "hydroshare"

    @property
    def display_config(self) -> Mapping[str, Any]:
        """The entry of the page."""
        return display(
            "Hydroshare resource",
            self.prefix,
            r"[^/]+(/.*)?",
            r"^(?:https?://(?:www\.)?hydroshare\.org/resource/)?(?<repo>[0-9a-f]{32})(?:/.*)?$",
            "Hydroshare resource id or URL",
            "example: https://www.hydroshare.org/resource/8f7c2f0341ef4180b0dbe97f59130756/",
            encode=True,
            ref=False,
        )

    def parse(self, spec: str) -> RepoSpec:
        """Parse a resource's id, or its (URL-encoded) URL."""
        found = _ID.search(unquote(spec))
        if not found:
            raise wrong_spec(self.prefix, spec, "RESOURCE (32 hex digits, or the resource's URL)")
        return RepoSpec(f"{self.prefix}:{found[0]}")

    def pasted(self, url: str) -> Pasted | None:
        """Recognise a resource's page, and its DOI."""
        doi = find_doi(url)
        parts = urlsplit(url if "://" in url else f"https://{url}")
        ours = parts.netloc.removeprefix("www.") == urlsplit(self.host).netloc.removeprefix("www.")
        found = _ID.search(url) if (doi and "/hs." in doi) or (not doi and ours) else None
        return Pasted(self.prefix, found[0]) if found else None

    def resolve(self, spec: RepoSpec, fetching: Fetching) -> Commit:
        """Ask for the resource's files."""
        resource = spec.url.partition(":")[2]
        what = f"HydroShare resource {resource}"
        files: list[DepositFile] = []
        with web_client(fetching) as client, reading("HydroShare"):
            about = get_json(client, f"{self.host}/hsapi/resource/{resource}/sysmeta/", what)
            version = str(about.get("date_last_updated") or about.get("date_created") or "")
            url: str | None = f"{self.host}/hsapi/resource/{resource}/files/"
            for _ in range(_MOST_PAGES):
                if not url:
                    break
                page = get_json(client, url, what)
                files += [self._file(resource, file) for file in page["results"]]
                url = self._next(page["next"])
        return deposited(spec, spec.url, Deposit(self.prefix, resource, version, tuple(files)))

    def _next(self, url: str | None) -> str | None:
        """Return the next page's address at this host, whatever host the answer names."""
        if not url:
            return None
        parts = urlsplit(url)
        return f"{self.host}{parts.path}?{parts.query}"

    def _file(self, resource: str, file: Mapping[str, Any]) -> DepositFile:
        _, separator, path = unquote(urlsplit(str(file["url"])).path).partition(_CONTENTS)
        if not separator:
            raise RepositoryError(f"the HydroShare resource {resource} holds a file outside its contents")
        url = f"{self.host}/resource/{resource}{_CONTENTS}{quote(path)}"
        return DepositFile(path, int(file["size"]), checksum_of("md5", str(file.get("checksum") or "")), url)
