"""Layers that are compressed with Zstandard: the same tar as with gzip, always the same bytes, found apart."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
from typing import TYPE_CHECKING

import pytest
import zstandard

from builder.layers import zstd
from builder.layers.archive import write_layer
from builder.layers.cache import LayerCache
from builder.layers.errors import LayerError
from builder.layers.layer import Entry, Streamed, compressed_key, compression_of
from builder.layers.zstd import PIECE, ZstdWriter, check_zstd
from registry_sync.manifest import OCI_LAYER_ZSTD
from tests.unit.builder.layers.helpers import written
from tests.unit.builder.layers.test_archive import NOISE, SAMPLE, deflated, streamed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from builder.layers.archive import WrittenLayer

KEY = "0" * 64


def packed(entries: Iterable[Entry]) -> tuple[bytes, WrittenLayer]:
    sink = io.BytesIO()
    layer = write_layer(entries, sink, "zstd")
    return sink.getvalue(), layer


def unpacked(blob: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(blob) as reader:
        return reader.read()


def test_golden_digest() -> None:
    """The bytes of a layer are the same on every machine; a change of these digests is a change of RECIPE."""
    _, layer = packed(SAMPLE)
    assert layer.digest == "sha256:653990b827240d07fd186bb070d34b163df8d5637b26b166ed4029e2a08b77f5"
    assert layer.diff_id == written(SAMPLE)[1].diff_id


def test_the_tar_is_that_of_gzip_and_no_file_is_kept_deflated() -> None:
    entries = [Entry("a", "file", deflated(NOISE)), Entry("b", "file", streamed(b"text " * 300_000))]
    blob, layer = packed(entries)
    tar = unpacked(blob)
    assert layer.digest == f"sha256:{hashlib.sha256(blob).hexdigest()}"
    assert layer.size == len(blob)
    assert layer.diff_id == f"sha256:{hashlib.sha256(tar).hexdigest()}" == written(entries)[1].diff_id
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        assert archive.getnames() == ["a", "b"]
    assert not zstandard.get_frame_parameters(blob).has_checksum
    assert zstandard.frame_content_size(blob) == -1


def test_how_the_content_arrives_does_not_matter() -> None:
    data = random.Random(2).randbytes(PIECE // 2) + b"0123456789" * (PIECE // 5)
    digests = set()
    for sizes in ([len(data)], [1, 7, PIECE - 1], [4096]):
        sink = io.BytesIO()
        writer, position, turn = ZstdWriter(sink), 0, 0
        while position < len(data):
            size = sizes[turn % len(sizes)]
            writer.add(data[position : position + size])
            position, turn = position + size, turn + 1
        digests.add(writer.finish())
        assert unpacked(sink.getvalue()) == data
    assert len(digests) == 1


def test_lies_are_found() -> None:
    with pytest.raises(LayerError, match="CRC-32"):
        packed([Entry("a", "file", deflated(NOISE, crc32=1))])
    with pytest.raises(LayerError, match="checksum"):
        packed([Entry("a", "file", Streamed(lambda: io.BytesIO(b"x"), 1, "sha256:" + "0" * 64))])


def test_another_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_zstd()
    monkeypatch.setattr(zstd, "LEVEL", 4)
    check_zstd.cache_clear()
    try:
        with pytest.raises(LayerError, match="install zstandard=="):
            packed(SAMPLE)
    finally:
        check_zstd.cache_clear()


def test_the_two_are_different_layers(tmp_path: Path) -> None:
    assert compressed_key(KEY, "gzip") == KEY != compressed_key(KEY, "zstd")
    cache = LayerCache(tmp_path)
    plain = cache.build(KEY, "sample", lambda: SAMPLE)
    other = cache.build(compressed_key(KEY, "zstd"), "sample", lambda: SAMPLE, "zstd")
    assert other.descriptor.media_type == OCI_LAYER_ZSTD
    assert (other.diff_id, other.digest == plain.digest) == (plain.diff_id, False)
    assert cache.get(other.key) == other
    assert compression_of([plain.descriptor]) == "gzip"
    assert compression_of([plain.descriptor, other.descriptor]) == "zstd"
