from __future__ import annotations

import json
from typing import TYPE_CHECKING

from launcher.servers import Server, ServerFiles

if TYPE_CHECKING:
    from pathlib import Path


def make_server(files: ServerFiles, token: str) -> Server:
    return Server(
        name="casabinder-x-123456",
        repo="https://example.org/<x>",
        ref="HEAD",
        commit="2" * 40,
        image_id="i",
        env_id="e",
        digest="sha256:d",
        state="running",
        since="2026-01-01T00:00:00Z",
        workers=2,
        url="http://127.0.0.1:32768/",
        browser_file=files.browser_file("casabinder-x-123456"),
        token=token,
    )


def test_only_the_owner_can_read_the_token(tmp_path: Path) -> None:
    files = ServerFiles(tmp_path)
    token = files.new_token("casabinder-x-123456")
    files.write_browser_file(make_server(files, token))
    assert len(token) == 48
    assert files.token("casabinder-x-123456") == token
    for path in (tmp_path / "servers").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "servers").stat().st_mode & 0o777 == 0o700


def test_the_page_for_the_browser_leads_to_the_server(tmp_path: Path) -> None:
    files = ServerFiles(tmp_path)
    server = make_server(files, "secret")
    files.write_browser_file(server)
    assert 'url=http://127.0.0.1:32768/lab?token=secret"' in server.browser_file.read_text()


def test_a_server_shows_its_token_in_its_address_only(tmp_path: Path) -> None:
    server = make_server(ServerFiles(tmp_path), "secret")
    assert server.address == "http://127.0.0.1:32768/lab?token=secret"
    assert "secret" not in repr(server)
    assert "secret" not in json.dumps(server.to_json())


def test_what_is_removed_is_not_known_any_more(tmp_path: Path) -> None:
    files = ServerFiles(tmp_path)
    server = make_server(files, files.new_token("casabinder-x-123456"))
    files.write_browser_file(server)
    files.remove(server.name)
    files.remove(server.name)
    assert files.token(server.name) == ""
    assert list((tmp_path / "servers").iterdir()) == []
