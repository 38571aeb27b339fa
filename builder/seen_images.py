"""Remembers which image each repository has, so that what the next image shares with it costs no request.

A registry keeps a blob for as long as a manifest of the repository refers to it. So one HEAD of the last image that was
brought into a repository answers for all of its blobs: its base, the wheels it has in common with the next commit. The
memory is this machine's alone and may be wrong (images are deleted, registries set up anew); it is then forgotten.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from registry_sync.errors import CasabinderError
from registry_sync.files import write_atomically
from registry_sync.manifest import canonical_json
from registry_sync.reference import validate_digest

if TYPE_CHECKING:
    from pathlib import Path

    from registry_sync.manifest import Manifest
    from registry_sync.store import Store

NOTHING: frozenset[str] = frozenset()


class SeenImages:
    """The memory of one registry (``name``), in files below ``directory``."""

    def __init__(self, store: Store, name: str, directory: Path) -> None:
        self._store = store
        self._name = name
        self._directory = directory

    def blobs(self, repository: str) -> frozenset[str]:
        """Return digests of blobs that the repository has: those of its last image, if it still has that."""
        try:
            document = json.loads(self._path(repository).read_bytes())
            manifest, blobs = validate_digest(str(document["manifest"])), frozenset(map(str, document["blobs"]))
        except (OSError, ValueError, KeyError, TypeError, CasabinderError):
            return NOTHING
        return blobs if self._store.head_manifest(repository, manifest) is not None else NOTHING

    def remember(self, repository: str, manifest: Manifest) -> None:
        """Note an image that has just been stored."""
        document = {
            "manifest": manifest.digest,
            "blobs": [manifest.config.digest, *(layer.digest for layer in manifest.layers)],
        }
        write_atomically(self._path(repository), canonical_json(document))

    def forget(self, repository: str) -> None:
        """Take back what turned out to be wrong."""
        self._path(repository).unlink(missing_ok=True)

    def _path(self, repository: str) -> Path:
        return self._directory / f"{hashlib.sha256(f'{self._name}/{repository}'.encode()).hexdigest()[:32]}.json"
