"""Takes a commit from a checkout on this machine as if it had been fetched from the repository's own address.

A CI job has the commit on disk, and what it builds must be found under the public address: the cache of that address
gets the commit here, so that nothing is fetched twice and no token for it is needed. Submodules and LFS objects still
come from where the repository says that they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.repository.cache import CachedRepository
from builder.repository.git import GitError, git
from builder.repository.remote import Remote, explain, fetch_commit
from builder.repository.spec import RepositoryError, RepoSpec
from registry_sync.files import disk_error

if TYPE_CHECKING:
    from pathlib import Path

    from builder.repository.fetching import Fetching
    from builder.repository.spec import Commit


def checked_out(directory: Path, ref: str = "HEAD") -> str:
    """Return the full id of the commit that ``ref`` names in a checkout.

    Raises :class:`RepositoryError` when the directory is no git repository, or has no such commit.
    """
    RepoSpec(str(directory), ref)  # refuses what git would take for an option
    command = ("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    try:
        return git(_git_dir(directory), *command).decode().strip()
    except GitError as error:
        raise RepositoryError(f"the checkout {directory} has no commit {ref!r}") from error


def history(directory: Path, commit: str, most: int) -> list[str]:
    """Return the commits before ``commit`` along its first parents, newest first, as far as the checkout has them."""
    listing = ("rev-list", "--first-parent", f"--max-count={most + 1}", commit)
    try:
        return git(_git_dir(directory), *listing).decode().split()[1:]
    except GitError:  # the checkout does not have the commit
        return []


def origin(directory: Path) -> str:
    """Return the address of the checkout's remote ``origin``, ``""`` if it has none."""
    try:
        return git(_git_dir(directory), "config", "--get", "remote.origin.url").decode().strip()
    except GitError:
        return ""


def adopt(commit: Commit, directory: Path, cache: Path, fetching: Fetching) -> None:
    """Bring ``commit`` from the checkout in ``directory`` into the cache of the address that it is known by.

    Raises :class:`RepositoryError` when the checkout does not have it.
    """
    credentials = fetching.credentials
    repository = CachedRepository(cache, commit.spec.location, credentials.realm() if credentials else "")
    kept = f"refs/casabinder/{commit.id}"
    checkout = str(directory.absolute())
    try:
        hold = repository.hold()
        with repository.alone():
            if repository.ref(kept) != commit.id:
                fetch_commit(
                    repository.git_dir, Remote(checkout, checkout, (), {}), commit.id, commit.id, kept, fetching
                )
        del hold
    except OSError as error:
        raise disk_error(error, cache) from error
    except GitError as error:
        raise RepositoryError(explain(error, checkout)) from error


def _git_dir(directory: Path) -> Path:
    from pathlib import Path

    try:
        found = git(None, "-C", str(directory.absolute()), "rev-parse", "--absolute-git-dir")
    except GitError as error:
        raise RepositoryError(f"{directory} is not a git repository; run this in the checkout that is built") from error
    return Path(found.decode().rstrip("\n"))
