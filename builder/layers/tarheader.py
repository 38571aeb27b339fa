"""Makes the tar headers of layer entries: POSIX ustar, with a PAX header only where ustar has no room.

Written here and not left to ``tarfile`` because the bytes decide digests: they may not change with Python's version.
Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.layers.layer import Entry

BLOCK = 512
TRAILER = bytes(2 * BLOCK)
"""What a tar ends with."""
SOURCE_DATE = 315532800
"""Modification time of everything in a layer: 1980-01-01, the earliest a zip can hold (time 0 breaks such tools)."""

_TYPES = {"file": b"0", "whiteout": b"0", "symlink": b"2", "directory": b"5"}
_LARGEST_SIZE = 8**11 - 1


def written_path(entry: Entry) -> str:
    """Return the path that ``entry`` has in the tar: its own, or ``.wh.<name>`` beside it for a whiteout."""
    if entry.kind != "whiteout":
        return entry.path
    parent, slash, name = entry.path.rpartition("/")
    return f"{parent}{slash}.wh.{name}"


def tar_header(entry: Entry, size: int) -> bytes:
    """Return the header block(s) of ``entry``, whose content has ``size`` bytes (0 for all but files).

    Path, target and owner are taken as they are: checking them is :func:`builder.layers.archive.check_entry`'s task.
    """
    name = written_path(entry).encode() + (b"/" if entry.kind == "directory" else b"")
    target = entry.target.encode() if entry.kind == "symlink" else b""
    mode = {"symlink": 0o777, "whiteout": 0}.get(entry.kind, entry.mode)
    extended = b""
    split = _split(name)
    if split is None:
        extended += _record(b"path", name)
        split = (b"", _stand_in(name))
    if not target.isascii() or len(target) > 100:
        extended += _record(b"linkpath", target)
        target = _stand_in(target)
    if size > _LARGEST_SIZE:
        extended += _record(b"size", b"%d" % size)
        size = 0
    header = _block(*split, _TYPES[entry.kind], mode, entry.uid, entry.gid, size, target)
    if not extended:
        return header
    pax = _block(b"", b"././@PaxHeader", b"x", 0o644, 0, 0, len(extended), b"")
    return pax + extended + bytes(-len(extended) % BLOCK) + header


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Return ``name`` as ustar's prefix and name, or ``None`` if it does not fit into these."""
    if not name.isascii():
        return None
    if len(name) <= 100:
        return b"", name
    slash = name.find(b"/", len(name) - 101, len(name) - 1)
    if slash <= 0 or slash > 155:
        return None
    return name[:slash], name[slash + 1 :]


def _stand_in(text: bytes) -> bytes:
    """What readers without PAX support are shown."""
    return text.decode().encode("ascii", "replace")[:100]


def _record(keyword: bytes, value: bytes) -> bytes:
    """Return a PAX record, whose length counts itself."""
    body = len(keyword) + len(value) + 3
    length = body + len(str(body))
    length = body + len(str(length))
    return b"%d %s=%s\n" % (length, keyword, value)


def _block(prefix: bytes, name: bytes, kind: bytes, mode: int, uid: int, gid: int, size: int, target: bytes) -> bytes:
    fields = (
        name.ljust(100, b"\0"),
        b"%07o\0%07o\0%07o\0" % (mode, uid, gid),
        b"%011o\0%011o\0" % (size, SOURCE_DATE),
        b" " * 8,  # the checksum counts as spaces while it is computed
        kind,
        target.ljust(100, b"\0"),
        b"ustar\x0000",
        bytes(32 + 32),  # no user and group names
        b"%07o\0%07o\0" % (0, 0),
        prefix.ljust(155, b"\0"),
        bytes(12),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
