"""Runs git: no shell, no questions, no hooks, none of the caller's repository variables."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

from builder.repository.addresses import SCHEMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

Settings = tuple[tuple[str, str], ...]
_WATCH_SECONDS = 0.05
# What `git rev-parse --local-env-vars` lists: they would point git at a repository of the caller's.
_LOCAL = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT",
    "GIT_OBJECT_DIRECTORY",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_REPLACE_REF_BASE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_COMMON_DIR",
)
_SETTINGS: Settings = (
    ("core.hooksPath", "/dev/null"),
    ("safe.directory", "*"),
    # Packs arrive whole; loose objects would stay behind when the disk fills up halfway.
    ("fetch.unpackLimit", "1"),
    # Git holds blobs below this in memory.
    ("core.bigFileThreshold", "8m"),
    ("http.followRedirects", "false"),
)


class GitError(Exception):
    """Git failed; ``said`` is its standard error on one line."""

    def __init__(self, arguments: Sequence[str], said: str) -> None:
        super().__init__(f"git {' '.join(arguments)}: {said}")
        self.said = said


def git(
    git_dir: Path | None,
    *arguments: str,
    data: bytes = b"",
    settings: Settings = (),
    environment: Mapping[str, str] | None = None,
    watch: Callable[[], None] | None = None,
) -> bytes:
    """Run git in a repository and return what it prints.

    ``watch`` is called while git runs; what it raises ends git and goes on to the caller.

    Raises:
        GitError: git failed.
    """
    process = subprocess.Popen(
        _command(git_dir, arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(settings, environment or {}),
        start_new_session=True,
    )
    pending: bytes | None = data or None
    try:
        while True:
            try:
                printed, said = process.communicate(pending, timeout=_WATCH_SECONDS if watch else None)
                break
            except subprocess.TimeoutExpired:
                pending = None  # it is on its way
                if watch:
                    watch()
    except BaseException:
        _end(process)
        raise
    if process.returncode:
        raise GitError(arguments, " ".join(said.decode(errors="replace").split()))
    return printed


def git_records(git_dir: Path, *arguments: str) -> Iterator[bytes]:
    """Yield the NUL-terminated records that git prints, as they come; end git when the caller has seen enough."""
    process = subprocess.Popen(
        _command(git_dir, arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment((), {}),
        start_new_session=True,
    )
    stdout, stderr = process.stdout, process.stderr
    if stdout is None or stderr is None:  # for the type checker: both are pipes
        raise GitError(arguments, "no pipe")
    rest = b""
    try:
        while chunk := stdout.read1(2**18):  # type: ignore[attr-defined]
            *whole, rest = (rest + chunk).split(b"\0")
            yield from whole
        said = stderr.read()
        if process.wait():
            raise GitError(arguments, " ".join(said.decode(errors="replace").split()))
    finally:
        _end(process)
        stdout.close()
        stderr.close()


def _command(git_dir: Path | None, arguments: Sequence[str]) -> list[str]:
    # No replacement objects: an id must mean what it says.
    return ["git", "--no-replace-objects", *(["--git-dir", str(git_dir)] if git_dir else []), *arguments]


def _environment(settings: Settings, more: Mapping[str, str]) -> dict[str, str]:
    stated = {}
    for number, (key, value) in enumerate((*_SETTINGS, *settings)):
        stated[f"GIT_CONFIG_KEY_{number}"], stated[f"GIT_CONFIG_VALUE_{number}"] = key, value
    return {
        **{name: value for name, value in os.environ.items() if name not in _LOCAL},
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "SSH_ASKPASS": "true",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
        "GIT_ALLOW_PROTOCOL": ":".join(SCHEMES),
        "GIT_CONFIG_COUNT": str(len(_SETTINGS) + len(settings)),
        "LC_ALL": "C",
        **stated,
        **more,
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    """End git and what it started (index-pack, remote-https, ssh)."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            with suppress(OSError):
                pipe.close()
