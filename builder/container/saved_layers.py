"""Takes the layers of an image out of the container engine, with times and user names rewritten.

``docker save`` gives a tar with the layers' tars, the configuration and ``manifest.json`` that names them. Unlike the
layers that are made here, such a layer may hold anything: opaque directories, hard links, file capabilities. So its
members keep their order and all that they are but for the times (1980-01-01, as everywhere), the names of users, and
device nodes, of which those below ``/dev`` are left out (engines make their own) and others refused.

A rewritten layer is kept among the facility's shared layers under its ``diff_id``: an image that hundreds of
repositories start from is compressed and uploaded once.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from builder.container.engine import docker_stream
from builder.layers.archive import parents
from builder.layers.errors import LayerError
from builder.layers.layer import RECIPE, Layer
from builder.layers.tarheader import SOURCE_DATE
from registry_sync.manifest import canonical_json, sha256_digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PIECE = 1024 * 1024
_XATTR = "SCHILY.xattr."


@dataclass(frozen=True)
class SavedLayer:
    """A layer of a saved image: the digest of its tar as the engine has it, and where that is in the saved tar."""

    diff_id: str
    member: str

    @property
    def key(self) -> str:
        """The name of the rewritten layer among the shared ones."""
        inputs = {"kind": "saved", "diff_id": self.diff_id}
        return sha256_digest(canonical_json({"recipe": RECIPE, "inputs": inputs}))[7:]


@dataclass(frozen=True)
class SavedImage:
    """An image on disk as ``docker save`` writes it: its configuration, and its layers bottom first."""

    file: Path
    config: dict[str, Any]
    layers: tuple[SavedLayer, ...]


def save_image(image: str, file: Path) -> SavedImage:
    """Write an image that the engine has to ``file`` and read what it consists of."""
    with docker_stream("save", image) as stream, file.open("wb") as sink:
        while data := stream.read(_PIECE):
            sink.write(data)
    try:
        with tarfile.open(file) as tar:
            (described,) = json.loads(_read(tar, "manifest.json"))
            config = json.loads(_read(tar, described["Config"]))
        diff_ids = config["rootfs"]["diff_ids"]
        pairs = zip(diff_ids, described["Layers"], strict=True)
        return SavedImage(file, config, tuple(SavedLayer(diff_id, member) for diff_id, member in pairs))
    except (tarfile.TarError, ValueError, KeyError) as error:
        raise LayerError("the container engine saved an image that can't be read") from error


def rewrite_layer(image: SavedImage, saved: SavedLayer, what: str, file: Path) -> Layer:
    """Write a layer of a saved image to ``file``, compressed, and return it.

    Raises :class:`LayerError` for a device node, or a path that leads out of the image.
    """
    with tarfile.open(image.file) as tar, file.open("wb") as sink:
        source = tar.extractfile(saved.member)
        if source is None:
            raise LayerError("the container engine saved an image without one of its layers")
        blob = _Hashed(sink)
        with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=blob, mtime=0) as compressed:
            plain = _Hashed(cast("BinaryIO", compressed))
            _rewrite(cast("BinaryIO", source), plain)
    return Layer(saved.key, what, blob.digest, blob.size, plain.digest, blob=file)


def _rewrite(source: BinaryIO, sink: _Hashed) -> None:
    with (
        tarfile.open(fileobj=source, mode="r:") as old,
        tarfile.open(fileobj=cast("BinaryIO", sink), mode="w|", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in _members(old):
            content = old.extractfile(member) if member.isreg() else None
            member.mtime = SOURCE_DATE
            member.uname = member.gname = ""
            member.pax_headers = {
                name: value for name, value in sorted(member.pax_headers.items()) if name.startswith(_XATTR)
            }
            new.addfile(member, content)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in tar:
        path = member.name.removeprefix("./").strip("/")
        if path in ("", "."):
            continue
        if member.name.startswith("/") or ".." in path.split("/"):
            raise LayerError(f"the image has a file with the path {member.name!r}, which could lead elsewhere")
        if member.ischr() or member.isblk() or member.isfifo():
            if "dev" in parents(path) or member.isfifo():
                continue
            raise LayerError(f"the image has the device /{path}, which an image may not hold; remove it")
        yield member


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise KeyError(name)
    with file:
        return file.read()


class _Hashed:
    """A sink that passes bytes on, and knows their number and digest."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        return self._sink.write(data)

    def flush(self) -> None:
        self._sink.flush()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"
