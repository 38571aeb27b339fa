"""Reads pyproject.toml out of an archive of a project; the archive is unpacked in the sandbox, never here."""

from __future__ import annotations

import tarfile
import zipfile
from typing import TYPE_CHECKING

from builder.damaged import DAMAGED_ARCHIVE
from builder.sources.errors import SourceBuildError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
MOST_UNPACKED = 2 * 2**30
"""Bytes of an unpacked tar that are looked through for pyproject.toml."""
_LARGEST_TEXT = 2**20
_MOST_MEMBERS = 100_000
# AttributeError and TypeError are what tarfile raises for a gzip stream that ends within its header.
_DAMAGED: tuple[type[Exception], ...] = (*DAMAGED_ARCHIVE, OSError, ValueError, RuntimeError, AttributeError, TypeError)


def read_pyproject(archive: Path, subdirectory: str = "") -> bytes | None:
    """Return the project's pyproject.toml, or ``None`` if it has none.

    The project lies in the archive's only directory (``name-1.0/``) or at its top, below that in ``subdirectory``.
    Raises :class:`SourceBuildError` for a file that can't be read or has too much in it.
    """
    try:
        return _from_zip(archive, subdirectory) if archive.name.endswith(".zip") else _from_tar(archive, subdirectory)
    except _DAMAGED as error:
        raise SourceBuildError(f"{archive.name} can't be read as an archive: {error}") from error


def _wanted(name: str, subdirectory: str) -> int:
    """Return how far down the pyproject.toml of the project lies (1: at the top, 2: in a directory), 0 if it is not."""
    below = f"{subdirectory}/pyproject.toml" if subdirectory else "pyproject.toml"
    plain = name.removeprefix("./")
    if plain == below:
        return 1
    return 2 if plain.partition("/")[2] == below else 0


def _from_tar(archive: Path, subdirectory: str) -> bytes | None:
    found: dict[int, bytes] = {}
    with tarfile.open(archive, "r|*") as tar:
        for count, member in enumerate(tar):
            if count > _MOST_MEMBERS or member.offset_data + member.size > MOST_UNPACKED:
                raise SourceBuildError(f"{archive.name} has more in it than a source may have")
            depth = _wanted(member.name, subdirectory)
            if depth and member.isfile() and depth not in found:
                file = tar.extractfile(member)
                if file is not None:
                    found[depth] = _text(file, archive)
    return found.get(1, found.get(2))


def _from_zip(archive: Path, subdirectory: str) -> bytes | None:
    found: dict[int, bytes] = {}
    with zipfile.ZipFile(archive) as zipped:
        for info in zipped.infolist():
            depth = _wanted(info.filename, subdirectory)
            if depth and depth not in found:
                with zipped.open(info) as file:
                    found[depth] = _text(file, archive)
    return found.get(1, found.get(2))


def _text(file: IO[bytes], archive: Path) -> bytes:
    text = file.read(_LARGEST_TEXT + 1)
    if len(text) > _LARGEST_TEXT:
        raise SourceBuildError(f"{archive.name}: pyproject.toml has more than 1 MiB")
    return text
