"""A repository's ref becomes a commit, and the commit a tree in a local bare cache.

Refs are resolved exactly: a name is a branch or a tag of just that name (an annotated tag stands for its commit), a
full ref (``refs/heads/main``), or a full commit id. Nothing is guessed from suffixes or prefixes. Only the one commit
is fetched, without history; submodules and LFS objects become files of the same tree. A record of an archive (Zenodo
and others) is resolved by its provider and comes out as a tree in the same way.

::

    RepoSpec --resolve_ref--> Commit --checkout--> Tree
      git:    ls-remote        fetch into <cache>/git, submodules.py, lfs.py, one tree
      record: builder/providers ask the archive's API, download, one tree
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from builder.providers.deposit import write_deposit
from builder.providers.known import archives
from builder.repository.addresses import check_lists
from builder.repository.cache import CachedRepository, bound_repositories
from builder.repository.fetching import Fetching
from builder.repository.git import GitError, git
from builder.repository.lfs import with_lfs_objects
from builder.repository.remote import (
    DAMAGED,
    check_location,
    connect,
    explain,
    explained,
    fetch_commit,
    list_refs,
    too_big,
)
from builder.repository.spec import COMMIT_ID, Commit, RepositoryError, RepoSpec
from builder.repository.submodules import DEEPEST, MOST_SUBMODULES, fetch_submodule, submodules
from builder.repository.tree import SUBMODULE, Tree, TreeFile, list_files, write_tree
from registry_sync.files import disk_error

if TYPE_CHECKING:
    from collections.abc import Mapping

_ABBREVIATED = re.compile(r"[0-9a-f]{7,39}")
_DEFAULTS = Fetching()


def resolve_ref(spec: RepoSpec, fetching: Fetching = _DEFAULTS) -> Commit:
    """Ask the repository for its refs and return the commit that ``spec.ref`` names. Fetches nothing.

    Raises :class:`RepositoryError` with one sentence: no such repository, no such ref, no access, not allowed.
    """
    if spec.archive:
        check_lists(spec.url, fetching)
        return archives(fetching.hosts)[spec.archive].resolve(spec, fetching)
    check_location(spec.location, fetching, local=True)
    _check_directory(spec)
    if COMMIT_ID.fullmatch(spec.ref):
        return Commit(spec, spec.ref, spec.ref)
    return named_commit(spec, remote_refs(spec, fetching))


def remote_refs(spec: RepoSpec, fetching: Fetching) -> dict[str, str]:
    """Ask a git repository for its refs (name to object id); raise :class:`RepositoryError` if it can't be read."""
    try:
        _, refs = list_refs(connect(spec.location, fetching, local=True), fetching)
    except GitError as error:
        raise explained(error, spec.public_url) from error
    return refs


def named_commit(spec: RepoSpec, refs: Mapping[str, str]) -> Commit:
    """Return the commit that ``spec.ref`` names among a repository's refs; raise :class:`RepositoryError` if none."""
    if COMMIT_ID.fullmatch(spec.ref):
        return Commit(spec, spec.ref, spec.ref)
    if spec.ref == "HEAD":
        if "HEAD" not in refs:
            raise RepositoryError(f"{spec.public_url} has no default branch; give one with --ref")
        return Commit(spec, refs["HEAD"], "HEAD")
    names = [spec.ref] if spec.ref.startswith("refs/") else [f"refs/heads/{spec.ref}", f"refs/tags/{spec.ref}"]
    found = {name: refs.get(f"{name}^{{}}", refs[name]) for name in names if name in refs and "^" not in name}
    if len(set(found.values())) > 1:
        raise RepositoryError(
            f"{spec.public_url} has both a branch and a tag {spec.ref!r}; say which: {' or '.join(sorted(found))}"
        )
    for name, commit in found.items():
        return Commit(spec, commit, name)
    hint = "; give all 40 characters of a commit" if _ABBREVIATED.fullmatch(spec.ref) else ""
    raise RepositoryError(f"{spec.public_url} has no branch or tag {spec.ref!r}{hint or _similar(spec.ref, refs)}")


