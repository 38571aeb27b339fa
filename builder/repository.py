"""A git repository's ref becomes a commit, and the commit a tree in a local bare cache.

Refs are resolved exactly: a name is a branch or a tag of just that name (an annotated tag stands for its commit), a
full ref (``refs/heads/main``), or a full commit id. Nothing is guessed from suffixes or prefixes. Only the one commit
is fetched, without history, into ``<cache>/git/<hash of the address>.git``.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from git import Git, Repo
from git.exc import GitCommandError, GitError

from registry_sync.errors import CasabinderError
from registry_sync.files import disk_error

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ABBREVIATED = re.compile(r"[0-9a-f]{7,39}")
_SCP_LIKE = re.compile(r"(?P<user>[\w.-]+@)?(?P<host>[\w.-]+):(?P<path>[^/:][^:]*)")
_SCHEMES = ("https", "http", "ssh", "git", "file")
# What a remote says when it wants credentials, or hides that it does by claiming that there is nothing.
_WANTS_LOGIN = ("could not read Username", "Authentication failed", "terminal prompts disabled", "Permission denied")
_MISSING = ("not found", "does not exist", "does not appear to be a git repository", "Repository not found")
_UNREACHABLE = ("Could not resolve host", "Failed to connect", "Connection refused", "timed out", "unable to access")


class RepositoryError(CasabinderError):
    """A repository, a ref or a tree in it that can't be had."""


@dataclass(frozen=True)
class RepoSpec:
    """What a user asked for: a git URL or a path, a ref, and a directory below which environment files are."""

    url: str
    ref: str = "HEAD"
    subdirectory: str = ""

    def __post_init__(self) -> None:
        if self.url.startswith("-") or self.ref.startswith("-"):
            raise RepositoryError(
                f"{(self.url if self.url.startswith('-') else self.ref)!r} is neither a URL nor a ref"
            )
        if "://" in self.url:
            try:
                _ = urlsplit(self.url).port
            except ValueError as error:
                raise RepositoryError(f"{self.url!r} is not a URL: {error}") from error
        parts = self.subdirectory.split("/") if self.subdirectory else []
        if any(part in ("", ".", "..", ".git") for part in parts) or self.subdirectory.startswith("/"):
            raise RepositoryError(f"--subdir {self.subdirectory!r} must be a plain path below the repository's root")

    @property
    def is_local(self) -> bool:
        """Whether the repository is a directory of this machine."""
        return "://" not in self.url and not _SCP_LIKE.fullmatch(self.url)

    @property
    def location(self) -> str:
        """What git is told: the URL, or the absolute path of a local repository."""
        return str(Path(self.url).expanduser().resolve()) if self.is_local else self.url

    @property
    def public_url(self) -> str:
        """The URL without user name and password, for records and messages."""
        if self.is_local or "://" not in self.url:
            return self.location
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2].rpartition("]")[0] + "]" if "[" in parts.netloc else parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
        return parts._replace(netloc=host + port).geturl()

    @property
    def slug(self) -> str:
        """A short name for the image: what people would call the repository, and 6 hex digits of its address."""
        path = re.sub(r"\.git/?$", "", self.public_url.rstrip("/"))
        names = [name for name in re.split(r"[/:]", path) if name][-(1 if self.is_local else 2) :]
        plain = re.sub(r"[^a-z0-9]+", "-", "-".join(names).lower()).strip("-")[:80] or "repository"
        return f"{plain}-{hashlib.sha256(path.encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class Commit:
    """A commit that exists: ``id`` is its full id, ``ref`` the full name it was found by (or the id again)."""

    spec: RepoSpec
    id: str
    ref: str


