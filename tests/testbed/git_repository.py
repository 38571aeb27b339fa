"""Real git repositories for tests, made so that the same files give the same commit."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_IDENTITY = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_AUTHOR_DATE": "2024-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_COMMITTER_DATE": "2024-01-01T00:00:00Z",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
}


def git(directory: Path, *arguments: str, data: bytes = b"") -> str:
    """Run git in ``directory``, independent of the user's settings, and return what it says."""
    command = ["git", "-C", str(directory), "-c", "protocol.file.allow=always", *arguments]
    environment = {**os.environ, **_IDENTITY}
    done = subprocess.run(command, input=data, capture_output=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"git {' '.join(arguments)}: {done.stderr.decode()}")
    return done.stdout.decode().strip()


def commit_files(
    directory: Path, files: Mapping[str, bytes | str], message: str = "files", links: Mapping[str, str] | None = None
) -> str:
    """Write ``files`` and ``links`` (path to target), commit everything and return the commit; begin a repository if
    there is none."""
    if not (directory / ".git").exists():
        directory.mkdir(parents=True, exist_ok=True)
        git(directory, "init", "--quiet", "--initial-branch=main")
    for path, content in files.items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    for path, target in (links or {}).items():
        link = directory / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "--allow-empty", "-m", message)
    return git(directory, "rev-parse", "HEAD")
