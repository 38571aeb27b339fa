"""Git LFS: pointer files become the files that they stand for.

A pointer is a blob below 1 KB that begins with ``version https://git-lfs.github.com/spec/v1`` and names a SHA-256 and a
size (git-lfs/docs/spec.md). Objects come from the server's batch API (git-lfs/docs/api/batch.md) at
``<repository>.git/info/lfs``, or where ``.lfsconfig`` says; for a repository of this machine from its ``lfs/objects``.
Each is checked against its pointer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from builder.repository.git import GitError, git
from builder.repository.remote import connect
from builder.repository.spec import SCP_LIKE, RepositoryError, RepoSpec
from builder.repository.tree import EXECUTABLE, FILE, TreeFile, check_size, read_blobs, write_blobs
from builder.repository.web import Expected, download, web_client

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import httpx

    from builder.repository.fetching import Fetching

_POINTER_BYTES = 1024
_BATCH = 100
_TYPE = "application/vnd.git-lfs+json"
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:[a-z0-9.-]+ [^\n]*\n)*?oid sha256:(?P<oid>[0-9a-f]{64})\n"
    rb"(?:[a-z0-9.-]+ [^\n]*\n)*?size (?P<size>\d{1,18})\n(?:[a-z0-9.-]+ [^\n]*\n)*"
)


@dataclass(frozen=True)
class Pointer:
    """What a pointer file stands for."""

    oid: str
    size: int


def parse_pointer(content: bytes) -> Pointer | None:
    """Return the pointer that a file's content is, ``None`` if it is none."""
    match = _POINTER.fullmatch(content) if len(content) < _POINTER_BYTES else None
    return Pointer(match["oid"].decode(), int(match["size"])) if match else None


def with_lfs_objects(
    git_dir: Path, tree_id: str, files: Sequence[TreeFile], location: str, scratch: Path, fetching: Fetching
) -> list[TreeFile]:
    """Return the files of a tree with every pointer replaced by its object, which is written to the repository.

    Raises :class:`RepositoryError` naming the file whose object can't be had.
    """
    pointers = _pointers(git_dir, files)
    if not pointers:
        return list(files)
    total = sum(file.size for file in files)
    for file, pointer in pointers.items():
        total += pointer.size
        check_size(file.name, pointer.size, total, RepoSpec(location).public_url, fetching)
    wanted: dict[Pointer, str] = {}
    for file, pointer in pointers.items():
        wanted.setdefault(pointer, file.name)
    local = RepoSpec(location).is_local or location.startswith("file://")
    paths = _local(location, wanted) if local else _remote(git_dir, tree_id, location, wanted, scratch, fetching)
    blobs = dict(zip(paths, write_blobs(git_dir, list(paths.values())), strict=True))
    replaced = []
    for file in files:
        found = pointers.get(file)
        replaced.append(TreeFile(file.mode, blobs[found], found.size, file.path) if found else file)
    return replaced


def _pointers(git_dir: Path, files: Sequence[TreeFile]) -> dict[TreeFile, Pointer]:
    attributes = [
        file.object_id for file in files if file.path.split(b"/")[-1] == b".gitattributes" and file.size < 2**20
    ]
    if not any(b"filter=lfs" in content for content in read_blobs(git_dir, attributes).values()):
        return {}
    small = [file for file in files if file.mode in (FILE, EXECUTABLE) and 0 < file.size < _POINTER_BYTES]
    contents = read_blobs(git_dir, list(dict.fromkeys(file.object_id for file in small)))
    found = {file: parse_pointer(contents[file.object_id]) for file in small}
    return {file: pointer for file, pointer in found.items() if pointer}


def _local(location: str, wanted: Mapping[Pointer, str]) -> dict[Pointer, Path]:
    directory = Path(location.removeprefix("file://"))
    try:
        common = git(None, "-C", str(directory), "rev-parse", "--git-common-dir").decode().strip()
    except GitError as error:
        raise RepositoryError(f"{location} can't be asked for its LFS objects") from error
    objects = directory / common / "lfs" / "objects"
    found = {pointer: objects / pointer.oid[:2] / pointer.oid[2:4] / pointer.oid for pointer in wanted}
    for pointer, path in found.items():
        if not path.is_file() or not _is(path, pointer):
            raise RepositoryError(f"{wanted[pointer]} is an LFS pointer whose object is not there; run `git lfs fetch`")
    return found


