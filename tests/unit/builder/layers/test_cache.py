"""The layer cache: one build per key, nothing half-written, and a sentence when the disk is full."""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

import pytest

from builder.layers import cache as cache_module
from builder.layers.cache import LayerCache
from builder.layers.errors import LayerError
from builder.layers.layer import Entry, Layer, Streamed
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from pathlib import Path

KEY = "a" * 64


@pytest.fixture
def cache(tmp_path: Path) -> LayerCache:
    return LayerCache(tmp_path / "cache" / "layers")


def entries() -> list[Entry]:
    return [Entry("a", "file", b"content")]


def files(cache: LayerCache) -> list[str]:
    return sorted(str(path.relative_to(cache.directory)) for path in cache.directory.rglob("*") if path.is_file())


def test_a_layer_is_built_once(cache: LayerCache) -> None:
    built = cache.build(KEY, "a file", entries)
    assert built.blob
    assert hashlib.sha256(built.blob.read_bytes()).hexdigest() == built.digest.removeprefix("sha256:")
    assert built.size == built.blob.stat().st_size
    assert cache.build(KEY, "a file", lambda: pytest.fail("built twice")) == built
    assert LayerCache(cache.directory).get(KEY) == built
    assert files(cache) == [f"blobs/{built.digest[7:]}", f"keys/{KEY}.json"]


def test_what_is_not_known(cache: LayerCache) -> None:
    assert cache.get(KEY) is None
    assert cache.get("../../etc/passwd") is None


def test_a_layer_whose_bytes_are_elsewhere(cache: LayerCache) -> None:
    layer = Layer("../any key", "numpy 2.2.6", "sha256:" + "b" * 64, 12, "sha256:" + "c" * 64)
    cache.remember(layer)
    assert cache.get("../any key") == layer
    assert len(files(cache)) == 1


def test_a_lost_or_short_blob_is_built_again(cache: LayerCache) -> None:
    built = cache.build(KEY, "a", entries)
    assert built.blob
    built.blob.write_bytes(b"short")
    assert cache.get(KEY) == replace(built, blob=None)
    assert cache.build(KEY, "a", entries) == built
    built.blob.unlink()
    assert cache.build(KEY, "a", entries) == built


def test_unreadable_metadata_is_ignored(cache: LayerCache, caplog: pytest.LogCaptureFixture) -> None:
    built = cache.build(KEY, "a", entries)
    for text in ("", "{}", "[]", '"x"'):
        (cache.directory / "keys" / f"{KEY}.json").write_text(text)
        with caplog.at_level(logging.WARNING):
            assert cache.get(KEY) is None
    assert cache.build(KEY, "a", entries) == built


def test_a_key_that_changes_its_meaning_is_logged(cache: LayerCache, caplog: pytest.LogCaptureFixture) -> None:
    cache.remember(Layer(KEY, "a", "sha256:" + "b" * 64, 12, "sha256:" + "c" * 64))
    built = cache.build(KEY, "a", entries)
    assert f"was sha256:{'b' * 64} and is {built.digest} now" in caplog.text


def test_a_failed_build_leaves_nothing(cache: LayerCache) -> None:
    with pytest.raises(LayerError):
        cache.build(KEY, "a", lambda: [Entry("a", "file", Streamed(lambda: io.BytesIO(b"x"), 2))])
    assert files(cache) == []


def test_a_full_disk_is_one_sentence(cache: LayerCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(entries: object, sink: BinaryIO, compression: str) -> None:
        sink.write(b"part")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache_module, "write_layer", full)
    with pytest.raises(CasabinderError, match=rf"no space left for layers in {cache.directory} \(\d+ MB free\)"):
        cache.build(KEY, "a", entries)
    assert files(cache) == []


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CasabinderError, match="cannot be used"):
        LayerCache(tmp_path / "file" / "layers")


def test_faults_of_the_source_are_not_blamed_on_the_cache(cache: LayerCache, tmp_path: Path) -> None:
    gone = Streamed(lambda: (tmp_path / "gone").open("rb"), 2)
    with pytest.raises(FileNotFoundError):
        cache.build(KEY, "a", lambda: [Entry("a", "file", gone)])
    assert files(cache) == []


def test_many_builders_at_once(cache: LayerCache) -> None:
    def build(number: int) -> Layer:
        return LayerCache(cache.directory).build(
            f"{number % 4:064}", "x", lambda: [Entry(f"f{number % 4}", "file", b"x")]
        )

    with ThreadPoolExecutor(8) as pool:
        built = list(pool.map(build, range(40)))
    assert len(set(built)) == 4
    assert len(files(cache)) == 8


def test_pruning_takes_the_least_recently_used(cache: LayerCache) -> None:
    layers = [cache.build(f"{n:064}", "x", lambda n=n: [Entry(f"f{n}", "file", os.urandom(1000))]) for n in range(4)]  # type: ignore[misc]
    now = time.time()
    for age, layer in zip((70_000, 60_000, 50_000, 40_000), layers, strict=True):
        assert layer.blob
        os.utime(layer.blob, (now - age, now - age))
    cache.get(layers[0].key)
    abandoned = cache.directory / "blobs" / "x.part"
    abandoned.write_bytes(b"")
    os.utime(abandoned, (now - 10**6, now - 10**6))
    freed = cache.prune(layers[0].size + layers[3].size)
    assert freed == layers[1].size + layers[2].size
    assert [bool(layer and layer.blob) for layer in (cache.get(layer.key) for layer in layers)] == [
        True,
        False,
        False,
        True,
    ]
    assert not abandoned.exists()
    assert cache.prune(0) == 0
    assert cache.prune(0, grace=-1) == layers[0].size + layers[3].size
