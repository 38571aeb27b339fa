"""Submodules: each is fetched at the commit that the repository names, and its files become files of the one tree.

``.gitmodules`` says where a submodule comes from; a relative address is relative to that of the repository it is in
(gitmodules(5)). The address passes the same rules as one that a user gives, and a directory of this machine is taken
only from a repository that is one itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.repository.git import GitError, git
from builder.repository.remote import connect, explain, fetch_commit
from builder.repository.spec import RepositoryError, RepoSpec
from builder.repository.tree import SUBMODULE, TreeFile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.repository.fetching import Fetching

MOST_SUBMODULES = 100
DEEPEST = 5
_KEY = re.compile(r"submodule\.(?P<name>.+)\.(?P<what>path|url)", re.DOTALL)


@dataclass(frozen=True)
class Submodule:
    """A submodule: its path in the repository it is in, where it comes from, and its commit."""

    path: bytes
    url: str
    commit: str

    @property
    def name(self) -> str:
        """The path, for messages."""
        return self.path.decode("utf-8", "replace")


def submodules(git_dir: Path, tree_id: str, files: Sequence[TreeFile], location: str) -> list[Submodule]:
    """Return the submodules of a tree; ``location`` is the address of the repository it is in.

    Raises :class:`RepositoryError` for a submodule without an address.
    """
    links = [file for file in files if file.mode == SUBMODULE]
    if not links:
        return []
    try:
        listing = git(git_dir, "config", "-z", "--blob", f"{tree_id}:.gitmodules", "--list")
    except GitError:
        listing = b""
    stated: dict[str, dict[str, str]] = {}
    for entry in listing.split(b"\0"):
        key, _, value = entry.partition(b"\n")
        match = _KEY.fullmatch(key.decode("utf-8", "surrogateescape"))
        if match:
            stated.setdefault(match["name"], {})[match["what"]] = value.decode("utf-8", "surrogateescape")
    urls = {
        entry["path"].rstrip("/").encode("utf-8", "surrogateescape"): entry.get("url", "")
        for entry in stated.values()
        if "path" in entry
    }
    found = []
    for link in links:
        url = urls.get(link.path, "")
        if not url:
            raise RepositoryError(
                f"the submodule {link.name} has no address in .gitmodules; add it there, or remove the submodule"
            )
        found.append(Submodule(link.path, resolve_url(location, url), link.object_id))
    return found


def resolve_url(location: str, url: str) -> str:
    """Return where a submodule of the repository at ``location`` comes from, as git resolves it.

    >>> resolve_url("https://host/group/repo.git", "../other.git")
    'https://host/group/other.git'
    >>> resolve_url("git@host:group/repo", "../../x/y")
    'git@host:x/y'
    """
    if not url.startswith(("./", "../")):
        return url
    base = location.rstrip("/")
    host_end = base.index("://") + 3 if "://" in base else 0
    while True:
        if url.startswith("./"):
            url = url[2:]
        elif url.startswith("../"):
            url = url[3:]
            cut = max(base.rfind("/"), base.rfind(":"))
            if cut <= host_end:
                raise RepositoryError(f"a submodule's address leads above {location}")
            base, separator = base[:cut], base[cut]
            if separator == ":" and not url.startswith("../"):
                return f"{base}:{url}".rstrip("/")
        else:
            return f"{base}/{url}".rstrip("/")


def fetch_submodule(git_dir: Path, submodule: Submodule, fetching: Fetching, *, local: bool) -> str:
    """Fetch a submodule's commit into the repository and return its tree.

    Raises :class:`RepositoryError` with one sentence that names the submodule.
    """
    kept = f"refs/casabinder-submodules/{submodule.commit}"
    try:
        try:
            return _tree(git_dir, kept)
        except GitError:
            remote = connect(submodule.url, fetching, local=local)
            fetch_commit(git_dir, remote, submodule.commit, submodule.commit, kept, fetching)
            return _tree(git_dir, kept)
    except GitError as error:
        reason = explain(error, RepoSpec(submodule.url).public_url)
        raise RepositoryError(f"the submodule {submodule.name} can't be had: {reason}") from error
    except RepositoryError as error:
        raise RepositoryError(f"the submodule {submodule.name} can't be had: {error}") from error


def _tree(git_dir: Path, ref: str) -> str:
    return git(git_dir, "rev-parse", "--verify", "--quiet", f"{ref}^{{tree}}").decode().strip()
