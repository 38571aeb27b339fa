"""Layers read as streams: what each file takes of them."""

from __future__ import annotations

import random
import zlib

import pytest

from base_images.layer_files import layer_files
from builder.layers.layer import Entry
from registry_sync.errors import CasabinderError
from registry_sync.manifest import OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Descriptor, sha256_digest
from tests.unit.builder.layers.helpers import written

NOISE = random.Random(3).randbytes(300_000)
ENTRIES = (
    Entry("srv/env/noise.bin", "file", NOISE),
    Entry("srv/env/zeros.bin", "file", bytes(300_000)),
    Entry("srv/env/link", "symlink", target="noise.bin"),
    Entry("srv/env/text.txt", "file", b"a text"),
)


def described(blob: bytes, media_type: str = OCI_LAYER_GZIP) -> Descriptor:
    return Descriptor(media_type, sha256_digest(blob), len(blob))


@pytest.mark.parametrize("piece", [1000, 50_000, 10**9])
def test_every_byte_is_of_one_file(piece: int) -> None:
    blob, _ = written(ENTRIES)
    chunks = [blob[at : at + piece] for at in range(0, len(blob), piece)]
    found = {file.path: file for file in layer_files(described(blob), chunks, lambda path: path.endswith(".txt"))}
    assert {path: file.size for path, file in found.items()} == {
        "srv/env/noise.bin": 300_000,
        "srv/env/zeros.bin": 300_000,
        "srv/env/text.txt": 6,
    }
    first = len(blob) - sum(file.compressed for file in found.values())
    assert 0 <= first < 10_000, "what comes before the first file: directories"
    assert abs(found["srv/env/noise.bin"].compressed - 300_000) < 10_000
    assert found["srv/env/zeros.bin"].compressed < 10_000
    assert [file.text for file in found.values()] == [b"", b"a text", b""]


def test_a_damaged_layer_is_named() -> None:
    blob, _ = written(ENTRIES)
    for wrong in (blob[:1000], b"x" + blob[1:], zlib.compress(NOISE)):
        with pytest.raises(CasabinderError, match=r"the layer sha256:.* is damaged, or no layer"):
            list(layer_files(described(wrong), [wrong]))


def test_another_compression_is_refused() -> None:
    with pytest.raises(CasabinderError, match="only layers with gzip are measured"):
        list(layer_files(described(b"", OCI_LAYER_ZSTD), []))
