"""Symbols and debug information of ELF files."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
import zstandard

from base_images.elf import symbol_bytes


def elf(sections: dict[bytes, bytes]) -> bytes:
    """Return an ELF file of these sections, the last of which are their names."""
    names = b"\0" + b"".join(name + b"\0" for name in (*sections, b".shstrtab"))
    body, headers = b"", []
    for name, content in {**sections, b".shstrtab": names}.items():
        headers.append(struct.pack("<IIQQQQ24x", names.index(name + b"\0"), 1, 0, 0, 64 + len(body), len(content)))
        body += content
    start = struct.pack(
        "<4sBBBB8xHHIQQQIHHHHHH",
        b"\x7fELF",
        2,
        1,
        1,
        0,
        3,
        62,
        1,
        0,
        0,
        64 + len(body),
        0,
        64,
        0,
        0,
        64,
        len(headers),
        len(headers) - 1,
    )
    return start + body + b"".join(headers)


SAMPLE = elf({b".text": bytes(100), b".symtab": bytes(24), b".strtab": bytes(7), b".debug_info": bytes(50)})


def test_only_what_no_program_needs_is_counted() -> None:
    assert symbol_bytes(io.BytesIO(SAMPLE)) == 24 + 7 + 50


def test_a_library_of_a_real_wheel_is_read() -> None:
    (path,) = Path(zstandard.__file__).parent.glob("backend_c.*.so")
    with path.open("rb") as library:
        assert 0 < symbol_bytes(library) < path.stat().st_size


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"text" * 40, SAMPLE[:-100], SAMPLE[:64]])
def test_what_is_no_whole_elf_file_has_none(content: bytes) -> None:
    assert symbol_bytes(io.BytesIO(content)) == 0
