from __future__ import annotations

import base64
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from casabinder_runtime import data_access
from casabinder_runtime.data_access import (
    Credential,
    find_credentials,
    install,
    kernel_variables,
    token_times,
    write_private,
)
from casabinder_runtime.tls import create_session_certificates

UID = os.getuid()


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in the place of /tmp."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    monkeypatch.setattr(data_access, "TEMPORARY", directory)
    return directory


def places(directory: Path, temporary: Path) -> tuple[dict[str, str], list[Path]]:
    """Return an environment in which every place has a token, and the places that are files, in order."""
    secrets, runtime = directory / "secrets", directory / "runtime"
    secrets.mkdir()
    runtime.mkdir()
    environment = {
        "CASABINDER_SECRETS": str(secrets),
        "BEARER_TOKEN": "of-BEARER_TOKEN",
        "BEARER_TOKEN_FILE": str(directory / "token"),
        "XDG_RUNTIME_DIR": str(runtime),
    }
    files = [secrets / "data" / "bearer_token", directory / "token", runtime / f"bt_u{UID}", temporary / f"bt_u{UID}"]
    for file in files:
        write_private(file, f"of-{file.name}\n")
    return environment, files


def test_tokens_are_looked_for_in_the_standard_order(tmp_path: Path, temporary: Path) -> None:
    environment, files = places(tmp_path, temporary)

    def found() -> list[tuple[str, str]]:
        return [(one.content, one.source) for one in find_credentials(environment, UID)]

    assert found() == [("of-bearer_token", str(files[0]))]
    files[0].unlink()
    assert found() == [("of-BEARER_TOKEN", "$BEARER_TOKEN")]
    assert find_credentials(environment, UID)[0].file == files[0], "what is written there is found first"
    del environment["BEARER_TOKEN"]
    for file in files[1:]:
        assert found() == [(f"of-{file.name}", str(file))]
        file.unlink()
    assert found() == []


@pytest.mark.parametrize("content", ["", "  \n", "two words", "x" * (data_access.LONGEST + 1), b"\xff\xfe"])
def test_what_is_no_token_is_passed_over(tmp_path: Path, temporary: Path, content: str | bytes) -> None:
    environment, files = places(tmp_path, temporary)
    del environment["BEARER_TOKEN"]
    files[0].chmod(0o600)
    files[0].write_bytes(content if isinstance(content, bytes) else content.encode())
    assert find_credentials(environment, UID)[0].content == "of-token"


def test_a_file_in_tmp_counts_if_it_is_the_users_own(tmp_path: Path, temporary: Path) -> None:
    environment = {"CASABINDER_SECRETS": str(tmp_path)}
    file = temporary / f"bt_u{UID}"
    (tmp_path / "elsewhere").write_text("a-token")
    file.symlink_to(tmp_path / "elsewhere")
    assert find_credentials(environment, UID) == []
    file.unlink()
    (temporary / f"bt_u{UID + 1}").write_text("planted")
    assert find_credentials(environment, UID + 1) == []


def test_a_pipe_does_not_stop_the_search(tmp_path: Path, temporary: Path) -> None:
    environment, files = places(tmp_path, temporary)
    files[0].unlink()
    os.mkfifo(files[0])
    assert find_credentials(environment, UID)[0].content == "of-BEARER_TOKEN"


def test_a_proxy_is_found_with_its_end(tmp_path: Path, temporary: Path) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    tls = create_session_certificates(tmp_path / "tls", now=start, lifetime=timedelta(hours=12))
    proxy = tls.certificate("client").read_text() + tls.key("client").read_text()
    environment = {"CASABINDER_SECRETS": str(tmp_path)}
    write_private(temporary / f"x509up_u{UID}", proxy)
    (found,) = find_credentials(environment, UID)
    assert (found.kind, found.source) == ("proxy", str(temporary / f"x509up_u{UID}"))
    assert found.ends == (start + timedelta(hours=12)).timestamp()
    environment["X509_USER_PROXY"] = str(tmp_path / "own")
    write_private(tmp_path / "own", f"-----BEGIN CERTIFICATE-----\nbroken\n{proxy}")
    (found,) = find_credentials(environment, UID)
    assert (found.source, found.ends) == (str(tmp_path / "own"), None)


def encoded(claims: object) -> str:
    return "e30." + base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode() + ".c2ln"


@pytest.mark.parametrize(
    ("token", "times"),
    [
        (encoded({"iat": 5, "nbf": 10, "exp": 20}), (10, 20)),
        (encoded({"iat": 5, "exp": 20.5}), (5, 20.5)),
        (encoded({"exp": "tomorrow"}), (None, None)),
        (encoded({"exp": True}), (None, None)),
        (encoded([]), (None, None)),
        ("a.!.c", (None, None)),
        ("MDAxY2xvY2F0aW9uIG1hY2Fyb29u", (None, None)),
    ],
)
def test_a_token_says_how_long_it_is_good(token: str, times: tuple[float | None, float | None]) -> None:
    assert token_times(token) == times


def test_nothing_shows_what_a_credential_is() -> None:
    credential = Credential("token", "secret", "$BEARER_TOKEN", Path("/run/x"))
    assert "secret" not in repr(credential)


def test_files_of_a_worker_are_its_own(tmp_path: Path) -> None:
    environment = {"BEARER_TOKEN": "old", "HOME": "/home"}
    directory = tmp_path / "credentials"
    for token in ("one", "two"):
        install({"token": token, "proxy": "chain"}, directory, environment)
    assert environment == {
        "HOME": "/home",
        "BEARER_TOKEN_FILE": str(directory / "bearer_token"),
        "X509_USER_PROXY": str(directory / "x509_proxy"),
    }
    assert (directory / "bearer_token").read_text() == "two"
    assert [oct(path.stat().st_mode & 0o777) for path in (directory, *sorted(directory.iterdir()))] == [
        "0o700",
        "0o400",
        "0o400",
    ]


def test_kernels_are_pointed_to_what_they_would_not_find(tmp_path: Path) -> None:
    environment = {"CASABINDER_SECRETS": str(tmp_path)}
    token = tmp_path / "data" / "bearer_token"
    assert kernel_variables(environment, with_command=False) == {}
    assert kernel_variables(environment, with_command=True) == {"BEARER_TOKEN_FILE": str(token)}
    write_private(token, "token")
    write_private(tmp_path / "data" / "x509_proxy", "proxy")
    assert kernel_variables(environment, with_command=False) == {
        "BEARER_TOKEN_FILE": str(token),
        "X509_USER_PROXY": str(tmp_path / "data" / "x509_proxy"),
    }