def _is(path: Path, pointer: Pointer) -> bool:
    import hashlib

    with path.open("rb") as stream:
        return path.stat().st_size == pointer.size and hashlib.file_digest(stream, "sha256").hexdigest() == pointer.oid


def _remote(
    git_dir: Path,
    tree_id: str,
    location: str,
    wanted: Mapping[Pointer, str],
    scratch: Path,
    fetching: Fetching,
) -> dict[Pointer, Path]:
    server = _server(git_dir, tree_id, location)
    connect(server, fetching, local=False)  # the rules for addresses hold here too
    found: dict[Pointer, Path] = {}
    with web_client(fetching) as client:
        pointers = list(wanted)
        for start in range(0, len(pointers), _BATCH):
            batch = pointers[start : start + _BATCH]
            for pointer, action in _ask(client, server, batch, wanted, fetching).items():
                path = scratch / pointer.oid
                expected = Expected(f"the LFS object of {wanted[pointer]}", pointer.size, f"sha256:{pointer.oid}")
                headers = {str(name): str(value) for name, value in (action.get("header") or {}).items()}
                download(client, str(action["href"]), path, expected, fetching.max_file_bytes, headers)
                found[pointer] = path
    return found


def _server(git_dir: Path, tree_id: str, location: str) -> str:
    """Return the LFS server's URL (git-lfs/docs/api/server-discovery.md)."""
    try:
        stated = git(git_dir, "config", "--blob", f"{tree_id}:.lfsconfig", "--get", "lfs.url").decode().strip()
    except GitError:
        stated = ""
    if stated:
        if not stated.startswith(("https://", "http://")):
            raise RepositoryError(f"the LFS server {stated!r} of .lfsconfig is not an https URL")
        return stated.rstrip("/")
    scp = SCP_LIKE.fullmatch(location)
    if scp and "://" not in location:
        location = f"https://{scp['host']}/{scp['path']}"
    elif location.startswith("ssh://"):
        parts = urlsplit(location)
        location = f"https://{parts.hostname}{parts.path}"
    base = location.rstrip("/")
    return f"{base if base.endswith('.git') else base + '.git'}/info/lfs"


def _ask(
    client: httpx.Client, server: str, batch: Sequence[Pointer], wanted: Mapping[Pointer, str], fetching: Fetching
) -> dict[Pointer, dict[str, Any]]:
    from httpx import USE_CLIENT_DEFAULT

    credentials = fetching.credentials
    theirs = credentials is not None and urlsplit(server).netloc == credentials.host
    question = {
        "operation": "download",
        "transfers": ["basic"],
        "objects": [{"oid": pointer.oid, "size": pointer.size} for pointer in batch],
    }
    answer = client.post(
        f"{server}/objects/batch",
        json=question,
        headers={"Accept": _TYPE, "Content-Type": _TYPE},
        auth=credentials.login() if credentials and theirs else USE_CLIENT_DEFAULT,
    )
    first = wanted[batch[0]]
    if answer.status_code in (401, 403):
        raise RepositoryError(f"the LFS server of {first} wants a login; give a token with --git-token-file")
    if answer.status_code != 200:
        raise RepositoryError(f"the LFS server answered {answer.status_code} when asked for {first}")
    try:
        objects = {entry["oid"]: entry for entry in answer.json()["objects"]}
        actions = {}
        for pointer in batch:
            entry = objects.get(pointer.oid, {})
            if "error" in entry or "download" not in entry.get("actions", {}):
                reason = entry.get("error", {}).get("message", "it has no such object")
                raise RepositoryError(f"the LFS server does not hand out {wanted[pointer]}: {reason}")
            actions[pointer] = entry["actions"]["download"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RepositoryError(f"the LFS server's answer for {first} can't be understood") from error
    return actions
