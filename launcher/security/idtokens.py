"""Makes HTCondor IDTOKENs: a user's own, with an end and a narrow authorisation.

An IDTOKEN is a JSON Web Token (HS256) that a pool accepts if it was signed with one of its signing keys. HTCondor keeps
a key in a file, scrambled; what signs is derived from it::

    file --XOR de ad be ef--> key --(twice, if it is called POOL)--> HKDF-SHA256("htcondor", "master jwt") --> 32 bytes

Sources: HTCondor's ``getTokenSigningKey`` (store_cred.cpp) and ``condor_auth_passwd.cpp``, and tokens that a pool's
own ``condor_token_create`` made.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import re
import secrets
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from registry_sync.errors import CasabinderError
from registry_sync.manifest import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCOPE = "condor:/READ condor:/WRITE"
POOL_KEY = "POOL"
_SCRAMBLE = bytes.fromhex("deadbeef")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,63}")
# As one of these a token would be a daemon's, or that of nobody in particular.
_NOT_USERS = frozenset({"root", "condor", "condor_pool", "anonymous", "unauthenticated", "unmapped", "daemon"})


@dataclass(frozen=True)
class SigningKey:
    """A pool's signing key: its name in the pool (``kid``), and what is derived from its file."""

    name: str
    derived: bytes = field(repr=False)

    @classmethod
    def from_bytes(cls, name: str, scrambled: bytes) -> SigningKey:
        """Return the key of a file's contents."""
        key = bytes(a ^ b for a, b in zip(scrambled, itertools.cycle(_SCRAMBLE), strict=False))
        if name == POOL_KEY:
            key *= 2
        return cls(name, HKDF(SHA256(), 32, salt=b"htcondor", info=b"master jwt").derive(key))

    @classmethod
    def load(cls, file: Path, name: str) -> SigningKey:
        """Read a key's file; raise :class:`CasabinderError` if it can't be, is empty, or can be read by others."""
        try:
            if stat.S_IMODE(file.stat().st_mode) & 0o077:
                raise CasabinderError(f"the pool's signing key {file} can be read by others; run `chmod 600 {file}`")
            content = file.read_bytes()
        except OSError as error:
            raise CasabinderError(f"the pool's signing key {file} can't be read: {error.strerror}") from error
        if not content:
            raise CasabinderError(f"the pool's signing key {file} is empty")
        return cls.from_bytes(name, content)


def is_user(name: str) -> bool:
    """Whether tokens are made for this name: it can be an account, and is none of the pool's own."""
    return _USER.fullmatch(name) is not None and name.lower() not in _NOT_USERS


def mint(key: SigningKey, user: str, trust_domain: str, *, now: float, seconds: int) -> str:
    """Return a token for ``user@trust_domain`` that lets read and submit for ``seconds`` from ``now`` (POSIX time).

    Raises :class:`CasabinderError` for a user who can't be one of the pool, such as ``root`` or ``condor``.
    """
    if not is_user(user):
        raise CasabinderError(
            f"{user!r} can't be a user of an HTCondor pool: state another with `pool.user` in site.yaml"
        )
    issued = int(now)
    claims = {
        "exp": issued + seconds,
        "iat": issued,
        "iss": trust_domain,
        "jti": secrets.token_hex(16),
        "scope": SCOPE,
        "sub": f"{user}@{trust_domain}",
    }
    signed = f"{_part({'alg': 'HS256', 'kid': key.name, 'typ': 'JWT'})}.{_part(claims)}"
    return f"{signed}.{_base64(hmac.digest(key.derived, signed.encode(), hashlib.sha256))}"


def _part(document: Mapping[str, object]) -> str:
    return _base64(canonical_json(document))


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")
