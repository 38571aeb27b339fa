"""What a project says about its own build: the ``[build-system]`` table of pyproject.toml (PEP 517, PEP 518)."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.requirements import InvalidRequirement, Requirement

from builder.sources.errors import SourceBuildError

if TYPE_CHECKING:
    from collections.abc import Iterable

_BACKEND = re.compile(r"[A-Za-z_][\w.]*(:[A-Za-z_][\w.]*)?")
_DEFAULT_REQUIRES = ("setuptools>=40.8.0",)
_DEFAULT_BACKEND = "setuptools.build_meta:__legacy__"


@dataclass(frozen=True)
class BuildSystem:
    """What has to be there before the build (requirement lines), the backend, and where an in-tree backend lies."""

    requires: tuple[str, ...] = _DEFAULT_REQUIRES
    backend: str = _DEFAULT_BACKEND
    backend_path: tuple[str, ...] = ()


def read_build_system(pyproject: bytes | None, what: str) -> BuildSystem:
    """Return the build system that a pyproject.toml states, or the one that stands for none (PEP 517, "Source trees").

    ``what`` names the project in messages. Raises :class:`SourceBuildError` when the table is not as PEP 518 says.
    """
    if pyproject is None:
        return BuildSystem()
    try:
        document = tomllib.loads(pyproject.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SourceBuildError(f"{what}: pyproject.toml is not valid TOML: {error}") from error
    table = document.get("build-system")
    if table is None:
        return BuildSystem()
    where = f"{what}: pyproject.toml, [build-system]"
    if not isinstance(table, dict) or not _texts(table.get("requires")):
        raise SourceBuildError(f"{where}: `requires` must be a list of requirements")
    backend, path = table.get("build-backend", _DEFAULT_BACKEND), table.get("backend-path", [])
    if not isinstance(backend, str) or not _BACKEND.fullmatch(backend):
        raise SourceBuildError(f"{where}: `build-backend` must be a module, or module:object")
    if not _texts(path) or any(part.startswith("/") or ".." in part.split("/") for part in path):
        raise SourceBuildError(f"{where}: `backend-path` must be a list of directories of the project")
    return BuildSystem(index_requirements(table["requires"], where), backend, tuple(path))


def index_requirements(lines: Iterable[str], where: str) -> tuple[str, ...]:
    """Return build requirements in the form that the resolver takes; refuse what is not for the package index."""
    found = []
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            raise SourceBuildError(f"{where}: {line!r} is not a requirement") from error
        if requirement.url:
            raise SourceBuildError(
                f"{where}: {line!r} is not from the package index; a build may need released packages only"
            )
        found.append(str(requirement))
    return tuple(found)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
