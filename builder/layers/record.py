"""Reads and writes RECORD, a wheel's list of its files with their hashes.

Source: "Recording installed projects" and the binary distribution format (packaging.python.org): every file but
RECORD itself and its signatures must be listed with a hash of sha256 or better, or the installation fails.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
from typing import TYPE_CHECKING

from builder.layers.errors import LayerError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.layers.members import Member

SIGNATURES = ("RECORD.jws", "RECORD.p7s")
"""Files of ``dist-info`` that cannot be in RECORD."""

_LENGTHS = {"sha256": 32, "sha384": 48, "sha512": 64}


def checked_record(text: str, members: Iterable[Member], dist_info: str, where: str) -> dict[str, str]:
    """Return the checksum (``sha256:<hex>``) of every member that RECORD must list.

    Args:
        text: the wheel's RECORD.
        members: the wheel's files; their sizes are compared here, their bytes when they are read.
        dist_info: the name of the ``.dist-info`` directory.
        where: the wheel's file name, for messages.

    Raises:
        LayerError: RECORD cannot be read, or a member is not listed, or with another size, or without a good hash.
    """
    rows: dict[str, list[str]] = {}
    try:
        for row in csv.reader(text.splitlines(), strict=True):
            if len(row) == 3:
                rows[row[0]] = row
            elif row:
                raise LayerError(f"{where}: RECORD has a line with {len(row)} fields instead of 3")
    except csv.Error as error:
        raise LayerError(f"{where}: RECORD cannot be read ({error})") from error
    exempt = {f"{dist_info}/{name}" for name in ("RECORD", *SIGNATURES)}
    checksums = {}
    for member in members:
        if member.name in exempt:
            continue
        if member.name not in rows:
            raise LayerError(f"{where}: the file {member.name!r} is not listed in RECORD")
        _, hashed, size = rows[member.name]
        if size and size != str(member.size):
            raise LayerError(f"{where}: the file {member.name!r} has {member.size} bytes, but {size} in RECORD")
        checksum = _checksum(hashed)
        if not checksum:
            raise LayerError(f"{where}: RECORD has no sha256 (or better) of the file {member.name!r}")
        checksums[member.name] = checksum
    return checksums


def record_text(rows: Iterable[tuple[str, str, int | None]]) -> bytes:
    """Return a RECORD of ``(path, checksum, size)`` rows in the order given; RECORD's own row has neither."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for path, checksum, size in rows:
        writer.writerow((path, _hashed(checksum), "" if size is None else str(size)))
    return text.getvalue().encode()


def _checksum(hashed: str) -> str:
    """Turn ``sha256=<URL-safe base64 without padding>`` into ``sha256:<hex>``; "" if it is not that."""
    algorithm, _, encoded = hashed.partition("=")
    try:
        digest = base64.b64decode(encoded.rstrip("=") + "=" * (-len(encoded.rstrip("=")) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        return ""
    return f"{algorithm}:{digest.hex()}" if _LENGTHS.get(algorithm) == len(digest) else ""


def _hashed(checksum: str) -> str:
    """Turn ``sha256:<hex>`` into ``sha256=<URL-safe base64 without padding>``."""
    algorithm, _, digest = checksum.partition(":")
    return f"{algorithm}={base64.urlsafe_b64encode(bytes.fromhex(digest)).rstrip(b'=').decode()}" if digest else ""
