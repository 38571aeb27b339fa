from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from builder.container.saved_layers import SavedImage, SavedLayer, rewrite_layer
from builder.layers.errors import LayerError
from builder.layers.tarheader import SOURCE_DATE

if TYPE_CHECKING:
    from pathlib import Path

CAPABILITY = "SCHILY.xattr.security.capability"
SAVED = SavedLayer("sha256:" + "1" * 64, "one/layer.tar")


def layer_tar(*members: tuple[str, dict[str, Any]], mtime: int = 1_700_000_000) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, attributes in members:
            member = tarfile.TarInfo(name)
            member.mtime = mtime
            for key, value in attributes.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return stream.getvalue()


def saved(directory: Path, layer: bytes) -> SavedImage:
    file = directory / "image.tar"
    with tarfile.open(file, "w") as tar:
        member = tarfile.TarInfo(SAVED.member)
        member.size = len(layer)
        tar.addfile(member, io.BytesIO(layer))
    return SavedImage(file, json.loads("{}"), (SAVED,))


MEMBERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("usr/", {"type": tarfile.DIRTYPE, "mode": 0o755}),
    ("usr/ping", {"size": 5, "uname": "root", "pax_headers": {CAPABILITY: "\x01\x02", "atime": "1700000000.5"}}),
    ("usr/also", {"type": tarfile.LNKTYPE, "linkname": "usr/ping"}),
    ("usr/.wh..wh..opq", {}),
    ("usr/" + "long" * 60, {"type": tarfile.SYMTYPE, "linkname": "é" * 80}),
    ("dev/null", {"type": tarfile.CHRTYPE}),
)


def test_a_layer_keeps_all_but_its_times(tmp_path: Path) -> None:
    layer = rewrite_layer(saved(tmp_path, layer_tar(*MEMBERS)), SAVED, "a layer", tmp_path / "layer.gz")
    assert layer.blob is not None
    blob = layer.blob.read_bytes()
    plain = gzip.decompress(blob)
    assert layer.digest == "sha256:" + hashlib.sha256(blob).hexdigest()
    assert layer.diff_id == "sha256:" + hashlib.sha256(plain).hexdigest()
    assert (layer.size, layer.key) == (len(blob), SAVED.key)
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        members = tar.getmembers()
        assert [member.name for member in members] == [name.rstrip("/") for name, _ in MEMBERS[:-1]]
        assert {member.mtime for member in members} == {SOURCE_DATE}
        assert {member.uname for member in members} == {""}
        assert members[1].pax_headers == {CAPABILITY: "\x01\x02"}
        assert members[2].islnk()
        assert members[4].linkname == "é" * 80


def test_when_a_layer_was_made_does_not_decide_its_digest(tmp_path: Path) -> None:
    digests = set()
    for number in range(2):
        place = tmp_path / str(number)
        place.mkdir()
        image = saved(place, layer_tar(*MEMBERS, mtime=1_600_000_000 + number))
        digests.add(rewrite_layer(image, SAVED, "a layer", place / "layer.gz").digest)
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("member", "sentence"),
    [
        (("../etc/passwd", {}), "could lead elsewhere"),
        (("/etc/passwd", {}), "could lead elsewhere"),
        (("srv/sda", {"type": tarfile.BLKTYPE}), "the device /srv/sda"),
    ],
)
def test_members_that_an_image_may_not_hold(member: tuple[str, dict[str, Any]], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(LayerError, match=sentence):
        rewrite_layer(saved(tmp_path, layer_tar(member)), SAVED, "a layer", tmp_path / "layer.gz")
