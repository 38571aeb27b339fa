"""A record of an archive as data: which files it holds; and these files as files of a git tree.

The id of a deposit is the first 40 hex digits of the SHA-256 over its canonical JSON, so that a record that changes has
another id, and one that does not is built once. What the host's API said is what is downloaded, and every checksum that
it gave is verified.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from builder.providers.unpack import is_archive, unpack
from builder.repository.spec import COMMIT_ID, Commit, RepositoryError, RepoSpec
from builder.repository.tree import FILE, TreeFile, check_size, write_blobs
from builder.repository.web import CHECKSUMS, Expected, download, web_client
from registry_sync.manifest import canonical_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.repository.fetching import Fetching


@dataclass(frozen=True)
class DepositFile:
    """A file of a record: its path, its size in bytes (-1: not said), ``md5:...`` or ``""``, and where it is."""

    path: str
    size: int
    checksum: str
    url: str


@dataclass(frozen=True)
class Deposit:
    """A version of a record. With ``unpack`` a single file that is an archive stands for what is in it."""

    provider: str
    record: str
    version: str
    files: tuple[DepositFile, ...]
    unpack: bool = False

    @property
    def id(self) -> str:
        """40 hex digits over everything that decides the files."""
        document = {
            "provider": self.provider,
            "record": self.record,
            "version": self.version,
            "unpack": self.unpack,
            "files": sorted([file.path, file.size, file.checksum] for file in self.files),
        }
        return hashlib.sha256(canonical_json(document)).hexdigest()[:40]


def deposited(spec: RepoSpec, exact: str, deposit: Deposit) -> Commit:
    """Return the commit for a deposit; ``exact`` is the name (``zenodo:10.5281/zenodo.2``) of just this version.

    Raises :class:`RepositoryError` when the user asked for another version, or the record has no files.
    """
    if not deposit.files:
        raise RepositoryError(f"{exact} has no files that can be downloaded")
    if spec.ref not in ("HEAD", deposit.id):
        if COMMIT_ID.fullmatch(spec.ref):
            raise RepositoryError(f"{exact} holds other files than it did as {spec.ref[:12]}; that state is gone")
        raise RepositoryError(f"{exact} has no refs; name the version by its DOI and leave --ref out")
    return Commit(RepoSpec(exact, spec.ref, spec.subdirectory), deposit.id, deposit.version, deposit)


def checksum_of(algorithm: str, value: str) -> str:
    """Return ``md5:...`` for what an API states, ``""`` for what is no checksum that we can verify."""
    name = algorithm.lower().replace("-", "")
    value = value.strip().lower()
    return f"{name}:{value}" if name in CHECKSUMS and re.fullmatch(r"[0-9a-f]{32,128}", value) else ""


def check_file_path(path: str) -> str:
    """Return a path that may be in a repository; raise :class:`RepositoryError` for any other."""
    parts = path.split("/")
    if (
        not path
        or "\0" in path
        or "\n" in path
        or any(part in ("", ".", "..") or part.lower() == ".git" for part in parts)
    ):
        raise RepositoryError(f"the record holds a file {path[:200]!r}, which has no place in a repository")
    return path


def write_deposit(git_dir: Path, deposit: Deposit, scratch: Path, fetching: Fetching) -> list[TreeFile]:
    """Download a deposit, write its files to the repository as blobs, and return them.

    Raises :class:`RepositoryError` when a file can't be had, is not what it was said to be, or is too big.
    """
    where = f"the {deposit.provider} record {deposit.record}"
    if len(deposit.files) > fetching.max_files:
        raise RepositoryError(f"{where} has more than the {fetching.max_files} files that this site allows")
    total = 0
    downloaded: list[Path] = []
    with web_client(fetching) as client:
        for number, file in enumerate(deposit.files):
            check_file_path(file.path)
            check_size(file.path, file.size, total + max(file.size, 0), where, fetching)
            place = scratch / str(number)
            limit = min(fetching.max_file_bytes, fetching.max_bytes - total)
            total += download(client, file.url, place, Expected(file.path, file.size, file.checksum), limit)
            downloaded.append(place)
    if deposit.unpack and len(downloaded) == 1 and is_archive(downloaded[0]):
        return _unpacked(git_dir, downloaded[0], scratch, where, fetching)
    blobs = write_blobs(git_dir, downloaded)
    return [
        TreeFile(FILE, blob, place.stat().st_size, file.path.encode())
        for blob, place, file in zip(blobs, downloaded, deposit.files, strict=True)
    ]


def _unpacked(git_dir: Path, archive: Path, scratch: Path, where: str, fetching: Fetching) -> list[TreeFile]:
    members = unpack(archive, scratch / "unpacked", where, fetching)
    blobs = write_blobs(git_dir, [member.content for member in members])
    skip = _only_directory([member.path for member in members])
    return [
        TreeFile(member.mode, blob, member.content.stat().st_size, member.path[skip:].encode())
        for blob, member in zip(blobs, members, strict=True)
    ]


def _only_directory(paths: Sequence[str]) -> int:
    """Return how many characters to drop when everything lies in one directory, as repo2docker does."""
    tops = {PurePosixPath(path).parts[0] for path in paths}
    return len(tops.pop()) + 1 if len(tops) == 1 and all("/" in path for path in paths) else 0
