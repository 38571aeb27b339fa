"""CKAN datasets: ``ckan/<URL-encoded URL of a dataset>``.

A dataset's state of some day is named by ``?activity_id=...`` or ``/dataset/activity/.../<id>``. API:
https://docs.ckan.org/en/latest/api/ (``package_show``, ``activity_data_show``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from builder.providers.deposit import Deposit, DepositFile, checksum_of, deposited
from builder.providers.described import reading
from builder.providers.provider import Pasted, display, quoted, wrong_spec
from builder.repository.addresses import check_lists
from builder.repository.spec import RepositoryError, RepoSpec
from builder.repository.web import get_json, web_client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.repository.fetching import Fetching
    from builder.repository.spec import Commit

_DATASET = re.compile(r"(?P<base>(?:/[^/]+)*?)/dataset/(?P<id>[\w.-]+)(?:/history/(?P<activity>[\w-]+))?/?")
_ALGORITHMS = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}


@dataclass(frozen=True)
class Ckan:
    """Any CKAN site: its host is in the spec."""

    prefix: str = "ckan"

    @property
    def display_config(self) -> Mapping[str, Any]:
        """The entry of the page."""
        return display(
            "CKAN dataset",
            self.prefix,
            r"[^/]+",
            r"^(?<repo>https?://[^/]+/(?:.*/)?dataset/.+?)/?$",
            "CKAN dataset URL",
            "example: https://demo.ckan.org/dataset/sample-dataset-1",
            encode=True,
            ref=False,
        )

    def parse(self, spec: str) -> RepoSpec:
        """Parse a dataset's URL-encoded URL."""
        url = unquote(spec)
        self._read(url)
        return RepoSpec(f"{self.prefix}:{url.rstrip('/')}")

    def pasted(self, url: str) -> Pasted | None:
        """Recognise a dataset's page."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not _DATASET.fullmatch(parts.path):
            return None
        return Pasted(self.prefix, quoted(url))

    def _read(self, url: str) -> tuple[str, str, str]:
        """Return the API's base URL, the dataset's name, and the activity (or ``""``)."""
        parts = urlsplit(url)
        match = _DATASET.fullmatch(parts.path)
        if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc or not match:
            raise wrong_spec(self.prefix, quoted(url), "<URL-encoded https://HOST/dataset/NAME>")
        activity = match["activity"] or parse_qs(parts.query).get("activity_id", [""])[0]
        return f"{parts.scheme}://{parts.netloc}{match['base']}/api/3/action", match["id"], activity

    def resolve(self, spec: RepoSpec, fetching: Fetching) -> Commit:
        """Ask for the dataset."""
        url = spec.url.partition(":")[2]
        api, name, activity = self._read(url)
        check_lists(url, fetching)
        what = f"CKAN dataset {name}"
        with web_client(fetching) as client:
            if activity:
                params = {"activity_id": activity, "object_type": "package"}
                answer = get_json(client, f"{api}/activity_data_show", what, params)
            else:
                answer = get_json(client, f"{api}/package_show", what, {"id": name})
        with reading("CKAN"):
            dataset = answer["result"]
            version = str(dataset["metadata_modified"])
            files = tuple(_file(resource) for resource in dataset["resources"])
        if len({file.path for file in files}) < len(files):
            raise RepositoryError(f"the {what} has two resources of one name")
        return deposited(spec, spec.url, Deposit(self.prefix, name, version, files))


def _file(resource: Mapping[str, Any]) -> DepositFile:
    url = str(resource["url"])
    name = unquote(urlsplit(url).path.rsplit("/", 1)[-1]) or str(resource["id"])
    value = str(resource.get("hash") or "").lower()
    checksum = checksum_of(_ALGORITHMS.get(len(value), ""), value)
    size = resource.get("size")
    return DepositFile(name, int(size) if checksum and size else -1, checksum, url)
