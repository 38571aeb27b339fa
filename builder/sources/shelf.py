"""Keeps made wheels where they are found again: by what they were made from, and by what they are.

A wheel is one small manifest in the repository ``<prefix>/wheels``::

    <key>             hash of source, Python, platform     manifest: one layer, the wheel; annotations: its file name
    wheel-<sha256>    hash of the wheel                    the same manifest

The registry keeps the blob as long as one of the tags is there. The second tag matters when two builders made a wheel
of one source at once and the bytes differ: the first one recorded is everybody's, but the other may be in a lock.
"""

from __future__ import annotations

import hashlib
from io import BytesIO
from typing import TYPE_CHECKING

from packaging.utils import parse_wheel_filename

from builder.locking.pylock import LockedPackage
from builder.sources.errors import SourceBuildError
from builder.sources.normalise import check_filename
from registry_sync.manifest import EMPTY_JSON, OCI_EMPTY, Descriptor, Manifest, sha256_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from registry_sync.store import Store

WHEEL_TYPE = "application/vnd.casabinder.wheel.v1"
_TITLE = "org.opencontainers.image.title"
_SOURCE = "org.opencontainers.image.source"
_CHUNK = 2**20


class MadeWheels:
    """The made wheels in one repository of a store."""

    def __init__(self, store: Store, repository: str) -> None:
        self._store = store
        self.repository = repository

    def lookup(self, key: str) -> LockedPackage | None:
        """Return the wheel that was made for ``key``, or ``None``."""
        if self._store.head_manifest(self.repository, key) is None:
            return None
        manifest = self._store.get_manifest(self.repository, key)
        if manifest.artifact_type != WHEEL_TYPE or len(manifest.layers) != 1:
            return None  # somebody else's tag: the wheel is made again and recorded properly
        layer = manifest.layers[0]
        try:
            return wheel_package(manifest.annotations.get(_TITLE, ""), layer.digest.removeprefix("sha256:"), layer.size)
        except SourceBuildError:
            return None

    def record(self, key: str, package: LockedPackage, wheel: Path, source: str) -> LockedPackage:
        """Store a wheel under its key and return the wheel that is there now: the first to be recorded stays."""
        if (there := self.lookup(key)) is not None:
            return there
        empty = Descriptor(OCI_EMPTY, sha256_digest(EMPTY_JSON), len(EMPTY_JSON))
        if self._store.head_blob(self.repository, empty.digest) is None:
            self._store.put_blob(self.repository, empty, lambda: BytesIO(EMPTY_JSON))
        layer = Descriptor(WHEEL_TYPE, f"sha256:{package.sha256}", package.size)
        if self._store.head_blob(self.repository, layer.digest) is None:
            self._store.put_blob(self.repository, layer, lambda: wheel.open("rb"))
        notes = {_TITLE: package.filename, _SOURCE: source[:500]}
        manifest = Manifest.image(empty, [layer], annotations=notes, artifact_type=WHEEL_TYPE)
        self._store.put_manifest(self.repository, f"wheel-{package.sha256}", manifest)
        self._store.put_manifest(self.repository, key, manifest)
        return package

    def size(self, sha256: str) -> int | None:
        """Return the bytes of a made wheel, ``None`` if it is not there."""
        return self._store.head_blob(self.repository, f"sha256:{sha256}")

    def open(self, sha256: str) -> AbstractContextManager[Iterator[bytes]]:
        """Stream a made wheel; its hash is checked at the end."""
        return self._store.open_blob(self.repository, f"sha256:{sha256}")


def wheel_package(filename: str, sha256: str, size: int) -> LockedPackage:
    """Return the package that a made wheel stands for; raise :class:`SourceBuildError` for an unusable file name."""
    check_filename(filename)
    name, version, _, _ = parse_wheel_filename(filename)
    return LockedPackage(name, str(version), filename, sha256, "", size)


def file_sha256(path: Path, progress: Callable[[int], None] = lambda _: None) -> str:
    """Return the sha256 (hex) of a file."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
            progress(len(chunk))
    return hasher.hexdigest()
