"""Tokens in the database: for their owner, encrypted, and of no use in another row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from launcher.database import open_database
from launcher.refusal import RefusedError
from launcher.security.keys import Keys
from launcher.security.vault import Vault, credentials
from launcher.site_config import Service
from tests.testbed.jobs import NOW

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

ANN, BEN = "user:ann", "user:ben"
KEYS = Keys(b"s" * 32)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(Service(), tmp_path)
    yield engine
    engine.dispose()


@pytest.fixture
def vault(engine: Engine) -> Vault:
    return Vault(engine, KEYS)


def test_a_token_comes_back(vault: Vault, engine: Engine, tmp_path: Path) -> None:
    first = vault.put(ANN, " Git.Example.org:8443 ", "user:s3cret-token\n", NOW)
    assert vault.reveal(first) == ("git.example.org:8443", "user:s3cret-token")
    assert vault.find(ANN, "GIT.example.org:8443") == first
    assert vault.find(ANN, "git.example.org") is None
    assert vault.find(BEN, "git.example.org:8443") is None
    other = vault.put(ANN, "github.com", "another", NOW + 1)
    assert vault.list(ANN) == [(first, "git.example.org:8443", NOW), (other, "github.com", NOW + 1)]
    assert vault.list(BEN) == []
    engine.dispose()
    stored = b"".join(path.read_bytes() for path in (tmp_path / "service").iterdir())
    assert b"s3cret" not in stored


def test_a_new_token_for_a_host_replaces_the_old_one(vault: Vault) -> None:
    first = vault.put(ANN, "github.com", "old", NOW)
    assert vault.put(ANN, "github.com", "new", NOW + 1) == first
    assert vault.reveal(first) == ("github.com", "new")
    assert vault.list(ANN) == [(first, "github.com", NOW + 1)]


def test_only_the_owner_deletes(vault: Vault) -> None:
    credential = vault.put(ANN, "github.com", "token", NOW)
    assert not vault.delete(BEN, credential)
    assert vault.delete(ANN, credential)
    assert not vault.delete(ANN, credential)
    with pytest.raises(RefusedError, match="was deleted"):
        vault.reveal(credential)


def test_a_token_in_another_row_is_of_no_use(vault: Vault, engine: Engine) -> None:
    anns, bens = vault.put(ANN, "github.com", "anns", NOW), vault.put(BEN, "github.com", "bens", NOW)
    with engine.begin() as connection:
        stolen = connection.execute(select(credentials.c.token).where(credentials.c.id == anns)).scalar_one()
        connection.execute(update(credentials).where(credentials.c.id == bens).values(token=stolen))
    with pytest.raises(RefusedError, match="not what was stored"):
        vault.reveal(bens)
    with engine.begin() as connection:
        connection.execute(update(credentials).where(credentials.c.id == anns).values(host="evil.example.org"))
    with pytest.raises(RefusedError, match="not what was stored"):
        vault.reveal(anns)


def test_another_secret_opens_nothing(vault: Vault, engine: Engine) -> None:
    credential = vault.put(ANN, "github.com", "token", NOW)
    with pytest.raises(RefusedError, match="can't be read any more"):
        Vault(engine, Keys(b"t" * 32)).reveal(credential)


@pytest.mark.parametrize("host", ["", "https://github.com", "github.com/path", "a b", "user@github.com", "-x", "a:b"])
def test_wrong_hosts(vault: Vault, host: str) -> None:
    with pytest.raises(RefusedError, match="give the host"):
        vault.put(ANN, host, "token", NOW)


@pytest.mark.parametrize("token", ["", "two words", "two\nlines", ":token", "user:", "x" * 4097, "tökén"])
def test_wrong_tokens(vault: Vault, token: str) -> None:
    with pytest.raises(RefusedError, match="one line"):
        vault.put(ANN, "github.com", token, NOW)
