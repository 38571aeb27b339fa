"""An issuer of SciTokens that exists for tests only: signs tokens, and has its keys known to a server beforehand.

SciTokens' C++ library keeps the keys of issuers in an SQLite file below ``$XDG_CACHE_HOME``; what is in it and has not
expired is not fetched (``scitokens_cache.cpp``). So the issuer needs no address that answers.
"""

from __future__ import annotations

import base64
import json
import secrets
import sqlite3
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

if TYPE_CHECKING:
    from pathlib import Path

KEYS_SECONDS = 7 * 86_400


@dataclass(frozen=True)
class Issuer:
    """An issuer with a key of its own (ES256)."""

    address: str = "https://issuer.testbed.invalid"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()), repr=False)

    def token(self, seconds: float = 3600, *, scope: str = "read:/", begins: float | None = None) -> str:
        """Return a token that is good for ``seconds`` from now (below zero: that has ended), since ``begins``."""
        now = time.time()
        since = int(min(now - 60, now + seconds - 60) if begins is None else begins)
        claims = {
            "iss": self.address,
            "sub": "alice",
            "aud": "ANY",
            "ver": "scitoken:2.0",
            "scope": scope,
            "iat": since,
            "nbf": since,
            "exp": int(now + seconds),
            "jti": secrets.token_hex(8),
        }
        text = f"{_encoded({'alg': 'ES256', 'kid': 'testbed', 'typ': 'JWT'})}.{_encoded(claims)}"
        one, two = decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{_base64(one.to_bytes(32, 'big') + two.to_bytes(32, 'big'))}"

    def make_known(self, cache: Path) -> None:
        """Write the issuer's public key where a server with ``XDG_CACHE_HOME=cache`` looks for it."""
        numbers = self.key.public_key().public_numbers()
        point = {name: _base64(value.to_bytes(32, "big")) for name, value in (("x", numbers.x), ("y", numbers.y))}
        keys = [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "testbed", **point}]
        until = int(time.time()) + KEYS_SECONDS
        entry = json.dumps({"jwks": {"keys": keys}, "expires": until, "next_update": until})
        directory = cache / "scitokens"
        directory.mkdir(parents=True)
        database = sqlite3.connect(directory / "scitokens_cpp.sqllite")  # the library's own spelling
        with database:
            database.execute("CREATE TABLE keycache (issuer text UNIQUE PRIMARY KEY NOT NULL, keys text NOT NULL)")
            database.execute("INSERT INTO keycache VALUES (?, ?)", (self.address, entry))
        database.close()


def _encoded(document: dict[str, object]) -> str:
    return _base64(json.dumps(document).encode())


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
