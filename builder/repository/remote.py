"""A git repository somewhere else: its address checked, its refs listed, one commit fetched from it.

Redirects are followed here and not by git: each place is checked as the first one was, and a token goes only to the
host that it is for.
"""

from __future__ import annotations

import re
import shlex
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from builder.repository import credential
from builder.repository.addresses import SCHEMES, check_lists, checked_addresses, host_and_port
from builder.repository.git import GitError, git
from builder.repository.spec import COMMIT_ID, SCP_LIKE, RepositoryError, RepoSpec, UnreachableError
from builder.repository.web import redirect_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from builder.repository.fetching import Fetching
    from builder.repository.git import Settings

_MOST_REDIRECTS = 5
_LISTING_SECONDS = 60
# A service has no keys or passwords of its own to show: what it could read with them is not public.
_NOBODY = {"HOME": "/nonexistent", "GIT_CONFIG_GLOBAL": "/dev/null"}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9a-fA-F:.]+")
_REDIRECTED = re.compile(r"returned error: 30[12378]\b")
_SERVICE = "/info/refs?service=git-upload-pack"
# What a remote says when it wants credentials, or hides that it does by claiming that there is nothing.
_WANTS_LOGIN = ("could not read Username", "Authentication failed", "terminal prompts disabled", "Permission denied")
_MISSING = ("not found", "does not exist", "does not appear to be a git repository", "Repository not found")
_UNREACHABLE = ("Could not resolve host", "Failed to connect", "Connection refused", "timed out", "unable to access")
DAMAGED = re.compile(
    r"object file .* is empty|loose object .* is corrupt|pack(file)? .* (is corrupt|cannot be accessed|does not match)|"
    r"bad object|unable to read (sha1 file|tree)|missing (blob|tree|commit)|inflate: data stream error|"
    r"not a git repository|index file .* (is too small|corrupt)|packed object .* is corrupt|not a tree object"
)


@dataclass(frozen=True)
class Remote:
    """An address that may be asked; ``public`` is how it is called in messages."""

    location: str
    public: str
    settings: Settings
    environment: Mapping[str, str]


def check_location(location: str, fetching: Fetching, *, local: bool) -> str:
    """Check what can be checked of an address without the network, and return its scheme (``""`` for a directory).

    ``local`` says whether it may be a directory of this machine. Raises :class:`RepositoryError` with the sentence for
    an address that must not be asked.
    """
    spec = RepoSpec(location)
    public = spec.public_url
    scheme = urlsplit(location).scheme if "://" in location else "ssh" if SCP_LIKE.fullmatch(location) else ""
    if scheme not in ("", *SCHEMES):
        raise RepositoryError(f"{public} is not a git URL; use one of {', '.join(SCHEMES)}")
    check_lists(public, fetching)
    if spec.is_local or scheme == "file":
        if not (local and fetching.local):
            raise RepositoryError(
                f"{public} is a directory of this machine, which is not fetched from here; give a URL"
            )
        return scheme
    if scheme == "ssh" and not fetching.local:
        raise RepositoryError(f"{public} is for people with an ssh key, which a service has not; give the https URL")
    _check_userinfo(location, scheme)
    host, _ = host_and_port(location)
    # Programs read anything else in ways of their own: what is checked would not be what is asked.
    if not host or not _HOST.fullmatch(host) or any(character.isspace() for character in location):
        raise RepositoryError(f"{public!r} names no host in plain letters; write international names in punycode")
    return scheme


def connect(location: str, fetching: Fetching, *, local: bool) -> Remote:
    """Check an address, its host's network addresses too, and return the remote.

    Raises :class:`RepositoryError` as :func:`check_location`, and for a host of the local network.
    """
    spec = RepoSpec(location)
    public = spec.public_url
    scheme = check_location(location, fetching, local=local)
    environment = {"GIT_SSL_CAINFO": str(fetching.ca_bundle)} if fetching.ca_bundle else {}
    environment |= {} if fetching.local else _NOBODY
    if spec.is_local or scheme == "file":
        return Remote(spec.location, public, (), environment)
    host, port = host_and_port(location)
    addresses = checked_addresses(host, port, fetching)
    settings: Settings = ()
    if addresses and scheme == "git":
        raise RepositoryError(f"{public} would be fetched without encryption; use https")
    if addresses and scheme in ("http", "https") and host not in addresses:
        pinned = ",".join(f"[{address}]" if ":" in address else address for address in addresses)
        names = dict.fromkeys((host, host.rstrip(".")))  # curl drops a last dot, or does not
        settings = tuple(("http.curloptResolve", f"{name}:{port}:{pinned}") for name in names)
    if addresses and scheme == "ssh":
        command = f"ssh -o BatchMode=yes -o HostName={shlex.quote(addresses[0])} -o HostKeyAlias={shlex.quote(host)}"
        environment["GIT_SSH_COMMAND"] = command
    return Remote(location, public, settings + _credential(location, scheme, fetching), environment)


def _check_userinfo(location: str, scheme: str) -> None:
    parts = urlsplit(location) if "://" in location else None
    if parts and (parts.password or (parts.username and scheme != "ssh")):
        raise RepositoryError(
            f"{RepoSpec(location).public_url} was given with a user name or password in the URL, where others can read "
            "it; put the token into a file and give it with --git-token-file"
        )


def _credential(location: str, scheme: str, fetching: Fetching) -> Settings:
    credentials = fetching.credentials
    if credentials is None or scheme not in ("http", "https") or urlsplit(location).netloc != credentials.host:
        return ()
    if scheme == "http" and urlsplit(location).hostname not in _LOOPBACK:
        raise RepositoryError(f"a token is not sent to {RepoSpec(location).public_url} without encryption; use https")
    credentials.login()
    program = [sys.executable, "-I", "-S", str(Path(credential.__file__)), str(credentials.file.absolute())]
    key = f"credential.{scheme}://{credentials.host}.helper"
    # The empty one drops the helpers of the user's own settings: they would store the token.
    return ((key, ""), (key, shlex.join([*program, credentials.host])))


