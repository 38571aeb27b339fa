"""What a layer is: an entry list before it is written, a descriptor with a diff_id after.

A layer is a pure function of its inputs, named by a ``key`` that is a hash of those inputs (say wheel sha256, prefix,
Python, recipe). Who has seen the key needs neither the inputs nor the bytes: the digest is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Literal

from registry_sync.manifest import OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Descriptor, canonical_json, sha256_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

RECIPE = 1
"""The version of what a layer means. It changes only when the same inputs are to give other files."""

Compression = Literal["gzip", "zstd"]
MEDIA_TYPES: dict[Compression, str] = {"gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD}


def compressed_key(key: str, compression: Compression) -> str:
    """Return the key of a layer as it is when compressed in one way: gzip's is ``key`` itself."""
    if compression == "gzip":
        return key
    return sha256_digest(canonical_json({"layer": key, "compression": compression}))[7:]


def compression_of(layers: Iterable[Descriptor]) -> Compression:
    """Return how an image's own layers are compressed. What a base or a container gave it is gzip in any case."""
    return "zstd" if any(layer.media_type == OCI_LAYER_ZSTD for layer in layers) else "gzip"


@dataclass(frozen=True)
class Deflated:
    """File content that is compressed already: a raw deflate stream (RFC 1951), as zip members are.

    ``chunks`` yields the compressed bytes each time it is called; ``crc32`` and ``size`` are of the uncompressed file.
    So is ``checksum`` (``sha256:<hex>``, or sha384, sha512), which the writer verifies when it is stated.
    """

    chunks: Callable[[], Iterator[bytes]]
    compressed_size: int
    crc32: int
    size: int
    checksum: str = ""


@dataclass(frozen=True)
class Streamed:
    """File content that is read when the layer is written: ``open()`` gives ``size`` bytes.

    ``checksum`` (``sha256:<hex>``, or sha384, sha512) is verified by the writer when it is stated.
    """

    open: Callable[[], BinaryIO]
    size: int
    checksum: str = ""


@dataclass(frozen=True)
class Entry:
    """One member of a layer.

    ``path`` is relative to the image's root, with ``/`` between its parts and none at its ends. Directories that an
    entry lies in are made by the writer (mode 0755, root) unless they have an entry of their own.
    """

    path: str
    kind: Literal["file", "directory", "symlink", "whiteout"]
    content: bytes | Deflated | Streamed = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    target: str = ""  # of a symlink


@dataclass(frozen=True)
class Layer:
    """A finished layer: what the manifest (``descriptor``) and the image configuration (``diff_id``) say of it.

    ``what`` is a short text for people (``xgboost 1.7.6``); ``blob`` is the local file with the compressed bytes, or
    ``None`` when only the registry has them.
    """

    key: str
    what: str
    digest: str
    size: int
    diff_id: str
    media_type: str = OCI_LAYER_GZIP
    blob: Path | None = None

    @property
    def descriptor(self) -> Descriptor:
        """The layer's descriptor in a manifest."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=self.size)
