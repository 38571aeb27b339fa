"""Zenodo records: ``zenodo/10.5281/zenodo.3242074``.

The record's number is in the DOI, or at the end of where the DOI leads to (records with a DOI of their own). A DOI of
all versions stands for the newest. API: https://developers.zenodo.org/#records (also that of other InvenioRDM servers).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from builder.providers.deposit import Deposit, DepositFile, checksum_of, deposited
from builder.providers.described import reading
from builder.providers.doi import find_doi, landing_page, parse_doi
from builder.providers.provider import Pasted, display
from builder.repository.web import get_json, web_client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.repository.fetching import Fetching
    from builder.repository.spec import Commit, RepoSpec

_NUMBER = re.compile(r"10\.\d+/zenodo\.(?P<id>\d+)", re.IGNORECASE)
_PAGE = re.compile(r"/(?:api/)?records?/(?P<id>\d+)")


@dataclass(frozen=True)
class Zenodo:
    """Zenodo at ``host``; ``doi`` is the resolver of DOIs."""

    host: str = "https://zenodo.org"
    doi: str = "https://doi.org"
    prefix: str = "zenodo"

    @property
    def display_config(self) -> Mapping[str, Any]:
        """The entry of the page."""
        return display(
            "Zenodo DOI",
            self.prefix,
            r"10\.\d+/(.)+",
            r"^(?:https?://(?:dx\.)?doi\.org/|https?://zenodo\.org/doi/|doi:)?(?<repo>10\.\d+/zenodo\..+?)/?$",
            "Zenodo DOI",
            "example: 10.5281/zenodo.3242074",
            encode=False,
            ref=False,
        )

    def parse(self, spec: str) -> RepoSpec:
        """Parse a DOI."""
        return parse_doi(self.prefix, spec, "10.5281/zenodo.NUMBER")

    def pasted(self, url: str) -> Pasted | None:
        """Recognise a DOI of Zenodo's, bare or as URL, and a record's page."""
        doi = find_doi(url)
        if doi:
            return Pasted(self.prefix, doi) if _NUMBER.fullmatch(doi) else None
        parts = urlsplit(url if "://" in url else f"https://{url}")
        if parts.netloc.removeprefix("www.") != urlsplit(self.host).netloc:
            return None
        if parts.path.startswith("/doi/") and _NUMBER.fullmatch(parts.path[5:]):
            return Pasted(self.prefix, parts.path[5:])
        page = _PAGE.match(parts.path)
        return Pasted(self.prefix, f"10.5281/zenodo.{page['id']}") if page else None

    def resolve(self, spec: RepoSpec, fetching: Fetching) -> Commit:
        """Ask for the record."""
        doi = spec.url.partition(":")[2]
        with web_client(fetching) as client:
            number = _NUMBER.fullmatch(doi) or landing_page(client, self.doi, doi, _PAGE, "a Zenodo record")
            record = get_json(client, f"{self.host}/api/records/{number['id']}", f"Zenodo record {number['id']}")
        with reading("Zenodo"):
            identifier = str(record["id"])
            software = (record["metadata"].get("resource_type") or {}).get("type", "") == "software"
            files = tuple(self._file(identifier, file) for file in record["files"])
            exact = f"{self.prefix}:10.5281/zenodo.{identifier}" if _NUMBER.fullmatch(doi) else spec.url
            version = str(record["metadata"].get("version") or identifier)
        return deposited(spec, exact, Deposit(self.prefix, identifier, version, files, unpack=software))

    def _file(self, record: str, file: Mapping[str, Any]) -> DepositFile:
        algorithm, _, value = str(file["checksum"]).partition(":")
        url = f"{self.host}/api/records/{record}/files/{quote(file['key'], safe='')}/content"
        return DepositFile(str(file["key"]), int(file["size"]), checksum_of(algorithm, value), url)
