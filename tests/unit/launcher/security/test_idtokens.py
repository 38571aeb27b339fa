"""IDTOKENs: signed as HTCondor does, for users alone, with an end."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.security.idtokens import SCOPE, SigningKey, mint
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from pathlib import Path

# A key that a collector (25.14.1) made, and a token that `condor_token_create -identity alice@testbed` made with it.
KEY_FILE = bytes.fromhex(
    "894f1f0825100231dea374acc64ccd3bbe4d67f5e5fa4540986fca883306065c"
    "14cde9fae3b91b6c3970a92b467477daae83be2ea462f890abaa06e0e3172f72"
)
CONDORS_TOKEN = (
    "eyJhbGciOiJIUzI1NiIsImtpZCI6IlBPT0wifQ."
    "eyJleHAiOjE3OTU0MDA1NTEsImlhdCI6MTc5NTM5Njk1MSwiaXNzIjoidGVzdGJlZCIsImp0aSI6ImZmZTdiNzY4ZmQyMDllYTRhYTZhZDdlNjY1"
    "YzAzMTBkIiwic3ViIjoiYWxpY2VAdGVzdGJlZCJ9."
    "I77h8fAPFPCN9Rwnp05cisrchyFhRF5m0CJqCXKyEiI"
)
NOW = 1_795_000_000.7


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def signed_with(token: str, key: SigningKey) -> bool:
    """Say whether a token is signed with a key."""
    text, _, signature = token.rpartition(".")
    return hmac.digest(key.derived, text.encode(), hashlib.sha256) == decoded(signature)


def claims(token: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(decoded(token.split(".")[1]))
    return document


def test_the_key_is_derived_as_htcondor_derives_it() -> None:
    assert signed_with(CONDORS_TOKEN, SigningKey.from_bytes("POOL", KEY_FILE))
    assert not signed_with(CONDORS_TOKEN, SigningKey.from_bytes("other", KEY_FILE))  # only POOL's is doubled


def test_a_token_is_one_users_for_reading_and_submitting_until_its_end() -> None:
    key = SigningKey.from_bytes("POOL", KEY_FILE)
    token = mint(key, "alice", "testbed", now=NOW, seconds=600)
    assert signed_with(token, key)
    assert json.loads(decoded(token.split(".")[0])) == {"alg": "HS256", "kid": "POOL", "typ": "JWT"}
    document = claims(token)
    assert document.pop("jti") != claims(mint(key, "alice", "testbed", now=NOW, seconds=600))["jti"]
    assert document == {
        "exp": 1_795_000_600,
        "iat": 1_795_000_000,
        "iss": "testbed",
        "scope": SCOPE,
        "sub": "alice@testbed",
    }


@pytest.mark.parametrize(
    "user",
    ["", "root", "condor", "Condor_Pool", "condor@other", "a b", "a\nb", "../x", "-x", "1", "a" * 65, "anonymous"],
)
def test_nobody_but_a_user_gets_a_token(user: str) -> None:
    with pytest.raises(CasabinderError, match="can't be a user of an HTCondor pool"):
        mint(SigningKey.from_bytes("POOL", KEY_FILE), user, "testbed", now=NOW, seconds=600)


@given(st.text())
def test_a_subject_has_one_domain(user: str) -> None:
    try:
        token = mint(SigningKey.from_bytes("POOL", KEY_FILE), user, "testbed", now=NOW, seconds=60)
    except CasabinderError:
        return
    assert claims(token)["sub"].split("@") == [user, "testbed"]


def test_a_key_is_read_from_a_file_that_nobody_else_can_read(tmp_path: Path) -> None:
    file = tmp_path / "POOL"
    with pytest.raises(CasabinderError, match="POOL can't be read: No such file"):
        SigningKey.load(file, "POOL")
    file.write_bytes(KEY_FILE)
    file.chmod(0o640)
    with pytest.raises(CasabinderError, match="can be read by others; run `chmod 600"):
        SigningKey.load(file, "POOL")
    file.chmod(0o600)
    assert SigningKey.load(file, "POOL") == SigningKey.from_bytes("POOL", KEY_FILE)
    file.write_bytes(b"")
    with pytest.raises(CasabinderError, match="POOL is empty"):
        SigningKey.load(file, "POOL")


def test_a_key_is_not_shown() -> None:
    key = SigningKey.from_bytes("POOL", KEY_FILE)
    assert repr(key) == "SigningKey(name='POOL')"