def checkout(commit: Commit, cache: Path, fetching: Fetching = _DEFAULTS) -> Tree:
    """Bring the commit (only it, no history) into the bare cache, complete with submodules and LFS objects.

    Raises :class:`RepositoryError` when the repository does not have it, it breaks the site's limits, or it names no
    such subdirectory.
    """
    spec = commit.spec
    credentials = fetching.credentials
    repository = CachedRepository(cache, spec.location, credentials.realm() if credentials else "")
    try:
        hold = repository.hold()
        try:
            tree_id = _complete(repository, commit, fetching)
        except GitError as error:
            if not DAMAGED.search(error.said):
                raise
            with repository.alone():
                repository.move_away()
            tree_id = _complete(repository, commit, fetching)
    except OSError as error:
        raise disk_error(error, cache) from error
    except GitError as error:
        raise RepositoryError(explain(error, spec.public_url)) from error
    tree = Tree(commit, repository.git_dir, tree_id, hold)
    if spec.subdirectory and not tree.has_directory(spec.subdirectory):
        raise RepositoryError(f"{spec.public_url} has no directory {spec.subdirectory!r} at {commit.id[:12]}")
    return tree


def _complete(repository: CachedRepository, commit: Commit, fetching: Fetching) -> str:
    """Return the commit's complete tree, made if it is not there yet."""
    where = commit.spec.public_url
    kept = f"refs/casabinder-trees/{commit.id}"
    tree_id = repository.ref(kept)
    if tree_id:
        list_files(repository.git_dir, tree_id, where, fetching)
        return tree_id
    with repository.alone(), repository.incoming() as scratch:
        git_dir = repository.git_dir
        if commit.deposit is not None:
            tree_id = write_tree(git_dir, write_deposit(git_dir, commit.deposit, scratch, fetching))
        else:
            commit_ref = f"refs/casabinder/{commit.id}"
            if repository.ref(commit_ref) != commit.id:
                remote = connect(commit.spec.location, fetching, local=True)
                fetch_commit(git_dir, remote, commit.id, commit.ref, commit_ref, fetching)
            found = git(git_dir, "rev-parse", "--verify", f"{commit_ref}^{{tree}}").decode().strip()
            tree_id = _Composer(git_dir, scratch, fetching).compose(found, commit.spec.location, where)
        list_files(git_dir, tree_id, where, fetching)
        git(git_dir, "update-ref", kept, tree_id)
    bound_repositories(repository.git_dir.parents[1], fetching)
    return tree_id


class _Composer:
    """Makes one tree of a repository, its submodules and its LFS objects."""

    def __init__(self, git_dir: Path, scratch: Path, fetching: Fetching) -> None:
        self._git_dir = git_dir
        self._scratch = scratch
        self._fetching = fetching
        self._submodules = 0

    def compose(self, tree_id: str, location: str, where: str) -> str:
        plain = list_files(self._git_dir, tree_id, where, self._fetching)
        files = self._files(tree_id, plain, location, 0)
        return tree_id if files == plain else write_tree(self._git_dir, files)

    def _files(self, tree_id: str, plain: list[TreeFile], location: str, depth: int) -> list[TreeFile]:
        files = with_lfs_objects(self._git_dir, tree_id, plain, location, self._scratch, self._fetching)
        found = submodules(self._git_dir, tree_id, plain, location)
        self._submodules += len(found)
        if self._submodules > MOST_SUBMODULES or (found and depth >= DEEPEST):
            raise RepositoryError(
                f"there are more than {MOST_SUBMODULES} submodules, or they are nested deeper than {DEEPEST} levels"
            )
        local = RepoSpec(location).is_local or location.startswith("file://")
        result = [file for file in files if file.mode != SUBMODULE]
        for submodule in found:
            below = fetch_submodule(self._git_dir, submodule, self._fetching, local=local)
            listed = list_files(self._git_dir, below, f"the submodule {submodule.name}", self._fetching)
            prefix = submodule.path + b"/"
            result += [
                TreeFile(file.mode, file.object_id, file.size, prefix + file.path)
                for file in self._files(below, listed, submodule.url, depth + 1)
            ]
            if sum(file.size for file in result) > self._fetching.max_bytes:
                raise too_big(submodule.name, self._fetching.max_bytes)
        return result


def _check_directory(spec: RepoSpec) -> None:
    if not spec.is_local:
        return
    path = Path(spec.location)
    if not path.exists():
        raise RepositoryError(f"there is no directory {spec.location}; give a path or a git URL")
    if not (path / ".git").exists() and not (path / "HEAD").is_file():
        raise RepositoryError(
            f"{spec.location} is not a git repository; run `git init`, `git add` and `git commit` in it first"
        )


def _similar(ref: str, refs: Mapping[str, str]) -> str:
    from difflib import get_close_matches

    names = {
        name.split("/", 2)[2] for name in refs if name.startswith(("refs/heads/", "refs/tags/")) and "^" not in name
    }
    close = get_close_matches(ref, sorted(names), n=3) or sorted(names)[:5]
    return f"; it has {', '.join(close)}" if close else ""
