"""Writes the entries of a layer as a compressed tar whose bytes depend on the entries alone.

gzip is the rule, and described here; :mod:`builder.layers.zstd` is the other way, for sites that choose it.

A gzip file may be several members one after another, and readers see their contents joined (RFC 1952, 2.2). So a
layer's tar is cut into pieces, and each piece is a gzip member of its own, in one of two ways:

- *verbatim*: a file whose bytes are compressed already (``Deflated``, a member of a wheel) and not tiny keeps its
  deflate stream. It is inflated once, for the diff_id and to see that CRC, size and checksum are not a lie.
- *compressed here*: everything else, that is tar headers, padding, small files and content that is not compressed
  yet. It is collected and cut after every ``PIECE`` bytes, and before each verbatim file.

For a wheel with ``pkg/__init__.py`` (90 bytes) and ``pkg/core.so`` (300 MB, deflated to 100 MB) that gives::

    member 1  header of pkg/, header and text of __init__.py, header of core.so     2 kB in, 300 bytes out
    member 2  the deflate stream of core.so as the wheel has it                     300 MB in, 100 MB out
    member 3  padding of core.so, the end of the tar                                1 kB in, 30 bytes out

Memory stays at a few ``PIECE``s however big the files are.

**Which compressor, and why not zlib.** The digest of a layer is over compressed bytes, and the same inputs are to
give the same digest on any machine and Python. ``zlib`` cannot promise that: Fedora, RHEL 10, Python's Windows
builds and others put zlib-ng behind that name, whose bytes differ (and differ by CPU, as ISA-L's do). libdeflate is,
in its author's words, "deterministic for a particular version" (ebiggers/libdeflate issue 400). The package
``deflate`` carries one version of it in its wheels and in its source distribution (a wheel and a local build, under
three Pythons, gave one digest), so ``deflate==0.9.0`` in the project's dependencies
fixes the bytes. It is also smaller and nearly three times as fast as zlib at level 6 (all of numpy's wheel: 16.14 MB
at 70 MB/s, zlib 16.27 MB at 24 MB/s). Stored blocks, which need no compressor, would make the layers of numpy and
mplhep 1.4 and 4.6 times as big. A machine with another libdeflate is told so by :func:`check_compressor` and makes no
layers. Big-endian machines are untested; the check would tell. Inflating may be done by any zlib.
"""

from __future__ import annotations

import functools
import hashlib
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import deflate

from builder.layers.content import Inflater, content_size, read_content
from builder.layers.errors import LayerError
from builder.layers.layer import Compression, Deflated, Entry
from builder.layers.tarheader import BLOCK, TRAILER, tar_header, written_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.layers.zstd import ZstdWriter

PIECE = 1024 * 1024
"""Uncompressed bytes per gzip member of what is compressed here. A part of the recipe, as the two below."""
LEVEL = 6
"""libdeflate's compression level."""
VERBATIM = 16 * 1024
"""Deflated files keep their own stream from this many compressed bytes on; smaller ones compress better together."""

# RFC 1952: magic, deflate, no flags, no time, no extra flags, unknown operating system.
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_COMPRESSOR_VECTOR = "ad9ffeadedc506b0350e2332e91af81b62721b38560f7943ab25f3a702e445a3"


@dataclass(frozen=True)
class WrittenLayer:
    """What :func:`write_layer` wrote: digest and size (bytes) of the compressed blob, diff_id of the tar in it."""

    digest: str
    size: int
    diff_id: str


def write_layer(entries: Iterable[Entry], sink: BinaryIO, compression: Compression = "gzip") -> WrittenLayer:
    """Write ``entries`` to ``sink`` as a ``tar+gzip`` or ``tar+zstd`` layer and return what was written.

    The entries may come in any order: they are written sorted by path, a directory before what lies in it, with
    parents that have no entry made up (mode 0755, root). Directories may be given twice if they are identical.
    All times are 1980-01-01 (:data:`~builder.layers.tarheader.SOURCE_DATE`), there are no user names.

    Raises:
        LayerError: an unusable path (absolute, ``..``, NUL, ``.wh.``...), two entries with one path, an entry that
            lies in something that is no directory, a whiteout of what the layer itself holds, or content that has
            not the size, CRC or checksum it was announced with. ``sink`` then holds a part of a layer.
    """
    ordered = _arrange(entries)
    writer = _writer(sink, compression)
    for entry in ordered:
        size = content_size(entry)
        writer.add(tar_header(entry, size))
        if entry.kind != "file":
            continue
        content = entry.content
        if isinstance(writer, _PieceWriter) and isinstance(content, Deflated) and content.compressed_size >= VERBATIM:
            writer.add_verbatim(entry.path, content)
        else:
            for data in read_content(entry):
                writer.add(data)
        writer.add(bytes(-size % BLOCK))
    writer.add(TRAILER)
    return WrittenLayer(*writer.finish())


def _writer(sink: BinaryIO, compression: Compression) -> _PieceWriter | ZstdWriter:
    if compression == "gzip":
        check_compressor()
        return _PieceWriter(sink)
    from builder.layers.zstd import ZstdWriter

    return ZstdWriter(sink)


