"""What the locks of Poetry, PDM and Pipenv have in common: exact versions, hashes, and addresses of other sources."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidName, canonicalize_name

from builder.environment.description import Description, checked_version
from builder.environment.spec import EnvironmentFileError, SourceRequirement, StatedRequirement
from builder.environment.wishes import parse_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.environment.files import Files

_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")


def pin(name: object, version: object, marker: str, hashes: tuple[str, ...], source: str) -> StatedRequirement:
    """Return ``name==version`` as a lock states it; raise :class:`EnvironmentFileError` if it is neither."""
    requirement = Requirement(locked_name(name, source))
    requirement.specifier = SpecifierSet(f"=={checked_version(version, f'{source}: {requirement.name}')}")
    requirement.marker = Marker(marker) if marker else None
    if not hashes:
        raise EnvironmentFileError(f"{source}: {requirement.name} has no sha256; lock again, with hashes")
    return StatedRequirement(requirement, source, hashes)


def locked_name(name: object, source: str) -> str:
    """Return a package's canonical name."""
    try:
        return canonicalize_name(str(name), validate=isinstance(name, str))
    except InvalidName as error:
        raise EnvironmentFileError(f"{source}: a package is called {str(name)[:60]!r}; lock again") from error


def sha256s(files: object, source: str) -> tuple[str, ...]:
    """Return the sha256 of a list of ``{file = ..., hash = "sha256:..."}`` or of plain hashes."""
    found = []
    for entry in files if isinstance(files, list) else ():
        match = _SHA256.fullmatch(str(entry.get("hash", "")) if isinstance(entry, dict) else str(entry))
        if match:
            found.append(match[1])
        elif isinstance(entry, dict) and not entry.get("hash"):
            raise EnvironmentFileError(f"{source}: a file has no hash; lock again, with hashes")
    return tuple(sorted(set(found)))


def source_of(
    address: Mapping[str, str], name: object, source: str, directory: str, files: Files
) -> SourceRequirement | None:
    """Return the source at an address (``git`` with ``ref``, ``url`` or ``path``), ``None`` for the index."""
    if "git" in address:
        url = re.sub(r"^git@([\w.-]+):", r"ssh://git@\1/", address["git"])
        found = replace(parse_address(f"git+{url}", source, directory, files), ref=address.get("ref", ""))
        if not re.fullmatch(r"[\w./+-]{1,200}", found.ref) or found.ref.startswith("-"):
            raise EnvironmentFileError(f"{source}: {str(name)[:60]} is not locked to a commit; lock again")
    elif "url" in address or "path" in address:
        found = parse_address(address.get("url") or address.get("path") or "", source, directory, files)
    else:
        return None
    below = address.get("subdirectory", "")
    if (below and not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", below)) or ".." in below.split("/"):
        raise EnvironmentFileError(f"{source}: the subdirectory {below[:80]!r} leads out; lock again")
    return replace(found, name=locked_name(name, source), subdirectory=below or found.subdirectory)


def check_covers(project: Description, path: str, names: Iterable[str], command: str) -> None:
    """Raise if a dependency of the project is not in its lock: then the lock is older than the project."""
    there = {canonicalize_name(name) for name in names}
    for wish in project.requires:
        name = canonicalize_name(wish.requirement.name) if isinstance(wish, StatedRequirement) else wish.name
        marker = wish.requirement.marker if isinstance(wish, StatedRequirement) else None
        if name and name not in there and marker is None:
            raise EnvironmentFileError(f"{path} is older than {project.file}: it lacks {name}; run `{command}`")
