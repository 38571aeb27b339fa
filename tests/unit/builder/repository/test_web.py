"""HTTP to addresses that were checked: the number is connected to, the name stays in the request."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

import pytest

from builder.repository.fetching import Fetching
from builder.repository.spec import RepositoryError
from builder.repository.web import Expected, download, get_json, web_client
from tests.testbed.registry import running_http_server

if TYPE_CHECKING:
    from pathlib import Path


def test_the_connection_goes_where_the_check_said(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.headers["Host"], self.path))
            moved = self.path == "/old"
            self.send_response(302 if moved else 200)
            if moved:
                self.send_header("Location", "/new")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Keep the test's output clean."""

    with running_http_server(Handler) as address:
        port = address.rpartition(":")[2]
        # The first address does not answer: the next one is asked.
        monkeypatch.setattr("builder.repository.web.checked_addresses", lambda *_: ("127.0.0.2", "127.0.0.1"))
        with web_client(Fetching()) as client:
            assert get_json(client, f"http://nowhere.invalid:{port}/old", "it") == {}
    assert seen == [(f"nowhere.invalid:{port}", "/old"), (f"nowhere.invalid:{port}", "/new")]


def test_a_redirect_into_the_local_network_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Keep the test's output clean."""

    with running_http_server(Handler) as address:
        monkeypatch.setattr("builder.repository.addresses.is_public", lambda ip: not ip.startswith("169."))
        with (
            web_client(Fetching()) as client,
            pytest.raises(RepositoryError, match=r"169\.254\.169\.254 is an"),
        ):
            get_json(client, f"http://{address}/x", "it")


def test_what_is_no_web_address(tmp_path: Path) -> None:
    with web_client(Fetching()) as client:
        for url in ("file:///etc/passwd", "ftp://example.org/x"):
            with pytest.raises(RepositoryError):
                download(client, url, tmp_path / "x", Expected("x"), 100)
