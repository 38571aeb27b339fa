"""Git trees in a bare repository: read, listed within limits, and written from lists of files.

A tree's id depends on the names, contents and executable bits of its files and on nothing else, whoever writes it: a
tree composed here of a repository and its submodules, or of the files of a Zenodo record, is as reproducible as a
commit's.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from builder.repository.git import GitError, git, git_records
from builder.repository.spec import Commit, RepositoryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from builder.repository.fetching import Fetching

FILE, EXECUTABLE, LINK, SUBMODULE = "100644", "100755", "120000", "160000"


@dataclass(frozen=True)
class TreeFile:
    """A file of a tree: git's mode, the object's id, its size in bytes (0 for a submodule), and its path."""

    mode: str
    object_id: str
    size: int
    path: bytes

    @property
    def name(self) -> str:
        """The path, for messages."""
        return self.path.decode("utf-8", "replace")


@dataclass(frozen=True)
class Tree:
    """The files of a commit in a bare repository on disk: ``tree_id`` names the git tree of the whole commit.

    ``hold`` keeps the repository from being removed while the tree is in use.
    """

    commit: Commit
    git_dir: Path
    tree_id: str
    hold: object = field(default=None, compare=False, repr=False)

    def read(self, path: str, limit: int = 2**20) -> bytes | None:
        """Return a file of the tree, ``None`` if there is none; raise :class:`RepositoryError` for an unusable one.

        A symlink is followed as long as it stays in the tree.
        """
        for _ in range(10):
            listing = git(self.git_dir, "ls-tree", "-z", "-l", self.tree_id, "--", path).decode(errors="replace")
            if not listing:
                return None
            mode, kind, blob, size = listing.split("\t")[0].split()
            if kind != "blob":
                return None
            if not size.isdecimal():  # git says BAD
                raise RepositoryError(f"the cache {self.git_dir} is damaged; delete it and build again")
            if int(size) > limit:
                raise RepositoryError(f"{path} has {size} bytes; an environment file may have {limit}")
            content = git(self.git_dir, "cat-file", "blob", blob)
            if mode != LINK:
                return content
            joined = os.path.normpath(os.path.join(os.path.dirname(path), content.decode("utf-8", "replace")))  # noqa: PTH118, PTH120
            if joined.startswith("/") or joined.split("/")[0] == "..":
                raise RepositoryError(f"{path} is a symlink that leads out of the repository; remove it")
            path = joined
        raise RepositoryError(f"{path} is a symlink that leads nowhere")

    def names(self, directory: str) -> set[str]:
        """Return the names of what lies directly in a directory (``""`` is the root)."""
        where = f"{self.tree_id}:{directory}" if directory else self.tree_id
        try:
            listing = git(self.git_dir, "ls-tree", "-z", "--name-only", where).decode(errors="replace")
        except GitError:
            return set()
        return {name for name in listing.split("\0") if name}

    def has_directory(self, path: str) -> bool:
        """Whether ``path`` is a directory of the tree."""
        return git(self.git_dir, "ls-tree", "-z", self.tree_id, "--", path).startswith(b"040000 tree")


def list_files(git_dir: Path, tree_id: str, where: str, fetching: Fetching) -> list[TreeFile]:
    """Return all files of a tree.

    Raises:
        RepositoryError: there are more files or bytes than the site allows.
        GitError: an object is missing or damaged.
    """
    files: list[TreeFile] = []
    count = size = 0
    for record in git_records(git_dir, "ls-tree", "-r", "-t", "-z", "-l", "--full-tree", tree_id, "--"):
        about, _, path = record.partition(b"\t")
        mode, kind, object_id, bytes_ = about.decode("ascii").split()
        count += 1
        if count > fetching.max_files * 2 or len(files) > fetching.max_files:
            raise RepositoryError(
                f"{where} has more than the {fetching.max_files} files that this site allows; pack them"
            )
        if kind == "tree":
            continue
        if kind == "blob" and not bytes_.isdecimal():
            raise GitError(["ls-tree"], f"missing blob {object_id}")
        file = TreeFile(mode, object_id, int(bytes_) if kind == "blob" else 0, path)
        size += file.size
        check_size(file.name, file.size, size, where, fetching)
        files.append(file)
    return files


def check_size(name: str, size: int, total: int, where: str, fetching: Fetching) -> None:
    """Raise :class:`RepositoryError` when a file, or all files together, have more bytes than the site allows."""
    if size > fetching.max_file_bytes:
        raise RepositoryError(
            f"{name} of {where} has {size / 1e6:.0f} MB, and a file may have {fetching.max_file_bytes / 1e6:.0f} MB at "
            "this site; keep data elsewhere"
        )
    if total > fetching.max_bytes:
        raise RepositoryError(
            f"the files of {where} have more than the {fetching.max_bytes / 1e6:.0f} MB that this site allows; keep "
            "data elsewhere"
        )


def read_blobs(git_dir: Path, blobs: Sequence[str]) -> dict[str, bytes]:
    """Return the contents of small blobs by id."""
    if not blobs:
        return {}
    answer = git(git_dir, "cat-file", "--batch", data="\n".join([*blobs, ""]).encode())
    read, position = {}, 0
    for blob in blobs:
        end = answer.index(b"\n", position)
        size = int(answer[position:end].split()[2])
        read[blob] = answer[end + 1 : end + 1 + size]
        position = end + 1 + size + 1
    return read


def write_blobs(git_dir: Path, paths: Sequence[Path]) -> list[str]:
    """Write files as blobs, as they are, and return their ids; big ones are streamed."""
    if not paths:
        return []
    names = "".join(f"{path.absolute()}\n" for path in paths).encode()
    written = git(git_dir, "hash-object", "-w", "--no-filters", "--stdin-paths", data=names)
    return written.decode("ascii").split()


def write_tree(git_dir: Path, files: Iterable[TreeFile]) -> str:
    """Write the tree that consists of ``files``, whose objects are there, and return its id.

    Raises :class:`RepositoryError` for two files of one path, a path that git refuses (``..``, ``.git``, absolute), or
    a path that is a file and a directory.
    """
    lines = []
    seen: set[bytes] = set()
    for file in files:
        if file.path in seen:
            raise RepositoryError(f"there are two files {file.name!r}")
        seen.add(file.path)
        lines.append(f"{file.mode} {file.object_id}\t".encode() + file.path + b"\0")
    for path in seen:
        for parent in _parents(path):
            if parent in seen:
                raise RepositoryError(f"{parent.decode(errors='replace')!r} is a file and a directory")
    with tempfile.TemporaryDirectory(dir=git_dir, prefix="index-") as directory:
        environment: Mapping[str, str] = {"GIT_INDEX_FILE": str(Path(directory) / "index")}
        try:
            git(git_dir, "update-index", "-z", "--index-info", data=b"".join(lines), environment=environment)
        except GitError as error:
            raise RepositoryError(
                f"a path can't be in a repository: {error.said.rpartition('fatal:')[2].strip()}"
            ) from error
        return git(git_dir, "write-tree", environment=environment).decode().strip()


def _parents(path: bytes) -> Iterator[bytes]:
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        yield path
