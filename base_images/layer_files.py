"""Reads a layer as a stream and says of each file how many bytes it takes, compressed and unpacked.

A layer's compressed bytes are one stream, so what a file takes of them is what is read between the beginning of its
header and that of the next one. The tar is read in steps of :data:`_STEP` bytes, so a border is exact to one step, and
what one file has too much its neighbour has too little: the sum is exact.
"""

from __future__ import annotations

import re
import shutil
import tarfile
import tempfile
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, cast

from base_images.elf import symbol_bytes
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from registry_sync.manifest import Descriptor

_SHARED = re.compile(r"\.so(\.[0-9.]+)?$")
_STEP = 4096
_PIECE = 16 * 1024  # of compressed bytes; what zlib does not take of them is copied


@dataclass(frozen=True)
class LayerFile:
    """A file of a layer: its path from the image's root, its ``size``, and the ``compressed`` bytes that it takes.

    ``symbols`` are those of its bytes that are symbols and debug information; ``text`` is its content, if that was
    wanted.
    """

    path: str
    size: int
    compressed: int = 0
    symbols: int = 0
    text: bytes = b""


def layer_files(
    layer: Descriptor, chunks: Iterable[bytes], wanted: Callable[[str], bool] = lambda _path: False
) -> Iterator[LayerFile]:
    """Yield the files of a layer whose bytes are ``chunks``, with the contents of those that are ``wanted``.

    Raises :class:`CasabinderError` if it is not a gzipped tar.
    """
    if not layer.media_type.endswith("gzip"):
        raise CasabinderError(f"the layer {layer.digest} is {layer.media_type}, and only layers with gzip are measured")
    stream = _Inflated(iter(chunks))
    last: LayerFile | None = None
    begun = 0
    try:
        with tarfile.open(fileobj=cast("BinaryIO", stream), mode="r|", bufsize=_STEP) as tar:
            for member in tar:
                if last is not None:
                    yield replace(last, compressed=stream.used - begun)
                    begun, last = stream.used, None
                if member.isfile():
                    last = _looked_into(tar, member, wanted)
        while stream.read(_PIECE):
            pass
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise CasabinderError(f"the layer {layer.digest} is damaged, or no layer: {error}") from error
    if last is not None:
        yield replace(last, compressed=stream.used - begun)


def _looked_into(tar: tarfile.TarFile, member: tarfile.TarInfo, wanted: Callable[[str], bool]) -> LayerFile:
    """Return a file, but for the compressed bytes it takes."""
    path = member.name.strip("/")
    content = tar.extractfile(member) if wanted(path) or _SHARED.search(path) else None
    if content is None:
        return LayerFile(path, member.size)
    if wanted(path):
        return LayerFile(path, member.size, text=content.read())
    with tempfile.TemporaryFile() as whole:
        shutil.copyfileobj(content, whole)
        return LayerFile(path, member.size, symbols=symbol_bytes(whole))


class _Inflated:
    """A gzip stream, of one or many members, as a file that counts the compressed bytes it has ``used``."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = (chunk[at : at + _PIECE] for chunk in chunks for at in range(0, len(chunk), _PIECE))
        self._member = zlib.decompressobj(wbits=31)
        self._rest = b""
        self.used = 0

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes, or what there is."""
        pieces = []
        while size:
            if not self._rest:
                self._rest = next(self._chunks, b"")
            if not self._rest:
                break
            piece = self._member.decompress(self._rest, size)
            rest = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            self.used += len(self._rest) - len(rest)
            self._rest = rest
            if self._member.eof:
                self._member = zlib.decompressobj(wbits=31)
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)
