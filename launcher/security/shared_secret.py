"""Secrets that another service shows to prove who it is: read from files, compared in constant time."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from pathlib import Path

SHORTEST = 16


def read_secret(file: Path) -> bytes:
    """Return the secret in a file, without the newline at its end.

    Raises :class:`CasabinderError` for a file that can't be read, that others can read, or whose secret is too short.
    """
    try:
        if file.stat().st_mode & 0o007:
            raise CasabinderError(f"the secret {file} can be read by others; run `chmod 600 {file}`")
        secret = file.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise CasabinderError(f"the secret {file} can't be read: {error.strerror}") from error
    if len(secret) < SHORTEST:
        raise CasabinderError(f"the secret {file} has less than {SHORTEST} characters: try `openssl rand -hex 32`")
    return secret


def signed(secret: bytes, body: bytes, signature: str) -> bool:
    """Say whether ``signature`` (``sha256=<hex>``) is the HMAC of a body, as GitHub makes it."""
    expected = f"sha256={hmac.new(secret, body, sha256).hexdigest()}"
    return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace"))


def same(secret: bytes, shown: str) -> bool:
    """Say whether what was shown is the secret; how long the answer takes says nothing, not even of its length."""
    digest = sha256(shown.encode("utf-8", "replace")).digest()
    return hmac.compare_digest(sha256(secret).digest(), digest)
