"""The bare repositories on local disk: shared by many builders at once, bounded, replaced when damaged.

::

    <cache>/git/<32 hex of the address>.git     objects of the commits that were fetched, each kept by a ref
    <cache>/git/<same>.fetch                    locked (flock) by the one process that changes the repository
    <cache>/git/<same>.use                      locked shared by who reads it, exclusively by who removes it
    <cache>/git/incoming-*                      files on their way in

Repositories that need a token are kept apart per token, so that nobody reads a private repository out of the cache who
could not fetch it. Locks belong to processes: they end with them, however these end.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from builder.bounded import Entry, bound, files_below
from builder.repository.git import GitError, git

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.repository.fetching import Fetching

_STALE_SECONDS = 24 * 3600


class Hold:
    """A shared lock on a repository: while the object lives nobody removes the repository."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        os.utime(self._descriptor)

    def __del__(self) -> None:
        with suppress(OSError, AttributeError):
            os.close(self._descriptor)


class CachedRepository:
    """The bare repository of one address."""

    def __init__(self, cache: Path, location: str, realm: str = "") -> None:
        self._directory = cache / "git"
        key = f"{location}\0{realm}" if realm else location
        self._name = hashlib.sha256(key.encode()).hexdigest()[:32]

    @property
    def git_dir(self) -> Path:
        """Where it is, or will be."""
        return self._directory / f"{self._name}.git"

    def hold(self) -> Hold:
        """Keep it from being removed for as long as the result lives."""
        self._directory.mkdir(parents=True, exist_ok=True)
        return Hold(self._directory / f"{self._name}.use")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from changing it, make it if needed, and take away what a failed fetch leaves behind."""
        descriptor = os.open(self._directory / f"{self._name}.fetch", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._clean()
            if not (self.git_dir / "HEAD").exists():
                self.git_dir.mkdir(exist_ok=True)
                git(None, "init", "--bare", "--quiet", "--template=", "--", str(self.git_dir))
            yield
        finally:
            self._clean()
            os.close(descriptor)

    def _clean(self) -> None:
        for leftover in (*self.git_dir.glob("objects/pack/tmp_*"), *self.git_dir.glob("objects/??/tmp_obj_*")):
            leftover.unlink(missing_ok=True)
        for leftover in (*self.git_dir.glob("refs/casabinder/**/*.lock"), *self.git_dir.glob("*.lock")):
            leftover.unlink(missing_ok=True)

    def ref(self, name: str) -> str:
        """Return the object that a ref points at, ``""`` if there is none, or it is gone."""
        try:
            return git(self.git_dir, "rev-parse", "--verify", "--quiet", f"{name}^{{}}").decode().strip()
        except GitError:
            return ""

    def move_away(self) -> None:
        """Take a damaged repository out of the way. Call it within :meth:`alone`."""
        aside = Path(tempfile.mkdtemp(dir=self._directory, prefix="incoming-"))
        with suppress(FileNotFoundError):
            self.git_dir.rename(aside / "damaged")
        shutil.rmtree(aside, ignore_errors=True)

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """Give a directory for files on their way into the repository."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._directory, prefix="incoming-") as name:
            yield Path(name)


def bound_repositories(cache: Path, fetching: Fetching) -> None:
    """Remove the repositories that were not used for longest until the rest fits; never one that is in use."""
    directory = cache / "git"
    entries = [Entry(_last_use(path), _size(path), path) for path in directory.glob("*.git")]
    bound(entries, fetching.cache_bytes, _removed)
    for leftover in directory.glob("incoming-*"):
        with suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)


def _removed(git_dir: Path) -> bool:
    """Remove a repository unless somebody uses it."""
    descriptor = os.open(git_dir.with_suffix(".use"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        aside = Path(tempfile.mkdtemp(dir=git_dir.parent, prefix="incoming-"))
        with suppress(FileNotFoundError):
            git_dir.rename(aside / "old")
        shutil.rmtree(aside, ignore_errors=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _last_use(git_dir: Path) -> float:
    try:
        return git_dir.with_suffix(".use").stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(directory: Path) -> int:
    total = 0
    for path in files_below(directory):
        with suppress(FileNotFoundError):
            total += path.lstat().st_blocks * 512
    return total
