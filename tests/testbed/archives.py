"""Zenodo, Figshare, Dataverse, HydroShare and CKAN on one loopback server, in the shapes that their APIs document.

Example usage/behaviour::

    with running_archives({"a.txt": b"one"}) as archives:
        resolve_ref(RepoSpec("zenodo:10.5281/zenodo.12"), archives.fetching)

Every archive has one record with the given files: Zenodo 12 (11 stands for all versions), Figshare 34 version 2,
Dataverse ``10.7910/DVN/ABCDEF``, HydroShare ``HYDROSHARE``, CKAN ``sample``. ``/10...`` resolves DOIs by redirect.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from builder.repository.fetching import Fetching
from tests.testbed.registry import running_http_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HYDROSHARE = "8f7c2f0341ef4180b0dbe97f59130756"


@dataclass
class Archives:
    """The running archives. ``served`` replaces the content of files, with what is said of them unchanged."""

    files: Mapping[str, bytes]
    software: bool = True
    served: dict[str, bytes] = field(default_factory=dict)
    address: str = ""
    requests: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        """The base URL of all of them."""
        return f"http://{self.address}"

    @property
    def fetching(self) -> Fetching:
        """The rules under which they are asked."""
        names = ("zenodo", "figshare", "dataverse", "hydroshare", "doi")
        return Fetching(private_addresses=True, hosts=dict.fromkeys(names, self.host))

    def answer(self, path: str, query: Mapping[str, list[str]]) -> object:
        """Return JSON, a file's bytes, a redirect (text) or ``None``."""
        listed = list(enumerate(sorted(self.files.items())))
        match path.strip("/").split("/"):
            case ["10.5281", "zenodo.custom"] | ["10.1000", "own"]:
                return f"{self.host}/records/12"
            case ["10.5281" | "10.1000", *_]:
                return None
            case ["10.25384", "institution.1"]:
                return f"{self.host}/articles/dataset/Title/34/2"
            case ["api", "records", "11"]:
                return f"{self.host}/api/records/12"
            case ["api", "records", "12"]:
                entries = [
                    {"key": name, "size": len(content), "checksum": f"md5:{_md5(content)}", "links": {"self": "x"}}
                    for _, (name, content) in listed
                ]
                kind = {"resource_type": {"type": "software" if self.software else "dataset"}, "version": "v1.0"}
                return {"id": 12, "conceptrecid": "11", "metadata": kind, "files": entries}
            case ["api", "records", "12", "files", *name, "content"]:
                return self.content("/".join(name))
            case ["v2", "articles", "34"] | ["v2", "articles", "34", "versions", "2"]:
                return {"id": 34, "version": 2, "files": []}
            case ["v2", "articles", "34", "versions", "2", "files"]:
                start = (int(query["page"][0]) - 1) * int(query["page_size"][0])
                found = [
                    {
                        "id": number,
                        "name": name,
                        "size": len(content),
                        "is_link_only": False,
                        "computed_md5": _md5(content),
                        "download_url": f"{self.host}/ndownloader/{number}",
                    }
                    for number, (name, content) in listed
                ]
                link = {"id": 99, "name": "elsewhere", "size": 0, "is_link_only": True, "download_url": "ftp://x"}
                return [*found, link][start : start + int(query["page_size"][0])]
            case ["ndownloader", number]:
                return self.content(listed[int(number)][1][0])
            case ["api", "datasets", ":persistentId"]:
                if query["persistentId"] != ["doi:10.7910/DVN/ABCDEF"]:
                    return None
                entries = [_dataverse(number, name, content) for number, (name, content) in listed]
                latest = {"versionNumber": 3, "versionMinorNumber": 1, "files": entries}
                return {"status": "OK", "data": {"id": 5, "identifier": "DVN/ABCDEF", "latestVersion": latest}}
            case ["api", "access", "datafile", number]:
                return self.content(listed[int(number)][1][0])
            case ["hsapi", "resource", resource, "sysmeta"] if resource == HYDROSHARE:
                return {"resource_id": resource, "date_last_updated": "2024-01-01T00:00:00Z"}
            case ["hsapi", "resource", resource, "files"] if resource == HYDROSHARE:
                page = int(query.get("page", ["1"])[0])
                more = f"http://elsewhere.invalid/hsapi/resource/{resource}/files/?page={page + 1}"
                results = [
                    {
                        "file_name": name.rpartition("/")[2],
                        "url": f"http://elsewhere.invalid/resource/{resource}/data/contents/{name}",
                        "size": len(content),
                        "checksum": _md5(content),
                    }
                    for number, (name, content) in listed
                    if number == page - 1
                ]
                return {"count": len(listed), "next": more if page < len(listed) else None, "results": results}
            case ["resource", resource, "data", "contents", *name] if resource == HYDROSHARE:
                return self.content("/".join(name))
            case ["api", "3", "action", "package_show" | "activity_data_show" as question]:
                wanted = {"package_show": ("id", "sample"), "activity_data_show": ("activity_id", "abc")}[question]
                if query.get(wanted[0]) != [wanted[1]]:
                    return None
                resources = [
                    {"id": str(number), "name": name, "url": f"{self.host}/download/{name}", "hash": _md5(content)}
                    for number, (name, content) in listed
                ]
                return {"success": True, "result": {"metadata_modified": "2024-01-01", "resources": resources}}
            case ["download", name]:
                return self.content(name)
        return None

    def content(self, name: str) -> bytes | None:
        """Return a file's bytes."""
        return self.served.get(name, self.files.get(name))


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _dataverse(number: int, name: str, content: bytes) -> dict[str, object]:
    directory, _, label = name.rpartition("/")
    data = {"id": number, "filesize": len(content), "checksum": {"type": "MD5", "value": _md5(content)}}
    if label.endswith(".csv"):  # as a table that was converted
        data |= {"originalFileName": label, "originalFileSize": len(content), "filesize": 3}
        label = label.removesuffix(".csv") + ".tab"
    return {"label": label, "dataFile": data, **({"directoryLabel": directory} if directory else {})}


@contextmanager
def running_archives(files: Mapping[str, bytes], *, software: bool = True) -> Iterator[Archives]:
    """Run all archives, each with one record that holds ``files``."""
    archives = Archives(files, software)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            archives.requests.append(self.path)
            answer = archives.answer(unquote(parts.path), parse_qs(parts.query))
            page = parts.path.startswith(("/records/", "/articles/"))
            status = 302 if isinstance(answer, str) else 200 if answer is not None or page else 404
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            if isinstance(answer, str):
                self.send_header("Location", answer)
            self.send_header("Content-Length", str(len(content)))
            with suppress(ConnectionError):  # the client has seen enough
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Keep the test's output clean."""

    with running_http_server(Handler) as address:
        archives.address = address
        yield archives