@functools.cache
def check_compressor() -> None:
    """Raise :class:`LayerError` if the compressor here does not give the bytes that layers are defined by."""
    words = [hashlib.sha256(bytes([n])).hexdigest()[: 3 + n % 14].encode() for n in range(256)]
    order = b"".join(hashlib.sha256(b"order %d" % n).digest() for n in range(2048))
    text = b" ".join(words[n] for n in order) + order
    found = hashlib.sha256(deflate.deflate_compress(text, LEVEL)).hexdigest()
    if found != _COMPRESSOR_VECTOR:
        raise LayerError(
            f"the compressor installed here (deflate {deflate.__version__}) gives other bytes than the one layers are "
            "defined by, so their digests would be nobody else's; install deflate==0.9.0"
        )


def check_path(path: str) -> None:
    """Raise :class:`LayerError` unless ``path`` can stand in a layer.

    Relative to the image's root, parts between ``/`` none of which is empty, ``.``, ``..``, longer than a file
    system allows (255 bytes) or a whiteout's name (``.wh.``...), encodable as UTF-8, and without NUL.
    """
    try:
        encoded = path.encode()
    except UnicodeEncodeError as error:
        raise LayerError(f"the path {path!r} is not UTF-8; rename it") from error
    if path.startswith("/"):
        raise LayerError(f"the path {path!r} is absolute; a layer takes paths relative to the image's root")
    if b"\0" in encoded:
        raise LayerError(f"the path {path!r} contains a NUL character")
    for part in path.split("/"):
        if part in ("", ".", ".."):
            raise LayerError(f"the path {path!r} has a part {part!r}, which could lead elsewhere")
        if part.startswith(".wh."):
            raise LayerError(f"the path {path!r} has a part that starts with .wh., which would delete files; rename it")
        if len(part.encode()) > 255:
            raise LayerError(f"the path {path!r} has a part of more than 255 bytes, too long for file systems")
    if len(encoded) > 4000:
        raise LayerError(f"the path {path[:100]!r}... is longer than 4000 bytes, too long for file systems")


def _arrange(entries: Iterable[Entry]) -> list[Entry]:
    """Check the entries against each other, add missing parents, and return them in the order of the tar."""
    found: dict[str, Entry] = {}
    for entry in entries:
        check_entry(entry)
        there = found.setdefault(entry.path, entry)
        if there is not entry and not (there == entry and entry.kind == "directory"):
            raise LayerError(f"two entries of the layer have the path {entry.path!r}")
    for path in list(found):
        for parent in parents(path):
            above = found.setdefault(parent, Entry(parent, "directory", mode=0o755))
            if above.kind != "directory":
                raise LayerError(f"the layer holds {path!r}, but {parent!r} is a {above.kind} and not a directory")
    return sorted(found.values(), key=written_path)


def parents(path: str) -> Iterator[str]:
    """Yield the directories that ``path`` lies in, nearest first: ``a/b/c`` gives ``a/b`` and ``a``."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def check_entry(entry: Entry) -> None:
    """Raise :class:`LayerError` unless the entry's path, owner, mode and symlink target can stand in a layer."""
    check_path(entry.path)
    if not (0 <= entry.mode <= 0o7777 and 0 <= entry.uid < 1 << 21 and 0 <= entry.gid < 1 << 21):
        raise LayerError(f"{entry.path!r} has a mode or an owner that a tar header cannot hold")
    if entry.kind != "symlink":
        return
    try:
        target = entry.target.encode()
    except UnicodeEncodeError as error:
        raise LayerError(f"the symlink {entry.path!r} has a target that is not UTF-8") from error
    if not target or b"\0" in target or len(target) > 4000:
        raise LayerError(f"the symlink {entry.path!r} has the unusable target {entry.target[:100]!r}")


class _PieceWriter:
    """Takes the tar as a stream of bytes, gives gzip members to ``sink``, and hashes both."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._blob = hashlib.sha256()
        self._tar = hashlib.sha256()
        self._size = 0
        self._pending = bytearray()

    def add(self, data: bytes) -> None:
        """Append ``data`` to the tar, compressed here."""
        self._tar.update(data)
        self._pending += data
        while len(self._pending) >= PIECE:
            self._write_member(bytes(self._pending[:PIECE]))
            del self._pending[:PIECE]

    def add_verbatim(self, path: str, content: Deflated) -> None:
        """Append a file that is compressed already to the tar, as a member of its own."""
        self._flush()
        inflater = Inflater(path, content)
        self._emit(_GZIP_HEADER)
        for chunk in content.chunks():
            self._emit(chunk)
            for data in inflater.feed(chunk):
                self._tar.update(data)
        inflater.finish()
        self._emit(struct.pack("<II", content.crc32, content.size & 0xFFFFFFFF))

    def finish(self) -> tuple[str, int, str]:
        """Return the blob's digest and size, and the tar's digest."""
        self._flush()
        return f"sha256:{self._blob.hexdigest()}", self._size, f"sha256:{self._tar.hexdigest()}"

    def _flush(self) -> None:
        if self._pending:
            self._write_member(bytes(self._pending))
            self._pending.clear()

    def _write_member(self, data: bytes) -> None:
        self._emit(_GZIP_HEADER)
        self._emit(deflate.deflate_compress(data, LEVEL))
        self._emit(struct.pack("<II", zlib.crc32(data), len(data)))

    def _emit(self, data: bytes | bytearray) -> None:
        self._blob.update(data)
        self._size += len(data)
        self._sink.write(data)
