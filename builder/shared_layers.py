"""Layers shared by all of a facility: layers that anybody has made, in the registry, found by their keys.

Each layer is one small manifest in the repository ``<prefix>/layers``, tagged with the layer's key, whose annotations
say what an image configuration needs to know. Looking a key up is one request and moves no layer; putting the layer
into an image's repository is a mount. The registry keeps the blob for as long as the manifest is there. What was found
once is remembered on local disk, for this registry, and costs no request any more.
"""

from __future__ import annotations

import re
from io import BytesIO
from typing import TYPE_CHECKING

from builder.layers.layer import Layer
from registry_sync.errors import NotFoundError
from registry_sync.manifest import EMPTY_JSON, OCI_EMPTY, Descriptor, Manifest, sha256_digest

if TYPE_CHECKING:
    from builder.layers.cache import LayerCache
    from registry_sync.store import Store

LAYER_TYPE = "application/vnd.casabinder.layer.v1"
_DIFF_ID = "org.casabinder.layer.diff-id"
_WHAT = "org.opencontainers.image.title"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class SharedLayers:
    """The layer cache in one repository of a store; ``memory`` has the keys that were found there before."""

    def __init__(self, store: Store, repository: str, memory: LayerCache | None = None) -> None:
        self._store = store
        self._memory = memory
        self.repository = repository

    def lookup(self, key: str, *, sure: bool = False) -> Layer | None:
        """Return the layer of ``key`` (without its bytes), or ``None`` if nobody has recorded it.

        With ``sure`` nothing that is remembered counts, and the registry has to have the layer's blob, too.
        """
        known = self._memory.get(key) if self._memory and not sure else None
        if known is None:
            known = self._find(key)
            if known and sure and self._store.head_blob(self.repository, known.digest) is None:
                return None
            self._remember(known)
        return known

    def _find(self, key: str) -> Layer | None:
        try:
            manifest = self._store.get_manifest(self.repository, key)
        except NotFoundError:
            return None
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
        self._remember(layer)

    def _remember(self, layer: Layer | None) -> None:
        if self._memory and layer:
            self._memory.remember(layer)
