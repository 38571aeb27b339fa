"""The service's one secret, and the keys that are derived from it: one for every purpose, so that none opens another.

All replicas and the hub read the same file. It is made once, by whoever starts first.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from pathlib import Path

Purpose = Literal["build-token", "visitor", "xsrf", "vouch", "server-token", "vault", "hub-cookie", "proxy", "service"]
_SECRET = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Keys:
    """Keys derived from a secret of 32 bytes."""

    secret: bytes = field(repr=False)

    @classmethod
    def load(cls, file: Path) -> Keys:
        """Read the secret, or make it if there is no such file; raise :class:`CasabinderError` for a wrong one."""
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                pass
            else:
                with os.fdopen(descriptor, "w", encoding="ascii") as sink:
                    sink.write(secrets.token_hex(32) + "\n")
            if stat.S_IMODE(file.stat().st_mode) & 0o077:
                raise CasabinderError(f"the secret {file} can be read by others; run `chmod 600 {file}`")
            text = file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CasabinderError(f"the secret {file} can't be read or made: {error}") from error
        if not _SECRET.fullmatch(text):
            raise CasabinderError(f"the secret {file} must be 64 hex digits (32 random bytes)")
        return cls(bytes.fromhex(text))

    def key(self, purpose: Purpose) -> bytes:
        """Return the 32 bytes for a purpose."""
        return HKDF(SHA256(), 32, salt=None, info=f"casabinder {purpose}".encode()).derive(self.secret)

    def hex(self, purpose: Purpose) -> str:
        """Return :meth:`key` as 64 hex digits."""
        return self.key(purpose).hex()
