"""Secrets of webhooks: GitHub's own example of a signature, and files that are not secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.security.shared_secret import read_secret, same, signed
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from pathlib import Path

# https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries#testing-the-webhook-payload-validation
SECRET = b"It's a Secret to Everybody"
BODY = b"Hello, World!"
SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


def test_github_s_example() -> None:
    assert signed(SECRET, BODY, SIGNATURE)


@pytest.mark.parametrize(
    ("secret", "body", "signature"),
    [
        (SECRET, BODY + b"!", SIGNATURE),
        (SECRET + b"!", BODY, SIGNATURE),
        (SECRET, BODY, SIGNATURE[:-1] + "8"),
        (SECRET, BODY, SIGNATURE.upper()),
        (SECRET, BODY, SIGNATURE.removeprefix("sha256=")),
        (SECRET, BODY, SIGNATURE.replace("sha256", "sha1")),
        (SECRET, BODY, ""),
        (SECRET, BODY, "sha256=ü\udc80"),
    ],
)
def test_what_is_not_signed(secret: bytes, body: bytes, signature: str) -> None:
    assert not signed(secret, body, signature)


@given(st.text(max_size=40))
def test_only_the_secret_is_the_secret(shown: str) -> None:
    assert same(SECRET, SECRET.decode())
    assert same(SECRET, shown) is (shown == SECRET.decode())


def test_a_secret_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("a-secret-of-some-length\n")
    file.chmod(0o644)
    with pytest.raises(CasabinderError, match="chmod 600"):
        read_secret(file)
    file.chmod(0o600)
    assert read_secret(file) == b"a-secret-of-some-length"
    file.write_text("too short\n")
    with pytest.raises(CasabinderError, match="less than 16"):
        read_secret(file)
    with pytest.raises(CasabinderError, match="can't be read"):
        read_secret(tmp_path / "nothing")
