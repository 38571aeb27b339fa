"""What is read of an image that a base starts from: three of its files, as its layers leave them."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from typing import TYPE_CHECKING

import pytest
import zstandard

from base_images.starting_image import read_texts
from registry_sync.errors import CasabinderError
from registry_sync.layout import LayoutStore
from registry_sync.manifest import Descriptor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

TYPES: dict[str, Callable[[bytes], bytes]] = {
    "application/vnd.oci.image.layer.v1.tar": lambda data: data,
    "application/vnd.oci.image.layer.v1.tar+zstd": zstandard.compress,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": gzip.compress,
}
GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
LOWEST = {"etc/passwd": "root", "etc/group": "wheel", "etc/ssl/certs/ca-certificates.crt": "certificates"}


def put(store: LayoutStore, data: bytes, media_type: str) -> Descriptor:
    descriptor = Descriptor(media_type, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
    store.put_blob("an/image", descriptor, lambda: io.BytesIO(data))
    return descriptor


def layer(store: LayoutStore, files: Mapping[str, str], media_type: str = GZIP) -> Descriptor:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return put(store, TYPES[media_type](sink.getvalue()), media_type)


@pytest.mark.parametrize("media_type", TYPES)
def test_layers_are_read_however_they_are_compressed(media_type: str, tmp_path: Path) -> None:
    store = LayoutStore(tmp_path)
    files = {"./etc/passwd": "root", "./etc/group": "wheel", "./etc/hostname": "x"}
    texts = read_texts(store, "an/image", [layer(store, files, media_type)])
    assert texts == {"etc/passwd": "root", "etc/group": "wheel", "etc/ssl/certs/ca-certificates.crt": ""}


@pytest.mark.parametrize(
    ("upper", "left"),
    [
        ({"etc/passwd": "ann"}, {"etc/passwd": "ann"}),
        ({"etc/.wh.passwd": ""}, {"etc/passwd": ""}),
        ({"etc/ssl/.wh.certs": ""}, {"etc/ssl/certs/ca-certificates.crt": ""}),
        ({"etc/group": "users", "etc/.wh..wh..opq": ""}, {**dict.fromkeys(LOWEST, ""), "etc/group": "users"}),
        ({"etc/.wh.pass": "", "usr/etc/passwd": "x"}, {}),
    ],
)
def test_a_layer_changes_what_those_below_it_have(
    upper: Mapping[str, str], left: Mapping[str, str], tmp_path: Path
) -> None:
    store = LayoutStore(tmp_path)
    layers = [layer(store, LOWEST), layer(store, upper)]
    assert read_texts(store, "an/image", layers) == {**LOWEST, **left}


@pytest.mark.parametrize(
    "data",
    [b"no gzip", gzip.compress(b"no tar" * 200), gzip.compress(bytes(1024))[:-9]],
    ids=["no gzip", "no tar", "cut off"],
)
def test_what_is_no_layer_is_said(data: bytes, tmp_path: Path) -> None:
    store = LayoutStore(tmp_path)
    with pytest.raises(CasabinderError, match=r"the layer sha256:\w+ of an/image can't be read: "):
        read_texts(store, "an/image", [put(store, data, GZIP)])
