"""Layers shared by all of a facility: layers that anybody has made, in the registry, found by their keys.

Each layer is one small manifest in the repository ``<prefix>/layers``, tagged with the layer's key, whose annotations
say what an image configuration needs to know. Looking a key up is one request and moves no layer; putting the layer
into an image's repository is a mount. The registry keeps the blob for as long as the manifest is there.
"""

from __future__ import annotations

import re
from io import BytesIO
from typing import TYPE_CHECKING

from builder.layers.layer import Layer
from registry_sync.manifest import EMPTY_JSON, OCI_EMPTY, Descriptor, Manifest, sha256_digest

if TYPE_CHECKING:
    from registry_sync.store import Store

LAYER_TYPE = "application/vnd.casabinder.layer.v1"
_DIFF_ID = "org.casabinder.layer.diff-id"
_WHAT = "org.opencontainers.image.title"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class SharedLayers:
    """The layer cache in one repository of a store."""

    def __init__(self, store: Store, repository: str) -> None:
        self._store = store
        self.repository = repository

    def lookup(self, key: str) -> Layer | None:
        """Return the layer of ``key`` (without its bytes), or ``None`` if nobody has recorded it."""
        if self._store.head_manifest(self.repository, key) is None:
            return None
        manifest = self._store.get_manifest(self.repository, key)
        diff_id = manifest.annotations.get(_DIFF_ID, "")
        if len(manifest.layers) != 1 or not _DIGEST.fullmatch(diff_id):
            return None  # somebody else's tag: the layer is made again and recorded properly
        layer = manifest.layers[0]
        return Layer(key, manifest.annotations.get(_WHAT, ""), layer.digest, layer.size, diff_id, layer.media_type)

    def record(self, layer: Layer) -> None:
        """Note a layer whose blob is in :attr:`repository` already."""
        empty = Descriptor(OCI_EMPTY, sha256_digest(EMPTY_JSON), len(EMPTY_JSON))
        if self._store.head_blob(self.repository, empty.digest) is None:
            self._store.put_blob(self.repository, empty, lambda: BytesIO(EMPTY_JSON))
        manifest = Manifest.image(
            empty,
            [layer.descriptor],
            annotations={_DIFF_ID: layer.diff_id, _WHAT: layer.what[:200]},
            artifact_type=LAYER_TYPE,
        )
        self._store.put_manifest(self.repository, layer.key, manifest)
