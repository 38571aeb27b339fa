"""Bringing layers into a repository by the cheapest way there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.image import ImageSettings, Parent, make_image
from builder.layers.cache import LayerCache
from builder.layers.layer import Entry, Layer
from builder.publish import Part, put_image, put_part, put_parts
from registry_sync.errors import CasabinderError
from registry_sync.layout import LayoutStore

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> LayoutStore:
    return LayoutStore(tmp_path / "store")


@pytest.fixture
def layer(tmp_path: Path) -> Layer:
    return LayerCache(tmp_path / "cache").build("0" * 64, "one", lambda: [Entry("a", "file", b"1" * 1000)])


def test_each_way_in_order(store: LayoutStore, layer: Layer, tmp_path: Path) -> None:
    counts: list[int] = []
    whole = Part(layer.descriptor, ("shared",), layer.blob, (store, "shared"))
    assert put_part(store, "mine", whole, counts.append) == "uploaded"
    assert sum(counts) == layer.size
    assert put_part(store, "mine", whole, counts.append) == "present"
    put_part(store, "shared", Part(layer.descriptor, blob=layer.blob))
    assert put_part(store, "third", whole, counts.append) == "mounted"
    assert put_part(store, "shared", Part(layer.descriptor, ("shared",))) == "present"
    other = LayoutStore(tmp_path / "other")
    assert put_part(other, "mine", Part(layer.descriptor, origin=(store, "shared")), counts.append) == "copied"
    assert sum(counts) == 2 * layer.size
    assert other.head_blob("mine", layer.digest) == layer.size


def test_a_layer_that_is_nowhere(store: LayoutStore, layer: Layer) -> None:
    with pytest.raises(CasabinderError, match="neither in the registry nor in the cache any more; build again"):
        put_part(store, "mine", Part(layer.descriptor, ("shared",)))


def test_outcomes_come_in_the_order_of_the_parts(store: LayoutStore, layer: Layer, tmp_path: Path) -> None:
    cache = LayerCache(tmp_path / "cache")
    layers = [cache.build(f"{n:064x}", str(n), lambda n=n: [Entry(f"f{n}", "file", b"")]) for n in range(1, 9)]  # type: ignore[misc]
    for known in layers[::2]:
        put_part(store, "mine", Part(known.descriptor, blob=known.blob))
    outcomes = put_parts(store, "mine", [Part(known.descriptor, blob=known.blob) for known in layers])
    assert outcomes == ["present", "uploaded"] * 4


def test_an_image_gets_its_tags_last_and_may_have_none(store: LayoutStore, layer: Layer) -> None:
    image = make_image(Parent(), [layer], ImageSettings(), {})
    put_image(store, "mine", image, ())
    assert store.tags("mine") == []
    assert store.get_manifest("mine", image.digest).raw == image.manifest.raw
    put_image(store, "mine", image, ("a", "b"))
    assert store.tags("mine") == ["a", "b"]
    assert store.read_blob("mine", image.manifest.config.digest) == image.config
