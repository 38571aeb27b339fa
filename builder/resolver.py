"""Resolving requirements with uv: requirement lines in, ``pylock.toml`` text out.

uv is called as a program with its options spelled out and none of the user's own uv configuration (``--no-config``), so
that the answer depends on the arguments and the package index only. What it prints is for people: it is passed on in
errors and never parsed for results.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from builder.pylock import LockError
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.target import PythonTarget

_PASSED_ON = re.compile(r"(PATH|HOME|TMPDIR|LANG|LC_ALL|SSL_CERT_(FILE|DIR)|(HTTPS?|NO|ALL)_PROXY)", re.IGNORECASE)
_TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class PackageIndex:
    """Where packages come from: the default index (``None``: uv's own default) and certificates it needs."""

    url: str | None = None
    ca_bundle: Path | None = None
    cache: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def resolve(
    files: Sequence[tuple[str, str]],
    target: PythonTarget,
    index: PackageIndex,
    *,
    constraints: str = "",
    preferences: str = "",
    offline: bool = False,
    dependencies: bool = True,
) -> str:
    """Resolve requirement files for ``target`` and return the lock as ``pylock.toml`` text.

    ``files`` are (name, text) pairs of requirement files, read together; the names appear in error messages.
    ``constraints`` are requirement lines that narrow versions without asking for packages.
    ``preferences`` is the text of an earlier lock: its versions are kept wherever nothing speaks against them.
    Only wheels are considered: nothing of a package is run. Raises :class:`LockError` with uv's explanation, or
    :class:`CasabinderError` when the index does not answer, which says nothing about the requirements.
    """
    with tempfile.TemporaryDirectory(prefix="casabinder-resolve-") as scratch:
        directory = Path(scratch)
        for name, text in files:
            (directory / name).write_text(text, encoding="utf-8")
        (directory / "constraints.txt").write_text(constraints, encoding="utf-8")
        output = directory / "pylock.toml"
        if preferences:
            output.write_text(preferences, encoding="utf-8")
        command = [
            *(_uv(), "pip", "compile", *(name for name, _ in files), "--constraints", "constraints.txt"),
            *("--format", "pylock.toml", "--output-file", "pylock.toml", "--quiet", "--no-header", "--no-annotate"),
            *("--only-binary", ":all:", "--no-config", "--system-certs", "--no-python-downloads"),
            *(
                "--python",
                sys.executable,
                "--python-version",
                target.python_full,
                "--python-platform",
                target.uv_platform,
            ),
            *(() if dependencies else ("--no-deps",)),
            *(("--offline",) if offline else ()),
            *(("--default-index", index.url) if index.url else ()),
            *(("--cache-dir", str(index.cache)) if index.cache else ()),
        ]
        environment = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
        if index.ca_bundle:
            environment["SSL_CERT_FILE"] = str(index.ca_bundle)
        environment.update(index.environment)
        try:
            done = subprocess.run(
                command,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise LockError(
                f"the package index did not answer within {_TIMEOUT_SECONDS} s; try again, or check the index"
            ) from error
        if done.returncode != 0 and _UNREACHABLE.search(done.stderr):
            raise CasabinderError(
                f"the package index could not be asked, so nothing was resolved; try again, or check the network and "
                f"the site's package_index: {_explain(done.stderr)}"
            )
        if done.returncode != 0:
            raise LockError(_explain(done.stderr))
        return output.read_text(encoding="utf-8")


def _uv() -> str:
    from uv import find_uv_bin

    return str(find_uv_bin())


_UNREACHABLE = re.compile(r"Failed to fetch|Request failed after|error sending request|dns error|operation timed out")
_NOISE = re.compile(r"^(warning:|Resolved |hint: |\^+$|No solution found when resolving)")
_PREFIX = re.compile(r"^(error|cause): ")


def _explain(stderr: str) -> str:
    """Turn uv's error into the sentences that a user needs."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", stderr)
    lines = [_PREFIX.sub("", line.strip(" \u2570\u2500\u25b6\u251c\u2502\u00d7\t")) for line in text.splitlines()]
    kept = [line for line in lines if line and not _NOISE.match(line)]
    return " ".join(kept) or "uv could not resolve the requirements and did not say why"
