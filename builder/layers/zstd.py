"""Compresses a layer's tar with Zstandard, so that its bytes depend on the tar alone.

The whole tar is one frame, whatever it is made of: deflate streams of wheels are inflated and compressed anew, since
zstd has no use for them. That costs the builder time, and gives layers that are a little smaller and are unpacked much
faster (llvmlite's wheel: 57.6 MB in place of 59.7 MB; level 6 would give 53.2 MB at a third of the speed).

Facebook's library promises the same bytes for one version of it, one set of parameters and one sequence of calls; so
the package ``zstandard`` is pinned (it carries the library), level and flags are fixed, one thread works, and the tar
is handed over in pieces of a constant size. :func:`check_zstd` tells a machine that has another library.
"""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, BinaryIO

import zstandard

from builder.layers.errors import LayerError

if TYPE_CHECKING:
    from zstandard import ZstdCompressionObj

PIECE = 1024 * 1024
"""Bytes of the tar that the compressor gets at a time. A part of the recipe, as the level."""
LEVEL = 3
_VECTOR = "5ce62ff881467a9ab538ed39b4f0d387019b91f24e272a7169d7d674e4a10bba"


class ZstdWriter:
    """Takes the tar as a stream of bytes, gives one zstd frame to ``sink``, and hashes both."""

    def __init__(self, sink: BinaryIO) -> None:
        check_zstd()
        self._sink = sink
        self._compressor = _compressor()
        self._blob = hashlib.sha256()
        self._tar = hashlib.sha256()
        self._size = 0
        self._pending = bytearray()

    def add(self, data: bytes) -> None:
        """Append ``data`` to the tar."""
        self._tar.update(data)
        self._pending += data
        while len(self._pending) >= PIECE:
            self._emit(self._compressor.compress(bytes(self._pending[:PIECE])))
            del self._pending[:PIECE]

    def finish(self) -> tuple[str, int, str]:
        """End the frame and return the blob's digest and size, and the tar's digest."""
        self._emit(self._compressor.compress(bytes(self._pending)))
        self._emit(self._compressor.flush())
        return f"sha256:{self._blob.hexdigest()}", self._size, f"sha256:{self._tar.hexdigest()}"

    def _emit(self, data: bytes) -> None:
        self._blob.update(data)
        self._size += len(data)
        self._sink.write(data)


@functools.cache
def check_zstd() -> None:
    """Raise :class:`LayerError` if the compressor here does not give the bytes that layers are defined by."""
    words = [hashlib.sha256(bytes([n])).hexdigest()[: 3 + n % 14].encode() for n in range(256)]
    order = b"".join(hashlib.sha256(b"order %d" % n).digest() for n in range(2048))
    text = b" ".join(words[n] for n in order) + order
    compressor = _compressor()
    found = hashlib.sha256(compressor.compress(text) + compressor.compress(text) + compressor.flush()).hexdigest()
    if found != _VECTOR:
        raise LayerError(
            f"the compressor installed here (zstandard {zstandard.__version__}) gives other bytes than the one layers "
            "are defined by, so their digests would be nobody else's; install zstandard==0.25.0"
        )


def _compressor() -> ZstdCompressionObj:
    made = zstandard.ZstdCompressor(level=LEVEL, write_content_size=False, write_checksum=False, threads=0)
    return made.compressobj()
