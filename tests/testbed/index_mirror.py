"""The site's package index as it was on one day, on the loopback interface: two builders see the same packages.

Project pages are kept for a day in a directory, so that resolving the same requirements again asks nobody. The files
themselves stay where they are: their addresses are passed on.

Example usage/behaviour::

    with running_index_mirror(site_index, directory) as index:
        facility = replace(facility, index=index)
"""

from __future__ import annotations

import json
import re
import ssl
import time
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import httpx

from builder.sources.default_index import default_index
from registry_sync.files import write_atomically
from tests.testbed.registry import running_http_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.locking.resolver import PackageIndex

DAY = 24 * 3600.0
_JSON = "application/vnd.pypi.simple.v1+json"
_PAGE = re.compile(r"/simple/([a-z0-9-]+)/")
_NOTHING = b""
_ATTEMPTS = 6


@contextmanager
def running_index_mirror(index: PackageIndex, directory: Path, port: int = 0) -> Iterator[PackageIndex]:
    """Offer the pages of ``index`` on a loopback port (a free one, unless it is stated) until the end.

    ``directory`` keeps the pages; mirrors may share it.
    """
    upstream = (index.url or default_index()).rstrip("/")
    context = ssl.create_default_context(cafile=str(index.ca_bundle) if index.ca_bundle else None)

    def page(client: httpx.Client, name: str) -> bytes:
        kept = directory / f"{name}.json"
        if kept.exists() and time.time() - kept.stat().st_mtime < DAY:
            return kept.read_bytes()
        body = _fetched(client, f"{upstream}/{name}/")
        write_atomically(kept, body)
        return body

    with httpx.Client(verify=context, timeout=60, follow_redirects=True) as client:

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # headers and body in one packet

            def do_GET(self) -> None:
                asked = _PAGE.fullmatch(self.path)
                body = page(client, asked[1]) if asked else _NOTHING
                self.send_response(200 if body else 404)
                self.send_header("Content-Type", _JSON)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", f"max-age={DAY:.0f}")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Keep the test's output clean."""

        with running_http_server(Handler, port) as address:
            yield replace(index, url=f"http://{address}/simple")


def _fetched(client: httpx.Client, url: str) -> bytes:
    """Return a page with absolute addresses in it, nothing if there is none. An index that is busy is asked again."""
    for attempt in range(_ATTEMPTS):
        time.sleep(attempt)
        answer = client.get(url, headers={"Accept": _JSON})
        if answer.status_code == httpx.codes.NOT_FOUND:
            return _NOTHING
        if answer.is_success and answer.headers.get("Content-Type", "").startswith(_JSON):
            document = answer.json()
            for file in document["files"]:
                file["url"] = urljoin(str(answer.url), file["url"])
            return json.dumps(document).encode()
    raise RuntimeError(f"{url} gives {answer.status_code}: {answer.text[:200]}")
