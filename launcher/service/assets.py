"""Style sheet, scripts, font and mark of the pages, held in memory: what is not one of them does not exist.

Their address has a hash over all of them (``/static/<hash>/build.js``), so that browsers may keep them for ever, and
modules that import each other by relative address stay of one version.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DIRECTORY = Path(__file__).parent / "static"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}


@dataclass(frozen=True)
class Asset:
    """A file: its media type, its bytes, and these compressed with gzip (``b""`` if that would not make it smaller)."""

    media_type: str
    content: bytes
    compressed: bytes


@dataclass(frozen=True)
class Assets:
    """All files by name; ``version`` is 12 hex digits of a hash over them."""

    files: Mapping[str, Asset]
    version: str

    @property
    def prefix(self) -> str:
        """The path that all of them are below."""
        return f"/static/{self.version}"


@cache
def assets() -> Assets:
    """Return the files."""
    files = {path.name: _read(path) for path in sorted(DIRECTORY.iterdir()) if path.suffix in _TYPES}
    digest = hashlib.sha256()
    for name, asset in files.items():
        digest.update(f"{name} {len(asset.content)}\n".encode() + asset.content)
    return Assets(files, digest.hexdigest()[:12])


def _read(path: Path) -> Asset:
    content = path.read_bytes()
    compressed = gzip.compress(content, mtime=0)
    return Asset(_TYPES[path.suffix], content, compressed if len(compressed) < len(content) else b"")