@dataclass(frozen=True)
class Tree:
    """The files of a commit in a bare repository on disk: ``tree_id`` names the git tree of the whole commit."""

    commit: Commit
    git_dir: Path
    tree_id: str

    def read(self, path: str, limit: int = 2**20) -> bytes | None:
        """Return a file of the tree, ``None`` if there is none; raise :class:`RepositoryError` for an unusable one.

        A symlink is followed as long as it stays in the tree.
        """
        for _ in range(10):
            listing = _git(self.git_dir).ls_tree("-z", "-l", self.tree_id, "--", path)
            if not listing:
                return None
            mode, kind, blob, size = listing.split("\t")[0].split()
            if kind != "blob":
                return None
            if not size.isdecimal():  # git says BAD
                raise RepositoryError(f"the cache {self.git_dir} is damaged; delete it and build again")
            if int(size) > limit:
                raise RepositoryError(f"{path} has {size} bytes; an environment file may have {limit}")
            content = _git(self.git_dir).cat_file("blob", blob, stdout_as_string=False, strip_newline_in_stdout=False)
            if mode != "120000":
                return bytes(content)
            joined = os.path.normpath(os.path.join(os.path.dirname(path), content.decode("utf-8", "replace")))  # noqa: PTH118, PTH120
            if joined.startswith("/") or joined.split("/")[0] == "..":
                raise RepositoryError(f"{path} is a symlink that leads out of the repository; remove it")
            path = joined
        raise RepositoryError(f"{path} is a symlink that leads nowhere")

    def names(self, directory: str) -> set[str]:
        """Return the names of what lies directly in a directory (``""`` is the root)."""
        where = f"{self.tree_id}:{directory}" if directory else self.tree_id
        try:
            listing = _git(self.git_dir).ls_tree("-z", "--name-only", where)
        except GitCommandError:
            return set()
        return {name for name in listing.split("\0") if name}

    def has_directory(self, path: str) -> bool:
        """Whether ``path`` is a directory of the tree."""
        listing = str(_git(self.git_dir).ls_tree("-z", self.tree_id, "--", path))
        return listing.startswith("040000 tree")


def resolve_ref(spec: RepoSpec, ca_bundle: Path | None = None) -> Commit:
    """Ask the repository for its refs and return the commit that ``spec.ref`` names. Fetches nothing.

    ``ca_bundle`` are the certificates to trust instead of git's own, for repositories behind a private CA.

    Raises :class:`RepositoryError` with one sentence: no such repository, no such ref, no access.
    """
    _check_address(spec)
    if _COMMIT.fullmatch(spec.ref):
        return Commit(spec, spec.ref, spec.ref)
    try:
        listing = str(_git(ca_bundle=ca_bundle).ls_remote("--", spec.location))
    except GitCommandError as error:
        raise RepositoryError(_explain(error, spec)) from error
    refs: dict[str, str] = {}
    for line in listing.splitlines():
        object_id, _, name = line.partition("\t")
        refs[name] = object_id
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


def checkout(commit: Commit, cache: Path, ca_bundle: Path | None = None) -> Tree:
    """Fetch the commit (only it, no history) into the bare cache and return its tree.

    Raises :class:`RepositoryError` when the repository does not have it, or it names no such subdirectory.
    """
    spec = commit.spec
    git_dir = cache / "git" / (hashlib.sha256(spec.location.encode()).hexdigest()[:32] + ".git")
    try:
        git_dir.mkdir(parents=True, exist_ok=True)
        if not _has(git_dir, commit.id):
            with _alone(git_dir):
                _git().init("--bare", "--quiet", "--", str(git_dir))
                _fetch(git_dir, commit, ca_bundle)
        tree_id = _git(git_dir).rev_parse("--verify", "--end-of-options", f"{commit.id}^{{tree}}")
    except OSError as error:
        raise disk_error(error, cache) from error
    except GitCommandError as error:
        raise RepositoryError(_explain(error, spec)) from error
    tree = Tree(commit, git_dir, tree_id)
    if spec.subdirectory and not tree.has_directory(spec.subdirectory):
        raise RepositoryError(f"{spec.public_url} has no directory {spec.subdirectory!r} at {commit.id[:12]}")
    return tree


def _fetch(git_dir: Path, commit: Commit, ca_bundle: Path | None) -> None:
    git, location = _git(git_dir, ca_bundle), commit.spec.location
    options = ("--no-tags", "--quiet", "--no-write-fetch-head", "--recurse-submodules=no", "--no-auto-gc")
    keep = _kept(commit.id)
    with suppress(GitCommandError):
        git.fetch(*options, "--depth=1", "--", location, f"{commit.id}:{keep}")
        return
    # Some servers hand out only commits that a ref points at: ask by the ref, then for everything.
    if commit.ref not in ("HEAD", commit.id):
        with suppress(GitCommandError):
            git.fetch(*options, "--depth=1", "--", location, f"{commit.ref}:{keep}")
    if not _has(git_dir, commit.id):
        git.fetch(*options, "--", location, "+refs/heads/*:refs/remotes/*", "+refs/tags/*:refs/remote-tags/*")
        try:
            git.cat_file("-e", f"{commit.id}^{{commit}}")
            git.update_ref(keep, commit.id)
        except GitCommandError as error:
            raise RepositoryError(f"{commit.spec.public_url} has no commit {commit.id}") from error


