"""A layer as it comes from a store, as the file that it is: its tar is read while its bytes come in."""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import TYPE_CHECKING, BinaryIO, cast

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterator

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
"""What the name of a member begins with that removes another, and of one that removes its directory's content."""
_PIECE = 2**20
DAMAGED = (tarfile.TarError, EOFError, zstandard.ZstdError, gzip.BadGzipFile)
"""What reading a layer raises that is damaged, or none."""


def as_file(chunks: Iterator[bytes]) -> BinaryIO:
    """Return a stream of chunks as a file that is read from front to back."""
    return io.BufferedReader(_Chunks(chunks), _PIECE)


def plain_tar(media_type: str, compressed: BinaryIO) -> BinaryIO:
    """Return the tar of a layer of this media type."""
    if media_type.endswith("gzip"):
        return cast("BinaryIO", gzip.GzipFile(fileobj=compressed))
    if media_type.endswith("zstd"):
        return cast("BinaryIO", zstandard.ZstdDecompressor().stream_reader(compressed, read_across_frames=True))
    return compressed


class _Chunks(io.RawIOBase):
    """A stream of chunks as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]  # what io passes
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        count = min(len(view), len(self._rest))
        view[:count], self._rest = self._rest[:count], self._rest[count:]
        return count
