"""Reads of an ELF file how many bytes are symbols and debug information, which no program needs to run.

Source: the System V ABI, chapter 4 (section headers), for 64 bits and little endian, as all wheels for x86-64 are.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

_BEGINNING = b"\x7fELF\x02\x01"
_FILE_HEADER = struct.Struct("<40xQ10xHHH")  # 64 bytes: place, size and number of section headers, which has the names
_SECTION = struct.Struct("<II8x8xQQ")  # of 64 bytes: name, type, place, size


def symbol_bytes(file: BinaryIO) -> int:
    """Return the bytes of the sections ``.symtab``, ``.strtab`` and ``.debug*``; 0 for what is no ELF file."""
    file.seek(0)
    header = file.read(64)
    if len(header) < 64 or not header.startswith(_BEGINNING):
        return 0
    place, size, number, names_at = _FILE_HEADER.unpack(header[: _FILE_HEADER.size])
    sections = []
    for index in range(number):
        file.seek(place + index * size)
        section = file.read(_SECTION.size)
        if len(section) < _SECTION.size:
            return 0
        sections.append(_SECTION.unpack(section))
    if names_at >= len(sections):
        return 0
    file.seek(sections[names_at][2])
    names = file.read(sections[names_at][3])
    return sum(section[3] for section in sections if _is_symbols(names[section[0] :].partition(b"\0")[0]))


def _is_symbols(name: bytes) -> bool:
    return name in (b".symtab", b".strtab") or name.startswith(b".debug")
