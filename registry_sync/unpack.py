"""Unpacks an image into a directory, as Apptainer runs it: no root and no container engine are needed.

Layers are applied bottom first (image specification, layer.md)::

    usr/share/doc/.wh.old     removes usr/share/doc/old of the layers below
    opt/.wh..wh..opq          removes all that the layers below have in opt
    lib/x, where lib is a link to usr/lib below      becomes usr/lib/x

What a layer itself brings is never removed by its whiteouts, in whatever order they come. A name never leads out of the
directory: links are followed as in a root of their own, ``..`` in a name is refused. Everything belongs to whoever
unpacks; rights to become somebody else (setuid) and devices are left out. The bytes are checked against the digests of
manifest and configuration, and the directory appears at its place whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from registry_sync.errors import CasabinderError, DigestMismatchError
from registry_sync.layer_stream import DAMAGED, OPAQUE, WHITEOUT, as_file, plain_tar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from registry_sync.manifest import Descriptor, Manifest
    from registry_sync.store import Store

APPTAINER = {
    f".singularity.d/actions/{name}": f"#!/bin/sh\nexec {command}\n".encode()
    for name, command in {
        "exec": '"$@"',
        "run": '"$@"',
        "shell": '/bin/sh "$@"',
        "start": "true",
        "test": "true",
    }.items()
}
"""What Apptainer adds to an image that it unpacks itself: HTCondor runs no job in one that fails ``apptainer test``."""

_AUFS = ".wh..wh."
_MOST_LINKS = 40  # that lead to one place, as Linux has it
_MODE = 0o1777  # what of a mode is kept: not the bits by which a program becomes another user
_PIECE = 2**20


class UnpackError(CasabinderError):
    """An image can't be unpacked: what it holds, or where it is to go."""


def unpack_image(
    store: Store,
    repository: str,
    manifest: Manifest,
    target: Path,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    *,
    programs: Mapping[str, bytes] | None = None,
) -> None:
    """Make ``target``, which must not be there, the root of an image; ``progress`` is told layers, done and in all.

    ``programs`` are added by their paths, unless the image has something there.

    Raises :class:`UnpackError`, and what the store raises.
    """
    if os.path.lexists(target):
        raise UnpackError(f"{target} is there already: unpack to a place of its own, or remove it first")
    try:
        diff_ids = json.loads(store.read_blob(repository, manifest.config.digest))["rootfs"]["diff_ids"]
        pairs = list(zip(manifest.layers, diff_ids, strict=True))
    except (ValueError, KeyError, TypeError) as error:
        raise UnpackError(
            f"{repository}@{manifest.digest} is no image: its configuration does not list its layers"
        ) from error
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise UnpackError(f"nothing can be written in {target.parent}: {error.strerror}") from error
    try:
        root = Root(staging)
        for number, (layer, diff_id) in enumerate(pairs):
            progress(number, len(pairs))
            with store.open_blob(repository, layer.digest) as chunks:
                _apply(root, layer, diff_id, chunks)
        for path, content in (programs or {}).items():
            root.add_program(path, content)
        root.finish()
        staging.rename(target)
    except OSError as error:
        raise UnpackError(f"{target} can't be written: {error.strerror}") from error
    finally:
        _remove(staging)
    progress(len(pairs), len(pairs))


