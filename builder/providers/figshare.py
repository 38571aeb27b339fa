"""Figshare articles: ``figshare/10.6084/m9.figshare.9782777.v1``.

Number and version are in the DOI, or in where it leads to (institutions with DOIs of their own); without a version the
newest is taken. API: https://docs.figshare.com/#public_article.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from builder.providers.deposit import Deposit, DepositFile, checksum_of, deposited
from builder.providers.described import reading
from builder.providers.doi import find_doi, landing_page, parse_doi
from builder.providers.provider import Pasted, display
from builder.repository.web import get_json, web_client

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from builder.repository.fetching import Fetching
    from builder.repository.spec import Commit, RepoSpec

_NUMBER = re.compile(r"10\.\d+/m9\.figshare\.(?P<id>\d+)(?:\.v(?P<version>\d+))?", re.IGNORECASE)
_PAGE = re.compile(r"/articles/(?:[^/]+/){0,2}(?P<id>\d+)(?:/(?P<version>\d+))?/?$")
_PAGE_SIZE = 100
_MOST_PAGES = 1000


@dataclass(frozen=True)
class Figshare:
    """Figshare's API at ``host``; ``doi`` is the resolver of DOIs."""

    host: str = "https://api.figshare.com"
    doi: str = "https://doi.org"
    prefix: str = "figshare"

    @property
    def display_config(self) -> Mapping[str, Any]:
        """The entry of the page."""
        return display(
            "Figshare DOI",
            self.prefix,
            r"10\.\d+/(.)+",
            r"^(?:https?://(?:dx\.)?doi\.org/|doi:)?(?<repo>10\.\d+/m9\.figshare\..+?)/?$",
            "Figshare DOI",
            "example: 10.6084/m9.figshare.9782777.v1",
            encode=False,
            ref=False,
        )

    def parse(self, spec: str) -> RepoSpec:
        """Parse a DOI."""
        return parse_doi(self.prefix, spec, "10.6084/m9.figshare.NUMBER.vVERSION")

    def pasted(self, url: str) -> Pasted | None:
        """Recognise a DOI of Figshare's, bare or as URL, and an article's page."""
        doi = find_doi(url)
        if doi:
            return Pasted(self.prefix, doi) if _NUMBER.fullmatch(doi) else None
        parts = urlsplit(url if "://" in url else f"https://{url}")
        page = _PAGE.search(parts.path) if parts.netloc in ("figshare.com", "www.figshare.com") else None
        if not page:
            return None
        version = f".v{page['version']}" if page["version"] else ""
        return Pasted(self.prefix, f"10.6084/m9.figshare.{page['id']}{version}")

    def resolve(self, spec: RepoSpec, fetching: Fetching) -> Commit:
        """Ask for the article."""
        doi = spec.url.partition(":")[2]
        with web_client(fetching) as client:
            number = _NUMBER.fullmatch(doi) or landing_page(client, self.doi, doi, _PAGE, "a Figshare article")
            url = f"{self.host}/v2/articles/{number['id']}"
            what = f"Figshare article {number['id']}"
            asked = f"{url}/versions/{number['version']}" if number["version"] else url
            article = get_json(client, asked, what)
            with reading("Figshare"):
                identifier, version = str(article["id"]), str(article["version"])
                listed = self._list(client, f"{url}/versions/{version}/files", what)
                files = tuple(_file(file) for file in listed if not file.get("is_link_only"))
        ours = _NUMBER.fullmatch(doi)
        exact = f"{self.prefix}:{doi[: ours.end('id')]}.v{version}" if ours else spec.url
        return deposited(spec, exact, Deposit(self.prefix, identifier, version, files, unpack=True))

    def _list(self, client: httpx.Client, url: str, what: str) -> list[Mapping[str, Any]]:
        files: list[Mapping[str, Any]] = []
        for page in range(1, _MOST_PAGES):
            found = get_json(client, url, what, {"page": str(page), "page_size": str(_PAGE_SIZE)})
            files += found
            if len(found) < _PAGE_SIZE:
                break
        return files


def _file(file: Mapping[str, Any]) -> DepositFile:
    checksum = checksum_of("md5", file.get("computed_md5") or file.get("supplied_md5") or "")
    return DepositFile(str(file["name"]), int(file["size"]), checksum, str(file["download_url"]))
