"""Resolving requirements with uv: requirement lines in, ``pylock.toml`` text out.

uv is called as a program with its options spelled out and none of the user's own uv configuration (``--no-config``), so
that the answer depends on the arguments and the package index only. What it prints is for people: it is passed on in
errors and never parsed for results.
"""

from __future__ import annotations

import re
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from builder.locking.pylock import LockError
from builder.uv import run_uv
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from builder.target import PythonTarget

_TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class PackageIndex:
    """Where packages come from: the default index (``None``: uv's own default) and certificates it needs."""

    url: str | None = None
    ca_bundle: Path | None = None
    cache: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


class RefusedError(LockError):
    """uv's proof that there is no answer. ``without_wheel`` are packages that have sources where a wheel is needed,
    ``undated`` one whose files the index gives no dates for, though a date was asked for."""

    def __init__(self, proof: str, without_wheel: tuple[str, ...] = (), undated: str = "") -> None:
        super().__init__(proof)
        self.without_wheel = without_wheel
        self.undated = undated


def resolve(
    files: Sequence[tuple[str, str]],
    target: PythonTarget,
    index: PackageIndex,
    *,
    constraints: str = "",
    preferences: str = "",
    offline: bool = False,
    dependencies: bool = True,
    links: Path | None = None,
    before: str = "",
    undating: Iterable[str] = (),
) -> str:
    """Resolve requirement files for ``target`` and return the lock as ``pylock.toml`` text.

    ``files`` are (name, text) pairs of requirement files, read together; the names appear in error messages.
    ``constraints`` are requirement lines that narrow versions without asking for packages.
    ``preferences`` is the text of an earlier lock: its versions are kept wherever nothing speaks against them.
    ``links`` is a directory with further wheels. ``before`` (RFC 3339) hides what was uploaded from that moment on,
    except of the packages ``undating``.
    Only wheels are considered: nothing of a package is run. Raises :class:`RefusedError` with uv's explanation, or
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
            *("pip", "compile", *(name for name, _ in files), "--constraints", "constraints.txt"),
            *("--format", "pylock.toml", "--output-file", "pylock.toml", "--no-header", "--no-annotate"),
            *(() if before else ("--quiet",)),  # that dates are missing is said in a warning only
            *("--only-binary", ":all:", "--system-certs"),
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
            *(("--find-links", str(links)) if links else ()),
            *(("--exclude-newer", before) if before else ()),
            *(option for name in undating if before for option in ("--exclude-newer-package", f"{name}={_NEVER}")),
            *(("--default-index", index.url) if index.url else ()),
            *(("--cache-dir", str(index.cache)) if index.cache else ()),
        ]
        certificates = {"SSL_CERT_FILE": str(index.ca_bundle)} if index.ca_bundle else {}
        try:
            status, _, said = run_uv(command, directory, _TIMEOUT_SECONDS, {**certificates, **index.environment})
        except TimeoutError as error:
            raise LockError(
                f"the package index did not answer within {_TIMEOUT_SECONDS} s; try again, or check the index"
            ) from error
        if status and _UNREACHABLE.search(said):
            raise CasabinderError(
                f"the package index could not be asked, so nothing was resolved; try again, or check the network and "
                f"the site's package_index: {_explain(said)}"
            )
        if status:
            undated = _UNDATED.search(said) if before else None
            wanting = dict.fromkeys(_WITHOUT_WHEEL.findall(said))
            raise RefusedError(_explain(said), tuple(wanting), undated[1] if undated else "")
        return output.read_text(encoding="utf-8")


_NEVER = "9999-01-01T00:00:00Z"
_WITHOUT_WHEEL = re.compile(r"Wheels are required for `([^`]+)` because building from source is disabled")
_UNDATED = re.compile(r"(\S+) is missing an upload date")
_UNREACHABLE = re.compile(r"Failed to fetch|Request failed after|error sending request|dns error|operation timed out")
_NOISE = re.compile(r"^(warning:|Resolved |hint: |\^+$|No solution found when resolving)")
_PREFIX = re.compile(r"^(error|cause): ")


def _explain(stderr: str) -> str:
    """Turn uv's error into the sentences that a user needs."""
    lines = [_PREFIX.sub("", line.strip(" \u2570\u2500\u25b6\u251c\u2502\u00d7\t")) for line in stderr.splitlines()]
    kept = [line for line in lines if line and not _NOISE.match(line)]
    return " ".join(kept) or "uv could not resolve the requirements and did not say why"
