"""Dataverse datasets: ``dataverse/10.7910/DVN/TJCLKP``.

The DOI leads to one of many installations, whose API is asked for the newest published version. Tables that the
installation converted come in their original format. API:
https://guides.dataverse.org/en/latest/api/native-api.html#datasets and .../dataaccess.html.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from builder.providers.deposit import Deposit, DepositFile, checksum_of, deposited
from builder.providers.described import reading
from builder.providers.doi import find_doi, landing, parse_doi
from builder.providers.provider import Pasted, display
from builder.repository.web import get_json, web_client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.repository.fetching import Fetching
    from builder.repository.spec import Commit, RepoSpec


@dataclass(frozen=True)
class Dataverse:
    """Dataverse installations; ``host`` is asked instead of where the DOI leads to, if it is given."""

    host: str = ""
    doi: str = "https://doi.org"
    prefix: str = "dataverse"

    @property
    def display_config(self) -> Mapping[str, Any]:
        """The entry of the page."""
        return display(
            "Dataverse DOI",
            self.prefix,
            r"10\.\d+/(.)+",
            r"^(?:https?://(?:dx\.)?doi\.org/|https?://[^/]+/dataset\.xhtml\?persistentId=doi:|doi:)?(?<repo>10\.\d+/.+?)/?$",
            "Dataverse DOI",
            "example: 10.7910/DVN/TJCLKP",
            encode=False,
            ref=False,
        )

    def parse(self, spec: str) -> RepoSpec:
        """Parse a DOI."""
        return parse_doi(self.prefix, spec, "10.PREFIX/NAME")

    def pasted(self, url: str) -> Pasted | None:
        """Recognise a dataset's page, and any DOI: those of other archives were recognised before."""
        doi = find_doi(url)
        if doi:
            lowered = doi.lower()
            other = "zenodo." in lowered or "figshare." in lowered or "/hs." in lowered
            return None if other else Pasted(self.prefix, doi)
        parts = urlsplit(url)
        if parts.path.endswith(("/dataset.xhtml", "/citation")):
            stated = parse_qs(parts.query).get("persistentId", [""])[0]
            doi = find_doi(stated)
            return Pasted(self.prefix, doi) if doi else None
        return None

    def resolve(self, spec: RepoSpec, fetching: Fetching) -> Commit:
        """Ask for the dataset."""
        doi = spec.url.partition(":")[2]
        with web_client(fetching) as client:
            host = self.host
            if not host:
                parts = landing(client, self.doi, doi)
                host = f"{parts.scheme}://{parts.netloc}"
            url = f"{host}/api/datasets/:persistentId/"
            answer = get_json(client, url, f"Dataverse dataset {doi}", {"persistentId": f"doi:{doi}"})
        with reading("Dataverse"):
            data = answer["data"]
            latest = data["latestVersion"]
            version = f"{latest['versionNumber']}.{latest['versionMinorNumber']}"
            files = tuple(_file(host, file) for file in latest["files"] if not file.get("restricted"))
        return deposited(spec, spec.url, Deposit(self.prefix, f"doi:{doi}", version, files))


def _file(host: str, file: Mapping[str, Any]) -> DepositFile:
    data = file["dataFile"]
    original = data.get("originalFileName")
    name = str(original or file["label"])
    directory = str(file.get("directoryLabel") or "").strip("/")
    stated = data.get("checksum") or {"type": "MD5", "value": data.get("md5", "")}
    size = data.get("originalFileSize", -1) if original else data["filesize"]
    url = f"{host}/api/access/datafile/{int(data['id'])}" + ("?format=original" if original else "")
    path = f"{directory}/{name}" if directory else name
    return DepositFile(path, int(size), checksum_of(str(stated["type"]), str(stated["value"])), url)
