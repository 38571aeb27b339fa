"""The facility's layers in the registry, found by their keys."""

import io
from pathlib import Path

from builder.layers.cache import LayerCache
from builder.layers.layer import Entry
from builder.publish import Part, put_part
from builder.shared_layers import SharedLayers
from registry_sync.layout import LayoutStore
from registry_sync.manifest import EMPTY_JSON, OCI_EMPTY, Descriptor, Manifest, sha256_digest

KEY = "a" * 64


def test_a_recorded_layer_is_found_without_its_bytes(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path / "store")
    shared = SharedLayers(store, "fac/layers")
    assert shared.lookup(KEY) is None
    layer = LayerCache(tmp_path / "cache").build(KEY, "one 1.0", lambda: [Entry("a", "file", b"1")])
    put_part(store, shared.repository, Part(layer.descriptor, blob=layer.blob))
    shared.record(layer)
    found = shared.lookup(KEY)
    assert found is not None
    assert found.blob is None
    assert (found.key, found.what, found.digest, found.size, found.diff_id) == (
        KEY,
        "one 1.0",
        layer.digest,
        layer.size,
        layer.diff_id,
    )
    assert store.tags("fac/layers") == [KEY]


def test_what_somebody_else_has_put_under_a_key_is_not_believed(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path)
    empty = Descriptor(OCI_EMPTY, sha256_digest(EMPTY_JSON), len(EMPTY_JSON))
    store.put_blob("layers", empty, lambda: io.BytesIO(EMPTY_JSON))
    store.put_manifest("layers", KEY, Manifest.image(empty, [empty]))
    assert SharedLayers(store, "layers").lookup(KEY) is None
