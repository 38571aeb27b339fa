"""Makes the entries of a layer from a git tree: what a checkout would put on disk, read from git's objects.

A working directory depends on umask, ``autocrlf``, filters, hooks and what else lies in it; a tree depends on nothing
but its id. So the tree is listed (``git ls-tree``) and its blobs are read (``git cat-file --batch``) without a
checkout, and the layer is a pure function of tree id, destination and owner::

    100644 blob  analysis.ipynb             srv/repo/analysis.ipynb             0644
    100755 blob  start                      srv/repo/start                      0755
    120000 blob  data -> shared/2024        srv/repo/data                       symlink, it stays in the tree
    120000 blob  passwd -> /etc/passwd      refused
    160000 commit vendor/lib (submodule)    srv/repo/vendor/lib                 an empty directory, as git makes it

Blobs come in batches of up to ``BATCH`` bytes per git process, in the order in which the layer is written, so that
ten thousand small files need few processes, and memory stays bounded; bigger blobs are streamed.
"""

from __future__ import annotations

import io
import re
import subprocess
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from builder.layers.archive import check_path
from builder.layers.errors import LayerError
from builder.layers.layer import Entry, Streamed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

BATCH = 4 * 1024 * 1024
"""Bytes of small blobs held in memory; a blob from a quarter of this on is streamed."""
_OBJECT_ID = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_INCOMPLETE = "the repository is incomplete: the object {} cannot be read; clone it again"
_LARGEST_TARGET = 4000
_MOST_HOPS = 40  # as Linux


@dataclass(frozen=True)
class _Item:
    mode: str
    blob: str
    size: int
    path: str


def tree_entries(
    git_dir: Path, tree_id: str, destination: str = "srv/repo", uid: int = 1000, gid: int = 1000
) -> list[Entry]:
    """Return the entries that put a git tree at ``destination``, owned by ``uid`` and ``gid``.

    Args:
        git_dir: a repository (bare, or with a working directory, which is not looked at).
        tree_id: the full hexadecimal id of a tree or commit.
        destination: a path relative to the image's root; it is the first entry.

    Raises:
        LayerError: the repository has no such tree, or a path in it cannot be in an image: not UTF-8, ``.git``,
            ``.wh.``, or a symlink that leads out of the tree.
    """
    if not _OBJECT_ID.fullmatch(tree_id):
        raise LayerError(f"{tree_id!r} is not the id of a git tree")
    items = _list(git_dir, tree_id)
    for item in items:
        check_path(f"{destination}/{item.path}")
        if ".git" in (part.casefold() for part in item.path.split("/")):
            raise LayerError(f"the repository holds {item.path!r}, a part of a git directory; remove it")
    blobs = _Blobs(git_dir, [item for item in items if item.mode in ("100644", "100755")])
    links = dict(_links(git_dir, [item for item in items if item.mode == "120000"]))
    for path in links:
        _check_link(path, links)
    entries = [Entry(destination, "directory", mode=0o755, uid=uid, gid=gid)]
    for item in items:
        path = f"{destination}/{item.path}"
        if item.mode in ("040000", "160000"):
            entries.append(Entry(path, "directory", mode=0o755, uid=uid, gid=gid))
        elif item.mode == "120000":
            entries.append(Entry(path, "symlink", target=links[item.path], uid=uid, gid=gid))
        else:
            mode = 0o755 if item.mode == "100755" else 0o644
            entries.append(Entry(path, "file", blobs.content(item), mode=mode, uid=uid, gid=gid))
    return entries


def _git(git_dir: Path, *arguments: str) -> list[str]:
    # safe.directory: the repository is the builder's own clone, whoever owns the volume it lies on. No replacement
    # objects: a tree id must mean what it says. Git holds blobs below bigFileThreshold (512 MB) in memory.
    settings = ("-c", "safe.directory=*", "-c", "core.bigFileThreshold=8m", "--no-replace-objects")
    return ["git", *settings, "-C", str(git_dir), *arguments]


