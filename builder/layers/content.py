"""Reads the content of layer entries, in small pieces, and verifies that it is what was announced."""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING

from builder.layers.errors import LayerError
from builder.layers.layer import Deflated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.layers.layer import Entry

CHUNK = 128 * 1024
"""Compressed bytes read at a time."""
LARGEST = 1024 * 1024
"""Uncompressed bytes handed on at a time, at most."""


def content_size(entry: Entry) -> int:
    """Return the announced size of an entry's content in bytes; 0 for all but files."""
    if entry.kind != "file":
        return 0
    return len(entry.content) if isinstance(entry.content, bytes) else entry.content.size


def read_content(entry: Entry) -> Iterator[bytes]:
    """Yield the uncompressed content of a file entry; raise :class:`LayerError` if it is not what was announced."""
    content = entry.content
    if isinstance(content, bytes):
        yield content
    elif isinstance(content, Deflated):
        inflater = Inflater(entry.path, content)
        for chunk in content.chunks():
            yield from inflater.feed(chunk)
        inflater.finish()
    else:
        verifier = _Verifier(entry.path, content.size, content.checksum)
        with content.open() as stream:
            while data := stream.read(LARGEST):
                verifier.see(data)
                yield data
        verifier.finish()


class Inflater:
    """Inflates the raw deflate stream of one file, at most ``LARGEST`` bytes at a time, and verifies what comes out.

    Feed it all chunks, then call :meth:`finish`, which raises :class:`LayerError` unless the stream ended exactly with
    its last byte and gave the size, the CRC and the checksum that ``content`` announces.
    """

    def __init__(self, path: str, content: Deflated) -> None:
        self._announced = content
        self._verifier = _Verifier(path, content.size, content.checksum)
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        self._crc32 = 0
        self._consumed = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the content that ``chunk`` gives."""
        self._consumed += len(chunk)
        if chunk and self._stream.eof:
            raise self._verifier.lie("has bytes after the end of its compressed data")
        while True:
            try:
                data = self._stream.decompress(chunk, LARGEST)
            except zlib.error as error:
                raise self._verifier.lie("cannot be decompressed") from error
            if self._stream.unused_data:
                raise self._verifier.lie("has bytes after the end of its compressed data")
            self._crc32 = zlib.crc32(data, self._crc32)
            self._verifier.see(data)
            yield data
            chunk = self._stream.unconsumed_tail
            # A full buffer may mean that the decompressor holds back output for which it needs no more input.
            if not chunk and len(data) < LARGEST:
                return

    def finish(self) -> None:
        """Verify the end of the stream."""
        if not self._stream.eof or self._consumed != self._announced.compressed_size:
            raise self._verifier.lie("has compressed data that ends too early or too late")
        if self._crc32 != self._announced.crc32:
            raise self._verifier.lie("has not the CRC-32 it is said to have")
        self._verifier.finish()


class _Verifier:
    """Sees a file's content pass and says whether it is what was announced."""

    def __init__(self, path: str, size: int, checksum: str) -> None:
        self._path = path
        self._announced = size
        self._algorithm, _, self._checksum = checksum.partition(":")
        self._hash = hashlib.new(self._algorithm) if checksum else None
        self._size = 0

    def see(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._announced:
            raise self.lie(f"is longer than the {self._announced} bytes it is said to have")
        if self._hash:
            self._hash.update(data)

    def finish(self) -> None:
        if self._size != self._announced:
            raise self.lie(f"has {self._size} bytes and not the {self._announced} it is said to have")
        if self._hash and self._hash.hexdigest() != self._checksum:
            raise self.lie(f"has not the {self._algorithm} checksum it is said to have")

    def lie(self, what: str) -> LayerError:
        return LayerError(f"the file {self._path!r} {what}; what it comes from is damaged or was tampered with")
