"""Unpacks a zip or tar file without trusting a word of it.

Members are written to numbered files, so that no name in the archive ever becomes a path on this machine. Refused are
absolute names and ``..``, devices and pipes, links that lead out of the archive, members of one name, encryption, and
more files or bytes than the site allows (counted as they come out, whatever the archive claims).
"""

from __future__ import annotations

import errno
import posixpath
import stat
import struct
import tarfile
import zipfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from builder.damaged import DAMAGED_ARCHIVE
from builder.repository.spec import RepositoryError
from builder.repository.tree import EXECUTABLE, FILE, LINK, check_size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.repository.fetching import Fetching

_CHUNK = 2**20
_RATIO = 200
"""An archive may unpack to so many times its own size; text compresses 10 to 50 times."""
_SMALL = 50 * 2**20
"""Below this the ratio does not matter."""
_LONGEST_TARGET = 4000


@dataclass(frozen=True)
class Member:
    """A file that came out: its path in the archive, git's mode, and where its content (or a link's target) lies."""

    path: str
    mode: str
    content: Path


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or tar file that can be unpacked."""
    return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)


def unpack(archive: Path, directory: Path, where: str, fetching: Fetching) -> list[Member]:
    """Unpack into numbered files of ``directory``, which is made; ``where`` names the archive in messages.

    Raises :class:`RepositoryError` for anything that is not as it should be.
    """
    directory.mkdir()
    unpacker = _Unpacker(archive, directory, where, fetching)
    try:
        members = list(unpacker.zip() if zipfile.is_zipfile(archive) else unpacker.tar())
    except DAMAGED_ARCHIVE as error:
        raise RepositoryError(f"the archive of {where} is damaged: {error}") from error
    except (RuntimeError, ValueError, OverflowError, struct.error) as error:
        raise RepositoryError(f"the archive of {where} can't be unpacked: {error}") from error
    except OSError as error:
        if error.errno not in (errno.EINVAL, None):  # a seek to nowhere, a bad gzip header
            raise
        raise RepositoryError(f"the archive of {where} is damaged: {error}") from error
    if not members:
        raise RepositoryError(f"the archive of {where} is empty")
    return members


class _Unpacker:
    def __init__(self, archive: Path, directory: Path, where: str, fetching: Fetching) -> None:
        self._archive = archive
        self._directory = directory
        self._where = where
        self._fetching = fetching
        self._seen: dict[str, Member] = {}
        self._headers = 0
        self._total = 0

    def zip(self) -> Iterator[Member]:
        with zipfile.ZipFile(self._archive) as source:
            for info in source.infolist():
                self._count()
                mode = info.external_attr >> 16
                if info.is_dir():
                    self._path(info.filename.rstrip("/"))
                elif stat.S_ISLNK(mode):
                    with source.open(info) as stream:
                        yield self._link(info.filename, stream.read(_LONGEST_TARGET + 1).decode())
                elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                    raise self._refused(info.filename, "is no file")
                else:
                    with source.open(info) as stream:
                        yield self._file(info.filename, EXECUTABLE if mode & 0o100 else FILE, stream)

    def tar(self) -> Iterator[Member]:
        with tarfile.open(self._archive) as source:
            for info in source:
                self._count()
                if info.isdir():
                    if info.name not in (".", "./"):
                        self._path(info.name)
                elif info.issym():
                    yield self._link(info.name, info.linkname)
                elif info.islnk():
                    known = self._seen.get(self._path(info.linkname))
                    if known is None:
                        raise self._refused(info.name, "is a link to what is not there")
                    with known.content.open("rb") as stream:
                        yield self._file(info.name, known.mode, stream)
                elif info.isreg():
                    stream_or_none = source.extractfile(info)
                    if stream_or_none is None:
                        raise self._refused(info.name, "is no file")
                    with stream_or_none as stream:
                        yield self._file(info.name, EXECUTABLE if info.mode & 0o100 else FILE, stream)
                else:
                    raise self._refused(info.name, "is a device or a pipe")

    def _count(self) -> None:
        self._headers += 1
        if self._headers > 2 * self._fetching.max_files or len(self._seen) >= self._fetching.max_files:
            raise RepositoryError(
                f"the archive of {self._where} has more than the {self._fetching.max_files} files that this site allows"
            )

    def _file(self, name: str, mode: str, stream: IO[bytes]) -> Member:
        member = self._member(name, mode)
        size = 0
        allowed = max(_SMALL, _RATIO * self._archive.stat().st_size)
        with member.content.open("wb") as sink:
            while data := stream.read(_CHUNK):
                size += len(data)
                self._total += len(data)
                check_size(member.path, size, self._total, self._where, self._fetching)
                if self._total > allowed:
                    raise RepositoryError(f"the archive of {self._where} unpacks to more than {_RATIO} times its size")
                sink.write(data)
        return member

    def _link(self, name: str, target: str) -> Member:
        member = self._member(name, LINK)
        joined = posixpath.normpath(posixpath.join(posixpath.dirname(member.path), target))
        outside = target.startswith("/") or joined.split("/")[0] == ".."
        if not target or outside or "\0" in target or len(target) > _LONGEST_TARGET:
            raise self._refused(name, "is a symlink that leads out of it")
        member.content.write_bytes(target.encode())
        return member

    def _member(self, name: str, mode: str) -> Member:
        path = self._path(name)
        if path in self._seen:
            raise self._refused(name, "is there twice")
        member = Member(path, mode, self._directory / str(len(self._seen)))
        self._seen[path] = member
        return member

    def _path(self, name: str) -> str:
        path = name
        while path.startswith("./"):
            path = path[2:]
        path = path.rstrip("/")
        parts = path.split("/")
        if not path or any(part in ("", ".", "..") or part.lower() == ".git" for part in parts) or "\0" in path:
            raise self._refused(name, "has no place in a repository")
        path.encode()  # a name that is not UTF-8 raises UnicodeEncodeError
        return path

    def _refused(self, name: str, why: str) -> RepositoryError:
        return RepositoryError(f"the archive of {self._where} holds {name[:200]!r}, which {why}")
