"""Reads a wheel's zip directory without trusting it, and gives members' bytes as they lie in the file.

``zipfile`` is lenient where a layer must not be: it hides what follows a NUL in a name, takes the last of two members
with one name, and lets members overlap. Here such a file is refused. Source: PKWARE APPNOTE 4.3.7 (local header) and
4.4.4 (general purpose bits).
"""

from __future__ import annotations

import stat
import struct
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from builder.layers.archive import check_path
from builder.layers.content import CHUNK
from builder.layers.errors import LayerError
from builder.layers.layer import Deflated, Streamed
from builder.layers.section import FileSection

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_ENCRYPTED = 0x1 | 0x20 | 0x40 | 0x2000  # also patched data, strong encryption, and masked headers


@dataclass(frozen=True)
class Member:
    """One file of a zip: its name, where its bytes start, and what the directory says of them."""

    archive: Path
    name: str
    offset: int
    compressed_size: int
    size: int
    crc32: int
    deflated: bool
    executable: bool

    def content(self, checksum: str = "") -> Deflated | Streamed:
        """Return the member as the content of a layer entry. The zip is opened when that is read."""
        if self.deflated:
            return Deflated(self._chunks, self.compressed_size, self.crc32, self.size, checksum)
        return Streamed(
            lambda: cast("BinaryIO", FileSection(self.archive, self.offset, self.size)), self.size, checksum
        )

    def _chunks(self) -> Iterator[bytes]:
        with FileSection(self.archive, self.offset, self.compressed_size) as section:
            while chunk := section.read(CHUNK):
                yield chunk


def read_members(archive: Path, zipped: zipfile.ZipFile) -> tuple[Member, ...]:
    """Return the files of ``zipped`` (opened from ``archive``) in its order; directories are left out.

    Raises:
        LayerError: a member is encrypted, compressed in another way than deflate, a symbolic link or another special
            file, twice there, or overlaps another; or its name is not usable in a layer.
    """
    found = []
    names: set[str] = set()
    free = 0
    with archive.open("rb") as file:
        for info in sorted(zipped.infolist(), key=lambda info: info.header_offset):
            where = f"{archive.name}: the member {info.filename!r}"
            member = _member(archive, info, where, file)
            if info.header_offset < free or member.offset + member.compressed_size > zipped.start_dir:
                raise LayerError(f"{where} overlaps another part of the zip")
            free = member.offset + member.compressed_size
            if info.filename in names:
                raise LayerError(f"{where} is there twice")
            names.add(info.filename)
            if not info.is_dir():
                found.append(member)
    order = {info.filename: position for position, info in enumerate(zipped.infolist())}
    return tuple(sorted(found, key=lambda member: order[member.name]))


def _member(archive: Path, info: zipfile.ZipInfo, where: str, file: BinaryIO) -> Member:
    if info.orig_filename != info.filename or "\\" in info.filename:
        raise LayerError(f"{where} has a name with a NUL or a backslash in it")
    try:
        check_path(info.filename.removesuffix("/"))
    except LayerError as error:
        raise LayerError(f"{archive.name}: {error}") from error
    if info.flag_bits & _ENCRYPTED:
        raise LayerError(f"{where} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise LayerError(f"{where} is compressed in another way than wheels are (method {info.compress_type})")
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        raise LayerError(f"{where} is not compressed, but its two sizes differ")
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise LayerError(f"{where} is a symbolic link or another special file, which wheels do not have")
    header = b""
    if info.header_offset >= 0:  # zipfile makes it negative for a zip that is cut short
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
        raise LayerError(f"{where} has no header of its own; the file is damaged")
    *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    encoding = "utf-8" if info.flag_bits & 0x800 else "cp437"
    if file.read(name_length) != info.orig_filename.encode(encoding):
        raise LayerError(f"{where} has another name in its own header than in the directory")
    return Member(
        archive=archive,
        name=info.filename,
        offset=info.header_offset + _LOCAL_HEADER.size + name_length + extra_length,
        compressed_size=info.compress_size,
        size=info.file_size,
        crc32=info.CRC,
        deflated=info.compress_type == zipfile.ZIP_DEFLATED,
        executable=bool(stat.S_ISREG(mode) and mode & 0o111),
    )
