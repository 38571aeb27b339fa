"""A stretch of a file read as a file of its own: a wheel's member, a member of a tar."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class FileSection(io.RawIOBase):
    """``size`` bytes of a file from ``offset`` on, as a file of its own."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        self._left = size
        self._file = path.open("rb", buffering=0)
        self._file.seek(offset)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left)) or b""
        self._left -= len(data)
        return data

    def close(self) -> None:
        self._file.close()
        super().close()
