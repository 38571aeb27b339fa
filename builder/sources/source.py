"""What a wheel is made of, and the key that it is kept under."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from packaging.version import InvalidVersion, Version

from builder.layers.layer import Entry, Streamed
from registry_sync.manifest import canonical_json, sha256_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from typing import BinaryIO

    from builder.target import PythonTarget

RECIPE = 1
"""The version of how wheels are made. It changes only when the same source is to give another wheel."""
UNRELEASED = "0+g"
"""What the version starts with that a backend gets which asks git, where no tag names one."""


@dataclass(frozen=True)
class Source:
    """What a wheel is made of. ``where`` is the file and line that ask for it, ``what`` the source itself, for people;
    ``identity`` decides the key; ``private`` ones are not shared. ``version`` is what a backend that asks git is told.
    """

    where: str
    what: str
    identity: Mapping[str, str]
    pyproject: Callable[[], bytes | None]
    entries: Callable[[], Iterable[Entry]]
    name: str = ""
    archive: str = ""
    subdirectory: str = ""
    version: str = ""
    private: bool = False

    @property
    def told(self) -> str:
        """How messages name it: file, line and source."""
        return f"{self.where}: {self.what}" if self.where else self.what


def source_key(identity: Mapping[str, str], target: PythonTarget) -> str:
    """Return the key (64 hex digits) under which the wheel of a source is kept."""
    platform = {"python": target.python, "machine": target.machine, "glibc": target.glibc}
    inputs = {"kind": "made-wheel", "recipe": RECIPE, "source": dict(identity), **platform}
    return sha256_digest(canonical_json(inputs))[7:]


def tag_version(ref: str) -> str:
    """Return the version that a tag is named after (``refs/tags/v1.2`` is 1.2), ``""`` if it is none."""
    tag = ref.removeprefix("refs/tags/")
    if tag == ref:
        return ""
    match = re.search(r"v?(\d[^/]*)$", tag)
    try:
        return str(Version(match[1])) if match else ""
    except InvalidVersion:
        return ""


def told_version(version: str) -> dict[str, str]:
    """Return what tells backends that take the version from git which one it is, since there is no history."""
    names = ("SETUPTOOLS_SCM_PRETEND_VERSION", "PDM_BUILD_SCM_VERSION", "PBR_VERSION")
    return dict.fromkeys(names, version) if version else {}


def file_entry(path: str, file: Path) -> Entry:
    """Return the entry that puts a local file at ``path``."""
    return Entry(path, "file", Streamed(lambda: cast("BinaryIO", file.open("rb")), file.stat().st_size))