def list_refs(remote: Remote, fetching: Fetching) -> tuple[Remote, dict[str, str]]:
    """Return the remote's refs (name to object id), and the remote that answered in the end."""
    watch = _Deadline(remote, _LISTING_SECONDS).check
    listing_of = ("ls-remote", "--")
    remote, listing = _ask(remote, fetching, lambda there: _git(None, there, *listing_of, there.location, watch=watch))
    refs = {}
    for line in listing.decode(errors="replace").splitlines():
        object_id, _, name = line.partition("\t")
        if COMMIT_ID.fullmatch(object_id):
            refs[name] = object_id
    return remote, refs


def fetch_commit(git_dir: Path, remote: Remote, commit: str, ref: str, kept: str, fetching: Fetching) -> None:
    """Fetch one commit without history into a bare repository, and set the ref ``kept`` to it.

    Raises:
        RepositoryError: the remote does not have it, or it is bigger than allowed.
        GitError: git failed.
    """
    options = ("--no-tags", "--quiet", "--no-write-fetch-head", "--recurse-submodules=no", "--no-auto-gc")
    remote, _ = _ask(remote, fetching, lambda there: _shallow(git_dir, there, commit, ref, kept, options, fetching))


def _shallow(
    git_dir: Path, remote: Remote, commit: str, ref: str, kept: str, options: tuple[str, ...], fetching: Fetching
) -> bytes:
    def fetch(*arguments: str) -> None:
        git(
            git_dir,
            "fetch",
            *options,
            *arguments,
            settings=remote.settings,
            environment=remote.environment,
            watch=_Growth(git_dir, remote, fetching.max_bytes).check,
        )

    try:
        fetch("--depth=1", "--", remote.location, f"{commit}:{kept}")
    except GitError as error:
        if _REDIRECTED.search(error.said) or any(text in error.said for text in (*_WANTS_LOGIN, *_UNREACHABLE)):
            raise
    else:
        return b""
    # Some servers hand out only commits that a ref points at: ask by the ref, then for everything.
    if ref not in ("HEAD", commit):
        with suppress(GitError):
            fetch("--depth=1", "--", remote.location, f"+{ref}:{kept}")
            if _points_at(git_dir, kept, commit):
                return b""
            git(git_dir, "update-ref", "-d", kept)
    fetch("--", remote.location, "+refs/heads/*:refs/remotes/*", "+refs/tags/*:refs/remote-tags/*")
    try:
        git(git_dir, "cat-file", "-e", f"{commit}^{{commit}}")
        git(git_dir, "update-ref", kept, commit)
    except GitError as error:
        raise RepositoryError(f"{remote.public} has no commit {commit}") from error
    return b""


def _points_at(git_dir: Path, ref: str, commit: str) -> bool:
    return git(git_dir, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").decode().strip() == commit


class _Growth:
    """Watches the packs that arrive in a repository."""

    def __init__(self, git_dir: Path, remote: Remote, limit: int) -> None:
        self._packs = git_dir / "objects" / "pack"
        self._remote = remote
        self._limit = limit
        self._before = self._size()

    def _size(self) -> int:
        total = 0
        for path in self._packs.glob("*"):
            with suppress(FileNotFoundError):
                total += path.stat().st_size
        return total

    def check(self) -> None:
        if self._size() - self._before > self._limit:
            raise too_big(self._remote.public, self._limit)


def too_big(public: str, limit: int) -> RepositoryError:
    """Return the sentence for a repository that is bigger than the site allows."""
    return RepositoryError(
        f"{public} is bigger than the {limit / 1e6:.0f} MB that this site fetches; keep data elsewhere (XRootD, "
        "Zenodo), or ask the administrator to raise repositories.max_bytes"
    )


class _Deadline:
    """Ends what a host keeps waiting for longer than ``seconds``."""

    def __init__(self, remote: Remote, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._remote = remote

    def check(self) -> None:
        if time.monotonic() > self._end:
            raise UnreachableError(f"{self._remote.public} does not answer; try again later")


def _git(git_dir: Path | None, remote: Remote, *arguments: str, watch: Callable[[], None] | None = None) -> bytes:
    return git(git_dir, *arguments, settings=remote.settings, environment=remote.environment, watch=watch)


def _ask(remote: Remote, fetching: Fetching, question: Callable[[Remote], bytes]) -> tuple[Remote, bytes]:
    """Ask the remote, and where it redirects to."""
    for _ in range(_MOST_REDIRECTS):
        try:
            return remote, question(remote)
        except GitError as error:
            if not _REDIRECTED.search(error.said):
                raise
            target = redirect_of(remote.location.rstrip("/") + _SERVICE, fetching)
            base, separator, _ = (target or "").partition("/info/refs")
            if not separator:
                raise
            remote = replace(connect(base, fetching, local=False), public=remote.public)
    raise RepositoryError(f"{remote.public} redirects in circles; check the address")


def explained(error: GitError, where: str) -> RepositoryError:
    """Return the error for what git said about the repository ``where`` when its refs were asked for."""
    answered = any(text in error.said for text in (*_WANTS_LOGIN, *_MISSING, "404"))
    kind = UnreachableError if not answered and any(text in error.said for text in _UNREACHABLE) else RepositoryError
    return kind(explain(error, where))


def explain(error: GitError, where: str) -> str:
    """Return the sentence for what git said about the repository ``where``."""
    said = error.said
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
