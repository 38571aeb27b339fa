"""A layer that is uploaded while it is being made."""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING

import pytest

from builder.layers import cache as cache_module
from builder.layers.cache import LayerCache
from builder.layers.errors import LayerError
from builder.layers.layer import Entry, Layer, Streamed
from builder.upload_along import UploadAlong
from registry_sync.client import RegistryClient
from registry_sync.layout import LayoutStore
from tests.testbed.fault_registry import FaultRegistry, running_fault_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "a" * 64
STEP = 64 * 1024
NOISE = Entry("noise", "file", random.Random(1).randbytes(20 * STEP))


@pytest.fixture
def registry() -> Iterator[FaultRegistry]:
    with running_fault_registry() as running:
        yield running


@pytest.fixture
def client(registry: FaultRegistry) -> Iterator[RegistryClient]:
    with RegistryClient(registry.address, credentials=None, insecure=True, sleep=lambda _: None) as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LayerCache:
    monkeypatch.setattr(cache_module, "_STEP", STEP)
    return LayerCache(tmp_path / "layers")


def make(cache: LayerCache, upload: UploadAlong, *entries: Entry) -> Layer:
    return cache.build(KEY, "noise", lambda: entries, written_to=upload.follow)


def test_a_layer_is_there_when_it_is_made(cache: LayerCache, client: RegistryClient, registry: FaultRegistry) -> None:
    with UploadAlong(client, "layers") as upload:
        layer = make(cache, upload, NOISE)
        assert upload.finish(layer.descriptor)
    assert layer.blob is not None
    assert registry.repository("layers").blobs == {layer.digest: layer.blob.read_bytes()}
    assert not registry.sessions
    assert not registry.seen("HEAD")


def test_a_small_layer_and_a_known_one_are_for_somebody_else(
    cache: LayerCache, client: RegistryClient, registry: FaultRegistry
) -> None:
    for _ in range(2):
        with UploadAlong(client, "layers") as upload:
            layer = make(cache, upload, Entry("a", "file", b"small"))
            assert not upload.finish(layer.descriptor)
    assert not registry.requests


def test_a_fault_leaves_the_layer_to_somebody_else(
    cache: LayerCache, client: RegistryClient, registry: FaultRegistry
) -> None:
    registry.faults.lose_sessions = 1
    with UploadAlong(client, "layers") as upload:
        layer = make(cache, upload, NOISE)
        assert not upload.finish(layer.descriptor)
    assert layer.blob is not None
    assert not registry.repository("layers").blobs
    assert not registry.sessions


def test_a_layer_that_can_t_be_made_leaves_nothing(
    cache: LayerCache, client: RegistryClient, registry: FaultRegistry
) -> None:
    shorter = Entry("shorter", "file", Streamed(lambda: io.BytesIO(b"x"), 2))
    with UploadAlong(client, "layers") as upload, pytest.raises(LayerError, match="has 1 bytes and not the 2"):
        make(cache, upload, NOISE, shorter)
    assert registry.cancelled
    assert not registry.sessions
    assert not registry.repository("layers").blobs


def test_a_layout_takes_layers_as_always(cache: LayerCache, tmp_path: Path) -> None:
    with UploadAlong(LayoutStore(tmp_path / "layout"), "layers") as upload:
        assert not upload.finish(make(cache, upload, NOISE).descriptor)
