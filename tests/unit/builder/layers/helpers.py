"""What the tests of the layers share: writing a layer, reading it back with ``tarfile``, and making wheels."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.layers.archive import WrittenLayer, write_layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from builder.layers.layer import Entry


@dataclass(frozen=True)
class Found:
    """A tar member as a reader sees it."""

    kind: bytes
    mode: int
    owner: tuple[int, int]
    target: str
    data: bytes


def written(entries: Iterable[Entry]) -> tuple[bytes, WrittenLayer]:
    """Return the blob of a layer and what its writer says of it."""
    sink = io.BytesIO()
    layer = write_layer(entries, sink)
    return sink.getvalue(), layer


def read_layer(blob: bytes) -> dict[str, Found]:
    """Return the members of a layer by path, in its order."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(blob), mode="r:gz") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            data = file.read() if file else b""
            found[member.name] = Found(member.type, member.mode, (member.uid, member.gid), member.linkname, data)
    return found


def record_hash(data: bytes) -> str:
    """Return a file's hash as RECORD has it."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def make_wheel(
    directory: Path,
    files: Mapping[str, bytes],
    *,
    name: str = "pkg",
    executable: Iterable[str] = (),
    stored: Iterable[str] = (),
    record: str | None = None,
    wheel: str = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n",
) -> Path:
    """Write ``<name>-1.0-py3-none-any.whl`` with ``files``, METADATA, WHEEL and a RECORD, or ``record`` instead."""
    info = f"{name}-1.0.dist-info"
    everything = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: numpy>=2\n".encode(),
        f"{info}/WHEEL": wheel.encode(),
    }
    rows = [f'"{path}",{record_hash(data)},{len(data)}' for path, data in everything.items()]
    everything[f"{info}/RECORD"] = (
        "\n".join([*rows, f"{info}/RECORD,,", ""]).encode() if record is None else record.encode()
    )
    path = directory / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in everything.items():
            member_info = zipfile.ZipInfo(member, (2020, 1, 1, 0, 0, 0))
            member_info.external_attr = (0o100755 if member in executable else 0o100644) << 16
            member_info.compress_type = zipfile.ZIP_STORED if member in stored else zipfile.ZIP_DEFLATED
            archive.writestr(member_info, data)
    return path
