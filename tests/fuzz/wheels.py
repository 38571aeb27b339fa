"""What fuzzing does to the wheel reader: makes wheels, sound and broken, and says what must hold of each.

A wheel is either refused with a :class:`LayerError` or becomes a layer of which every path is plain, unique and inside
its environment, and which the reader of another implementation (``tarfile``) reads to the end.
"""

from __future__ import annotations

import io
import posixpath
import struct
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from builder.layers.archive import write_layer
from builder.layers.errors import LayerError
from builder.layers.wheel import InstallTarget, metadata, open_wheel, wheel_entries
from tests.unit.builder.layers.helpers import make_wheel

if TYPE_CHECKING:
    import random

TARGET = InstallTarget()
NAME = "pkg-1.0-py3-none-any.whl"
LARGEST = 64 * 1024 * 1024
"""Bytes of layer that a few kB of input may become before the fuzzer calls it a bomb that got through."""

_NASTY = (
    *("../x", "/etc/passwd", "a/../../b", "a//b", "./a", "a\\b", "C:/x", "a\0b", ".wh.a", "a/.wh..wh..opq", "A", "a"),
    *("caf\u00e9.py", "cafe\u0301.py", "pkg-1.0.data/scripts/run", "pkg-1.0.data/data/../../x", "pkg-1.0.data/other/x"),
    *("pkg-1.0.dist-info/RECORD", "pkg-1.0.dist-info/../x", "x" * 300, "pkg/__pycache__/m.cpython-313.pyc"),
)
_ENTRY_POINTS = (
    b"[console_scripts]\nrun = pkg:main\n",
    b"[console_scripts]\n$(id) = pkg:main\n`x`;rm -rf = pkg:main\n",
    b"[console_scripts]\nrun = os;import os:system\n",
    b"[console_scripts]\n../run = pkg:main\nrun\n",
    b"[gui_scripts]\nrun = pkg:a.b [extra]\n[gui_scripts]\n",
    b"\xff\xfe",
)


def seeds() -> list[bytes]:
    """Return wheels to begin with: sound ones, and one for every kind of trouble that a mutation would not find."""
    found = []
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        files = {"pkg/__init__.py": b"x = 1\n" * 50, "pkg-1.0.data/scripts/run": b"#!python\nprint()\n"}
        found.append(make_wheel(place, files).read_bytes())
        found.append(make_wheel(place, files, stored=files).read_bytes())
        points = [("pkg-1.0.dist-info/entry_points.txt", text) for text in _ENTRY_POINTS]
        more = [*points, *((name, b"y") for name in _NASTY)]
        found += [make_wheel(place, {**files, name: data}).read_bytes() for name, data in more]
        found.append(make_wheel(place, {"bomb": bytes(1_000_000)}).read_bytes())
        found.append(make_wheel(place, {"caf\u00e9": b"1", "cafe\u0301": b"2", "A/x": b"3", "a/x": b"4"}).read_bytes())
    found += [_with_mode(found[0], kind) for kind in (0o120777, 0o020666, 0o060660, 0o010644, 0o140755)]
    return found


def _with_mode(wheel: bytes, mode: int) -> bytes:
    """Return the wheel with its first member made a link, a device, a pipe or a socket."""
    position = wheel.index(b"PK\x01\x02")
    return wheel[: position + 38] + struct.pack("<I", mode << 16) + wheel[position + 42 :]


def mutate(wheel: bytes, chance: random.Random) -> bytes:
    """Return the wheel with one to four changes: of header fields, single bytes, or stretches cut and doubled."""
    data = bytearray(wheel)
    for _ in range(chance.randint(1, 4)):
        kind = chance.randrange(5)
        headers = [
            n for n in range(len(data) - 4) if bytes(data[n : n + 4]) in (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06")
        ]
        if kind < 3 and headers:  # a number in a header: sizes, CRC, offsets, flags, method, lengths
            place = chance.choice(headers) + chance.randrange(4, 46)
            value = chance.choice([0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, len(data), chance.getrandbits(32)])
            size = chance.choice([1, 2, 4])
            if place + size <= len(data):
                data[place : place + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        elif kind == 3 and data:
            data[chance.randrange(len(data))] = chance.getrandbits(8)
        elif data:
            start = chance.randrange(len(data))
            end = min(len(data), start + chance.randrange(1, 200))
            data[start:end] = data[start:end] * chance.choice([0, 2])
    return bytes(data)


def read_as_layer(data: bytes) -> bool:
    """Make a layer of the wheel ``data`` and check it; ``False`` if the wheel was refused."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / NAME
        path.write_bytes(data)
        sink = _Bounded()
        try:
            with open_wheel(path) as wheel:
                metadata(wheel)
                entries = wheel_entries(wheel, TARGET)
            written = write_layer(entries, sink)
        except LayerError:
            return False
    assert written.size == len(sink.getvalue())
    seen = set()
    with tarfile.open(fileobj=io.BytesIO(sink.getvalue()), mode="r:gz") as archive:
        for member in archive:
            assert member.isreg() or member.isdir(), member.name
            assert posixpath.normpath(member.name) == member.name, member.name
            assert member.name not in seen, member.name
            assert f"{member.name}/".startswith(f"{TARGET.data}/") or TARGET.data.startswith(f"{member.name}/")
            assert (member.uid, member.gid, member.mode & 0o7000) == (0, 0, 0)
            seen.add(member.name)
    return True


def with_member(name: str, content: bytes) -> bytes:
    """Return a wheel that has one more member."""
    with tempfile.TemporaryDirectory() as directory:
        return make_wheel(Path(directory), {"pkg/__init__.py": b"", name: content}).read_bytes()


class _Bounded(io.BytesIO):
    """Refuses to hold more than :data:`LARGEST` bytes."""

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        if self.tell() + len(data) > LARGEST:
            raise AssertionError("a small wheel became a large layer")
        return super().write(data)
