"""What a launch gives to read data with: where it is found, and what is refused."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from casabinder_runtime import data_access as runtime
from casabinder_runtime.pools import PoolConfig

from launcher import data_access
from launcher.container import LaunchOptions, describe, server_name
from launcher.data_access import FILES, KINDS, DataAccess, Kind, credentials_of_user, discover
from launcher.site_config import Data, Site, load_site
from registry_sync.errors import CasabinderError
from tests.unit.launcher.records import RECORD

if TYPE_CHECKING:
    from pathlib import Path

PROXY = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----"
UID = os.getuid()


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in the place of /tmp."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    for module in (data_access, runtime):
        monkeypatch.setattr(module, "TEMPORARY", directory)
    return directory


def private(path: Path, content: str) -> str:
    """Write a file of mode 600 and return its name."""
    path.parent.mkdir(exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(content)
    return str(path)


@pytest.mark.parametrize("missing", range(5))
def test_it_is_found_as_the_session_finds_it(tmp_path: Path, temporary: Path, missing: int) -> None:
    """Of all standard places, the first so many are empty."""
    environment = {
        "BEARER_TOKEN": "one",
        "BEARER_TOKEN_FILE": private(tmp_path / "token", "two\n"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "CASABINDER_SECRETS": str(tmp_path),
    }
    places = [tmp_path / "token", tmp_path / "run" / f"bt_u{UID}", temporary / f"bt_u{UID}"]
    private(places[1], "three")
    private(places[2], "four")
    if missing:
        environment["BEARER_TOKEN"] = ""
    for path in places[: max(0, missing - 1)]:
        path.write_text("")
    content, _ = discover("token", environment, UID)
    assert content == ["one", "two", "three", "four", ""][missing]
    assert [one.content for one in runtime.find_credentials(environment, UID)] == ([content] if content else [])


def test_a_planted_file_is_not_taken(temporary: Path) -> None:
    private(temporary / f"x509up_u{UID + 1}", PROXY)
    assert discover("proxy", {}, UID + 1) == ("", "")
    private(temporary / f"x509up_u{UID}", PROXY)
    assert discover("proxy", {}, UID) == (PROXY, str(temporary / f"x509up_u{UID}"))


def test_what_is_asked_for_is_taken_along(tmp_path: Path) -> None:
    environment = {"BEARER_TOKEN": "a.b.c", "X509_USER_PROXY": private(tmp_path / "proxy", PROXY)}
    both, none = Site(data=Data(bring=("token", "proxy"))), Site()
    said: list[str] = []

    def taken(site: Site, token: str | None, proxy: str | None) -> dict[Kind, str]:
        return credentials_of_user({"token": token, "proxy": proxy}, site, said.append, environment)

    assert taken(none, None, None) == {}
    assert taken(both, None, None) == {"token": "a.b.c", "proxy": PROXY}
    assert taken(both, None, "none") == {"token": "a.b.c"}
    assert taken(none, "auto", None) == {"token": "a.b.c"}
    assert taken(both, private(tmp_path / "own", "d.e.f\n"), "none") == {"token": "d.e.f"}
    assert f"taking along the data proxy of {tmp_path / 'proxy'}" in said
    assert "a.b.c" not in " ".join(said)
    environment.clear()
    assert taken(both, None, None) == {}
    assert said[-2:] == [f"there is no data {kind} here to take along" for kind in KINDS]
    with pytest.raises(CasabinderError, match=r"there is no data token here \(looked at BEARER_TOKEN, "):
        taken(none, "auto", None)


@pytest.mark.parametrize(
    ("content", "mode", "sentence"),
    [
        ("a.b.c", 0o640, "can be read by others; run `chmod 600"),
        ("", 0o600, "is no data token: its content must be one word: a bearer token"),
        ("two words", 0o600, "is no data token"),
        (None, 0o600, "can't be read: No such file"),
    ],
)
def test_a_file_that_is_refused(tmp_path: Path, content: str | None, mode: int, sentence: str) -> None:
    file = tmp_path / "token"
    if content is not None:
        private(file, content)
        file.chmod(mode)
    with pytest.raises(CasabinderError, match=sentence):
        credentials_of_user({"token": str(file)}, Site(), lambda _: None, {})


def test_a_session_is_told_of_settings_and_gets_files(tmp_path: Path) -> None:
    data = DataAccess({"XCACHE_HOST": "xcache"}, ("oidc-token", "example"), {"token": "a.b.c", "proxy": PROXY})
    assert data.files() == {"data/bearer_token": "a.b.c\n", "data/x509_proxy": f"{PROXY}\n"}
    assert [f"{runtime.DIRECTORY}/{runtime.FILES[kind]}" for kind in KINDS] == [FILES[kind] for kind in KINDS]
    assert "a.b.c" not in repr(data)
    options = LaunchOptions(workers=1, data=data)
    container = describe(RECORD, options, "name", "owner")
    told = PoolConfig.parse(container.environment["CASABINDER_POOL"])
    assert (told.environment, told.token_command) == ({"XCACHE_HOST": "xcache"}, ("oidc-token", "example"))
    assert "a.b.c" not in json.dumps([container.arguments(), container.environment_file().decode()])
    same = LaunchOptions(workers=1, data=DataAccess({"XCACHE_HOST": "xcache"}, ("oidc-token", "example")))
    assert server_name(RECORD, options, "owner") == server_name(RECORD, same, "owner"), "a newer token, the same server"
    assert server_name(RECORD, options, "owner") != server_name(RECORD, LaunchOptions(workers=1), "owner")
    assert DataAccess().told() == {}


def test_a_site_says_what_data_are_read_with(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(
        "data:\n  environment: {XCACHE_HOST: xcache.example.org, XRD_LOGLEVEL: Warning, X509_CERT_DIR: /etc/certs}\n"
        '  token_command: [htgettoken, -o, "{file}"]\n  bring: [token]\n'
    )
    site = load_site(file)
    assert DataAccess.of_site(site).told() == {
        "environment": {"XCACHE_HOST": "xcache.example.org", "XRD_LOGLEVEL": "Warning", "X509_CERT_DIR": "/etc/certs"},
        "data": {"token_command": ["htgettoken", "-o", "{file}"]},
    }
    assert site.data.bring == ("token",)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"environment": {"A B": "x"}}, "'A B' is not the name of an environment variable"),
        ({"environment": {"XCACHE_TOKEN": "x"}}, "XCACHE_TOKEN looks like a secret"),
        ({"environment": {"BEARER_TOKEN_FILE": "/x"}}, "BEARER_TOKEN_FILE looks like a secret"),
        ({"environment": {"DB_PASSWORD": "x"}}, "DB_PASSWORD looks like a secret"),
        ({"environment": {"AWS_SECRET_ACCESS_KEY": "x"}}, "looks like a secret"),
        ({"environment": {"XCACHE": "eyJhbGciOiJFUzI1NiJ9.e30.c2ln"}}, "XCACHE looks like a secret"),
        ({"environment": {"PROXY": "https://user:word@proxy"}}, "PROXY looks like a secret"),
        ({"environment": {"CASABINDER_POOL": "{}"}}, "CASABINDER_POOL is set by casabinder or the system"),
        ({"environment": {"X509_USER_PROXY": "/x"}}, "X509_USER_PROXY is set by casabinder or the system"),
        ({"environment": {"LD_PRELOAD": "x.so"}}, "LD_PRELOAD is set by casabinder or the system"),
        ({"environment": {"_CONDOR_SCRATCH_DIR": "/x"}}, "_CONDOR_SCRATCH_DIR is set by casabinder or the system"),
        ({"environment": {"PYTHONPATH": "/x"}}, "PYTHONPATH is set by casabinder or the system"),
        ({"environment": {"PATH": "/x"}}, "PATH is set by casabinder or the system"),
        ({"environment": {"A": "one\ntwo"}}, "the value of A must be one line"),
        ({"environment": {"A": "$(HOME)"}}, "the value of A must be one line without a `\\$`"),
        ({"token_command": ["a\nb"]}, "data.token_command"),
        ({"bring": ["password"]}, "data.bring"),
    ],
)
def test_what_a_site_may_not_say(tmp_path: Path, data: dict[str, Any], sentence: str) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(json.dumps({"data": data}))
    with pytest.raises(CasabinderError, match=sentence):
        load_site(file)
