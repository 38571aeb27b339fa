"""Checks bytes against the digest and the size they were announced with."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from registry_sync.errors import DigestMismatchError
from registry_sync.reference import validate_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def digest_of(data: bytes, like: str) -> str:
    """Return the digest of ``data`` by the algorithm of the digest ``like``."""
    algorithm = validate_digest(like).partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def verified(chunks: Iterable[bytes], digest: str, size: int | None = None, *, where: str) -> Iterator[bytes]:
    """Yield ``chunks`` unchanged; raise :class:`DigestMismatchError` at the end (or beyond ``size``) if they differ.

    ``size`` is in bytes, ``None`` if unknown; ``where`` names the origin in the message. Whoever stops reading early
    has no verified bytes.
    """
    algorithm = validate_digest(digest).partition(":")[0]
    hasher = hashlib.new(algorithm)
    count = 0
    for chunk in chunks:
        count += len(chunk)
        if size is not None and count > size:
            raise DigestMismatchError(f"{where}: {digest} is larger than the {size} bytes announced")
        hasher.update(chunk)
        yield chunk
    if size is not None and count != size:
        raise DigestMismatchError(f"{where}: {digest} came with {count} bytes instead of {size}")
    found = f"{algorithm}:{hasher.hexdigest()}"
    if found != digest:
        raise DigestMismatchError(f"{where}: the bytes sent as {digest} have the digest {found}")
