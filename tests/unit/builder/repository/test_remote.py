"""What git is told of an address that was checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.repository.fetching import Fetching, GitCredentials
from builder.repository.remote import connect
from builder.repository.spec import RepositoryError

if TYPE_CHECKING:
    from pathlib import Path

PUBLIC = "140.82.121.4"


@pytest.fixture(autouse=True)
def _resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(host: str, port: int, **_: object) -> list[object]:
        return [(2, 1, 6, "", (PUBLIC, port)), (10, 1, 6, "", ("2606:50c0:8000::153", port, 0, 0))]

    monkeypatch.setattr("socket.getaddrinfo", answer)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_https_is_pinned_to_what_was_checked() -> None:
    remote = connect("https://example.org/a/b", Fetching(), local=False)
    assert remote.settings == (("http.curloptResolve", f"example.org:443:{PUBLIC},[2606:50c0:8000::153]"),)
    dotted = connect("https://example.org.:8443/a", Fetching(), local=False)
    assert [value.split(":")[0] for _, value in dotted.settings] == ["example.org.", "example.org"]
    assert connect("https://example.org/a", Fetching(private_addresses=True), local=False).settings == ()


def test_ssh_is_pinned_too() -> None:
    command = connect("git@example.org:a/b", Fetching(), local=False).environment["GIT_SSH_COMMAND"]
    assert f"-o HostName={PUBLIC} -o HostKeyAlias=example.org" in command


def test_the_git_protocol_can_not_be_pinned() -> None:
    with pytest.raises(RepositoryError, match="without encryption; use https"):
        connect("git://example.org/a", Fetching(), local=False)


def test_a_token_goes_to_its_host_over_https_only(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("sEcret")
    file.chmod(0o600)
    fetching = Fetching(credentials=GitCredentials(file, "example.org"))
    settings = dict(connect("https://example.org/a", fetching, local=False).settings)
    helper = settings["credential.https://example.org.helper"]
    assert str(file) in helper
    assert "sEcret" not in str(settings)
    assert not any(
        key.startswith("credential") for key, _ in connect("https://x.org/a", fetching, local=False).settings
    )
    with pytest.raises(RepositoryError, match=r"a token is not sent to http://example\.org/a without encryption"):
        connect("http://example.org/a", fetching, local=False)
