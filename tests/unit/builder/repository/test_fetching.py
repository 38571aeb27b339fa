"""A user's token: the file that it may be in, and the helper that hands it to git."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.repository.credential import main
from builder.repository.fetching import GitCredentials
from builder.repository.spec import RepositoryError

if TYPE_CHECKING:
    from pathlib import Path


def written(directory: Path, text: str, mode: int = 0o600) -> Path:
    file = directory / "token"
    file.write_text(text)
    file.chmod(mode)
    return file


@pytest.mark.parametrize(("text", "login"), [("abc\n", ("oauth2", "abc")), ("me:a:b", ("me", "a:b"))])
def test_what_a_token_file_holds(tmp_path: Path, text: str, login: tuple[str, str]) -> None:
    file = written(tmp_path, text)
    assert GitCredentials(file, "host").login() == login
    answer = main([str(file), "host", "get"], "protocol=https\nhost=host\n")
    assert answer == f"username={login[0]}\npassword={login[1]}\n"


@pytest.mark.parametrize("text", ["", "\n", "a\nb", "me:", ":x", "a b", "a\rpassword=x"])
def test_an_unusable_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(RepositoryError, match="must hold one line, TOKEN or USER:TOKEN"):
        GitCredentials(written(tmp_path, text), "host").login()


def test_a_file_that_others_can_read(tmp_path: Path) -> None:
    file = written(tmp_path, "abc", 0o644)
    with pytest.raises(RepositoryError, match="can be read by others; run `chmod 600"):
        GitCredentials(file, "host").login()
    assert main([str(file), "host", "get"], "host=host\n") == ""


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="can't be read: No such file"):
        GitCredentials(tmp_path / "none", "host").login()
    with pytest.raises(RepositoryError, match="is not a plain file"):
        GitCredentials(tmp_path, "host").login()


@pytest.mark.parametrize(
    ("question", "request_"),
    [
        ("get", "host=other\n"),
        ("get", "host=host.evil\n"),
        ("get", ""),
        ("store", "host=host\n"),
        ("erase", "host=host\n"),
    ],
)
def test_the_helper_answers_its_host_only(tmp_path: Path, question: str, request_: str) -> None:
    assert main([str(written(tmp_path, "abc")), "host", question], request_) == ""


def test_the_realm_tells_tokens_apart_and_gives_none_away(tmp_path: Path) -> None:
    realms = {GitCredentials(written(tmp_path, text), host).realm() for text in ("a", "b") for host in ("x", "y")}
    assert len(realms) == 4
    assert all(len(realm) == 32 for realm in realms)