class Root:
    """The root of an image on disk, to which layers are applied."""

    def __init__(self, path: Path) -> None:
        self._root = path
        self._modes: dict[Path, tuple[int, float]] = {path: (0o755, 0.0)}  # of directories, set when all is there
        self._resolved: dict[tuple[str, ...], Path] = {}

    def apply(self, tar: tarfile.TarFile) -> None:
        """Put a layer on top of what is there.

        Raises:
            UnpackError: a name in it leads out of the image, or nowhere.
        """
        added: set[Path] = set()
        for member in tar:
            parts = _parts(member.name)
            if not parts:
                self._modes[self._root] = (member.mode & _MODE, member.mtime)
                continue
            parent, name = self._directory(parts[:-1]), parts[-1]
            if name == OPAQUE:
                for child in list(parent.iterdir()):
                    self._clear(child, added)
            elif name.startswith(_AUFS):
                continue
            elif name.startswith(WHITEOUT):
                self._clear(parent / _parts(name.removeprefix(WHITEOUT))[-1], added)
            else:
                self._add(tar, member, parent / name)
                added.add(parent / name)

    def add_program(self, name: str, content: bytes) -> None:
        """Add a file that can be run, unless there is something of this name."""
        parts = _parts(name)
        path = self._directory(parts[:-1]) / parts[-1]
        if not os.path.lexists(path):
            path.write_bytes(content)
            path.chmod(0o755)

    def finish(self) -> None:
        """Give all directories their modes and times: while files came, they had to be writable."""
        for path, (mode, time) in sorted(self._modes.items(), key=lambda item: len(item[0].parts), reverse=True):
            if path.is_dir() and not path.is_symlink():
                path.chmod(mode)
                os.utime(path, (time, time))

    def _add(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
        if member.isdir():
            if path.is_symlink() or not path.is_dir():
                self._clear(path, set())
                path.mkdir(0o700)
            self._modes[path] = (member.mode & _MODE, member.mtime)
            return
        if not (member.isreg() or member.issym() or member.islnk()):
            return  # a device or a pipe: whoever runs the image makes its own
        self._clear(path, set())
        if member.islnk():
            parts = _parts(member.linkname)
            source = self._directory(parts[:-1]) / parts[-1] if parts else self._root
            if (source.is_dir() and not source.is_symlink()) or not os.path.lexists(source):
                raise UnpackError(f"the image has a hard link {member.name!r} to {member.linkname!r}, which is no file")
            os.link(source, path, follow_symlinks=False)
            return
        if member.issym():
            path.symlink_to(member.linkname)
            self._resolved.clear()
        else:
            content = cast("BinaryIO", tar.extractfile(member))
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as sink:
                shutil.copyfileobj(content, sink, _PIECE)
            path.chmod(member.mode & _MODE)
        os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)

    def _directory(self, parts: tuple[str, ...]) -> Path:
        """Return a directory of the image, links on the way followed within it; what is missing is made."""
        if parts in self._resolved:
            return self._resolved[parts]
        there: list[str] = []
        to_go, links = list(reversed(parts)), 0
        while to_go:
            part = to_go.pop()
            if part in ("", "."):
                continue
            if part == "..":
                there = there[:-1]
                continue
            path = self._root.joinpath(*there, part)
            if path.is_symlink():
                links += 1
                if links > _MOST_LINKS:
                    raise UnpackError(f"the image has links at {'/'.join(parts)!r} that lead in a circle")
                target = path.readlink()
                there = [] if target.is_absolute() else there
                to_go.extend(reversed([part for part in target.parts if part != "/"]))
                continue
            if not path.is_dir():
                self._clear(path, set())
                path.mkdir(0o700)
                self._modes[path] = (0o755, 0.0)
            there.append(part)
        self._resolved[parts] = self._root.joinpath(*there)
        return self._resolved[parts]

    def _clear(self, path: Path, keep: set[Path]) -> None:
        """Remove a path and all below it, but what is in ``keep``."""
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return
        self._resolved.clear()
        if not stat.S_ISDIR(mode):
            if path not in keep:
                path.unlink()
            return
        for child in list(path.iterdir()):
            self._clear(child, keep)
        if path not in keep and not any(path.iterdir()):
            path.rmdir()


def _apply(root: Root, layer: Descriptor, diff_id: str, chunks: Iterator[bytes]) -> None:
    """Apply a layer whose compressed bytes are ``chunks`` and whose tar must have the digest ``diff_id``."""
    compressed = as_file(chunks)
    hashed = _Hashed(plain_tar(layer.media_type, compressed))
    try:
        with tarfile.open(fileobj=cast("BinaryIO", hashed), mode="r|") as tar:
            root.apply(tar)
        while hashed.read(_PIECE) or compressed.read(_PIECE):
            pass
    except DAMAGED as error:
        raise UnpackError(f"the layer {layer.digest} is damaged, or no layer: {error}") from error
    if hashed.digest != diff_id:
        raise DigestMismatchError(f"the layer {layer.digest} unpacks to {hashed.digest}, and not to {diff_id}")


def _parts(name: str) -> tuple[str, ...]:
    """Return the parts of a name in a layer; empty for the root."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise UnpackError(f"the image has a file with the path {name!r}, which could lead elsewhere")
    return parts


def _remove(directory: Path) -> None:
    """Remove what could not be finished, whatever modes its directories have."""
    if directory.exists():
        for path, _, _ in os.walk(directory):
            Path(path).chmod(0o700)
        shutil.rmtree(directory, ignore_errors=True)


class _Hashed:
    """A file of which the digest of all that was read is kept."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        return data