@contextmanager
def _alone(git_dir: Path) -> Iterator[None]:
    """Keep other processes from fetching into the repository; take away what a failed fetch leaves behind."""
    descriptor = os.open(git_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    except BaseException:
        for leftover in git_dir.glob("objects/pack/tmp_*"):
            leftover.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _kept(commit: str) -> str:
    """Every fetched commit has a ref of its own: git sets it once all objects are there, and no clean-up takes them."""
    return f"refs/casabinder/{commit}"


def _has(git_dir: Path, commit: str) -> bool:
    try:
        return str(_git(git_dir).rev_parse("--verify", "--quiet", f"{_kept(commit)}^{{commit}}")) == commit
    except GitCommandError:
        return False


def _git(git_dir: Path | None = None, ca_bundle: Path | None = None) -> Git:
    git = Git(git_dir)
    if ca_bundle is not None:
        git.update_environment(GIT_SSL_CAINFO=str(ca_bundle))
    git.update_environment(
        GIT_TERMINAL_PROMPT="0",
        GIT_ASKPASS="true",
        SSH_ASKPASS="true",
        GIT_SSH_COMMAND="ssh -o BatchMode=yes",
        GIT_ALLOW_PROTOCOL=":".join(_SCHEMES),
        GIT_CONFIG_COUNT="3",
        GIT_CONFIG_KEY_0="core.hooksPath",
        GIT_CONFIG_VALUE_0="/dev/null",
        GIT_CONFIG_KEY_1="safe.directory",
        GIT_CONFIG_VALUE_1="*",
        # Packs arrive whole; loose objects would stay behind when the disk fills up halfway.
        GIT_CONFIG_KEY_2="fetch.unpackLimit",
        GIT_CONFIG_VALUE_2="1",
        LC_ALL="C",
    )
    return git


def _check_address(spec: RepoSpec) -> None:
    if spec.is_local:
        path = Path(spec.location)
        if not path.exists():
            raise RepositoryError(f"there is no directory {spec.location}; give a path or a git URL")
        try:
            Repo(path, search_parent_directories=False).close()
        except GitError as error:
            raise RepositoryError(
                f"{spec.location} is not a git repository; run `git init`, `git add` and `git commit` in it first"
            ) from error
    elif "://" in spec.url and urlsplit(spec.url).scheme not in _SCHEMES:
        raise RepositoryError(f"{spec.public_url} is not a git URL; use one of {', '.join(_SCHEMES)}")


def _explain(error: GitCommandError, spec: RepoSpec) -> str:
    said = " ".join(str(error.stderr or "").split())
    where = spec.public_url
    if any(text in said for text in _WANTS_LOGIN):
        return f"{where} does not exist or is private; check the address, or give git access to it"
    if "404" in said or any(text in said for text in _MISSING):
        return f"there is no git repository at {where}; check the address"
    if "does not have any commits" in said or "bad revision" in said:
        return f"{where} has no commits yet"
    if any(text in said for text in _UNREACHABLE):
        return f"{where} can't be reached; check the address and the network"
    if "dubious ownership" in said:
        return f"{where} belongs to another user, and git does not read it for you; build it as its owner"
    if "No space left" in said:
        return "the cache is full: free some space, or set CASABINDER_CACHE to another disk"
    last = said.rpartition("fatal:")[2].strip(" '\"") or "no reason given"
    return f"git could not read {where}: {last}"


def _similar(ref: str, refs: dict[str, str]) -> str:
    from difflib import get_close_matches

    names = {
        name.split("/", 2)[2] for name in refs if name.startswith(("refs/heads/", "refs/tags/")) and "^" not in name
    }
    close = get_close_matches(ref, sorted(names), n=3) or sorted(names)[:5]
    return f"; it has {', '.join(close)}" if close else ""