def _list(git_dir: Path, tree_id: str) -> list[_Item]:
    arguments = _git(git_dir, "ls-tree", "-r", "-t", "-z", "-l", "--full-tree", tree_id, "--")
    listed = subprocess.run(arguments, capture_output=True, check=False)
    if listed.returncode:
        cause = listed.stderr.decode(errors="replace").strip()
        raise LayerError(f"the tree {tree_id} cannot be read from the repository: {cause}")
    items = []
    for line in listed.stdout.split(b"\0")[:-1]:
        about, _, name = line.partition(b"\t")
        mode, _, blob, size = about.decode("ascii").split()
        if size != "-" and not size.isdecimal():  # git says BAD
            raise LayerError(_INCOMPLETE.format(blob))
        items.append(_Item(mode, blob, 0 if size == "-" else int(size), name.decode("utf-8", "surrogateescape")))
    return items


def _links(git_dir: Path, items: Sequence[_Item]) -> Iterator[tuple[str, str]]:
    """Yield path and target of the symlinks."""
    blobs = _Blobs(git_dir, items)
    for item in items:
        if not 0 < item.size <= _LARGEST_TARGET:
            raise LayerError(f"the symlink {item.path!r} has an unusable target of {item.size} bytes; remove it")
        try:
            yield item.path, blobs.open(item).read().decode()
        except UnicodeDecodeError as error:
            raise LayerError(f"the symlink {item.path!r} has a target that is not UTF-8; rename it") from error


def _check_link(path: str, links: dict[str, str]) -> None:
    """Follow a symlink as the kernel would, through other symlinks of the tree, and refuse it if that leads out."""
    target = links[path]
    here = path.split("/")[:-1]
    to_go = target.split("/")[::-1]
    hops = 0
    outside = LayerError(
        f"the symlink {path!r} points to {target!r}, outside the repository; remove it or make it relative"
    )
    if target.startswith("/"):
        raise outside
    while to_go:
        part = to_go.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not here:
                raise outside
            here.pop()
            continue
        here.append(part)
        onward = links.get("/".join(here))
        if onward is None:
            continue
        hops += 1
        if hops > _MOST_HOPS:
            raise LayerError(f"the symlink {path!r} points to {target!r}, which goes round in circles; remove it")
        if onward.startswith("/"):
            raise outside
        here.pop()
        to_go.extend(onward.split("/")[::-1])


class _Blobs:
    """The contents of files: small ones are read ahead in batches, in the order of their paths."""

    def __init__(self, git_dir: Path, items: Sequence[_Item]) -> None:
        self._git_dir = git_dir
        self._small = sorted((item for item in items if item.size < BATCH // 4), key=lambda item: item.path)
        self._paths = [item.path for item in self._small]
        self._batch: dict[str, bytes] = {}

    def content(self, item: _Item) -> Streamed:
        return Streamed(lambda: self.open(item), item.size)

    def open(self, item: _Item) -> BinaryIO:
        if item.size >= BATCH // 4:
            return cast("BinaryIO", _BigBlob(self._git_dir, item.blob))
        if item.blob not in self._batch:
            self._batch = self._read(self._following(bisect_left(self._paths, item.path)))
        return io.BytesIO(self._batch[item.blob])

    def _following(self, start: int) -> list[_Item]:
        size = 0
        found: list[_Item] = []
        for item in self._small[start:]:
            size += item.size
            if found and size > BATCH:
                break
            found.append(item)
        return found

    def _read(self, items: list[_Item]) -> dict[str, bytes]:
        wanted = dict.fromkeys(item.blob for item in items)
        arguments = _git(self._git_dir, "cat-file", "--batch")
        answer = subprocess.run(arguments, input="\n".join([*wanted, ""]).encode(), capture_output=True, check=False)
        stream = io.BytesIO(answer.stdout)
        read = {}
        for blob in wanted:
            header = stream.readline().split()
            if len(header) != 3 or header[1] != b"blob":
                raise LayerError(_INCOMPLETE.format(blob))
            read[blob] = stream.read(int(header[2]))
            stream.read(1)
        return read


class _BigBlob(io.RawIOBase):
    """One blob as a file to read from, which ends its git process when it is closed.

    A blob that git cannot read ends early, and the layer's writer finds its size wrong.
    """

    def __init__(self, git_dir: Path, blob: str) -> None:
        arguments = _git(git_dir, "cat-file", "blob", blob)
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._process.stdout.read(size) if self._process.stdout else b""

    def close(self) -> None:
        if self._process.stdout:
            self._process.stdout.close()
        self._process.wait()
        super().close()
