"""Reads the lock file that a repository brings (PEP 751): which packages it names here, and by which hashes.

What is written in it was chosen by somebody else and is taken as it stands: markers, groups, Python and platform decide
which entries apply, the wheel that fits best is taken of each, and an entry without one becomes a source that has to be
made into a wheel. Nothing of it is trusted: every artifact needs a sha256, and none may lie on this machine.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from builder.environment.pythons import PYTHONS, marker_for
from builder.environment.spec import SourceRequirement, StatedRequirement
from builder.locking.pylock import (
    LockedPackage,
    LockError,
    choose_wheel,
    entry_name,
    file_name,
    marker_holds,
    no_wheel,
    read_document,
    sha256_of,
    tables,
)
from builder.target import PythonTarget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.environment.spec import StatedLock

_WEB = ("https", "http")


@dataclass(frozen=True)
class LockContents:
    """What a lock names for one platform: wheels, sources to be made into wheels, and the hashes it allows by name.

    A package whose name is not in ``allowed`` may have any hash.
    """

    packages: tuple[LockedPackage, ...]
    sources: tuple[SourceRequirement, ...] = ()
    allowed: Mapping[str, frozenset[str]] = field(default_factory=dict)


def read_stated_lock(text: str, target: PythonTarget, file: str, base_name: str) -> LockContents:
    """Return what the lock ``file`` names for ``target``; raise :class:`LockError` for one that can't be honoured."""
    document = read_document(text, file)
    if str(document.get("lock-version", "")).partition(".")[0] != "1":
        raise LockError(f"{file}: the lock version is {document.get('lock-version', 'missing')!r}; 1.0 is known")
    markers = _markers(document, target, file)
    _check_platform(document, target, markers, file, base_name)
    packages: dict[str, LockedPackage] = {}
    sources: dict[str, SourceRequirement] = {}
    allowed: dict[str, frozenset[str]] = {}
    for entry in tables(document, "packages", file):
        if not marker_holds(entry, markers, file):
            continue
        name = entry_name(entry, file)
        if name in packages or name in sources:
            raise LockError(
                f"{file}: {name} is there twice for this platform; lock it again with the tool that wrote it"
            )
        _check_python(entry, target, f"{file}: {name} {_text(entry, 'version')}", base_name)
        chosen = _from_archive(entry, target, file) or choose_wheel(entry, target, file)
        if chosen is not None:
            _check_address(chosen.url, f"{file}: {chosen.filename}")
            packages[name] = chosen
            hashes = (sha256_of(artifact) for artifact in _artifacts(entry, file))
            allowed[name] = frozenset(value for value in hashes if value) | {chosen.sha256}
        else:
            sources[name] = _source(entry, target, file)
    return LockContents(tuple(sorted(packages.values())), tuple(sources[name] for name in sorted(sources)), allowed)


@lru_cache(maxsize=4)  # a build looks at its lock once for every base that it may take
def stated_pins(lock: StatedLock) -> tuple[StatedRequirement, ...]:
    """Return what a repository's lock fixes, as ``name==version``, with a marker where it is not for every Python.

    Raises :class:`LockError` for a lock that can't be read.
    """
    if not lock.pylock:
        return lock.pins
    document = read_document(lock.pylock, lock.file)
    targets = {python: PythonTarget(python, f"{python}.0", "2.28") for python in PYTHONS}
    environments = {python: _markers(document, target, lock.file) for python, target in targets.items()}
    pins = []
    for entry in tables(document, "packages", lock.file):
        pythons = [python for python in PYTHONS if marker_holds(entry, environments[python], lock.file)]
        if pythons and _text(entry, "version"):
            pins.append(_pin(entry, marker_for(pythons, PYTHONS), lock.file))
    return tuple(pins)


def _pin(entry: Mapping[str, Any], marker: str, file: str) -> StatedRequirement:
    name, version = entry_name(entry, file), _text(entry, "version")
    try:
        requirement = Requirement(f"{name}=={version}")
    except InvalidRequirement as error:
        raise LockError(f"{file}: {name} has the version {version[:40]!r}, which is none; lock it again") from error
    requirement.marker = Marker(marker) if marker else None
    return StatedRequirement(requirement, file)


def _markers(document: Mapping[str, Any], target: PythonTarget, file: str) -> dict[str, Any]:
    """Return the environment of a lock's markers: no extras, and its default groups."""
    return {**target.markers, "extras": frozenset(), "dependency_groups": _default_groups(document, file)}


def _default_groups(document: Mapping[str, Any], file: str) -> frozenset[str]:
    groups = document.get("default-groups", [])
    if not isinstance(groups, list):
        raise LockError(f"{file}: `default-groups` must be an array of names")
    return frozenset(map(str, groups))


def _check_platform(
    document: Mapping[str, Any], target: PythonTarget, markers: Mapping[str, Any], file: str, base_name: str
) -> None:
    environments = document.get("environments", [])
    if not isinstance(environments, list):
        raise LockError(f"{file}: `environments` must be an array of markers")
    if environments and not any(marker_holds({"name": "it", "marker": item}, markers, file) for item in environments):
        raise LockError(
            f"{file} is for none but {' or '.join(map(str, environments))[:200]!r}, and the base {base_name} has "
            f"Python {target.python_full} on Linux {target.machine}; lock it for this platform too"
        )
    _check_python(document, target, file, base_name)


def _check_python(table: Mapping[str, Any], target: PythonTarget, what: str, base_name: str) -> None:
    requires = _text(table, "requires-python")
    try:
        fits = target.python_full in SpecifierSet(requires)
    except InvalidSpecifier as error:
        raise LockError(f"{what}: `requires-python` is no version specifier: {requires!r}") from error
    if not fits:
        raise LockError(
            f"{what} is for Python {requires}, and the base {base_name} has {target.python_full}; choose another base "
            "with --base (see `casabinder base list`), or lock for this Python"
        )


def _artifacts(entry: Mapping[str, Any], file: str) -> list[dict[str, Any]]:
    singles = [entry[key] for key in ("archive", "sdist") if isinstance(entry.get(key), dict)]
    return [*tables(entry, "wheels", file), *singles]


def _from_archive(entry: Mapping[str, Any], target: PythonTarget, file: str) -> LockedPackage | None:
    """Return the wheel of an entry that names it as its only archive, as uv does for a wheel at a URL."""
    archive = entry.get("archive")
    if not isinstance(archive, dict) or not _text(archive, "url"):
        return None
    if not file_name(_text(archive, "url"), file).endswith(".whl"):
        return None
    wheel = {key: archive[key] for key in ("url", "size", "hashes") if key in archive}
    found = choose_wheel({**entry, "wheels": [wheel]}, target, file)
    if found is None:
        raise LockError(no_wheel(entry, target, file))
    return found


def _source(entry: Mapping[str, Any], target: PythonTarget, file: str) -> SourceRequirement:
    """Return what a package without a wheel is made from: exactly one of the four kinds that PEP 751 knows."""
    name = entry_name(entry, file)
    where = f"{file}, {name}"
    for key in ("vcs", "directory", "archive", "sdist"):
        table = entry.get(key)
        if table is None:
            continue
        if not isinstance(table, dict):
            raise LockError(f"{where}: `{key}` must be a table")
        below = _inside(_text(table, "subdirectory"), where)
        if key == "vcs":
            if _text(table, "type") != "git" or not _text(table, "url"):
                raise LockError(f"{where}: only git repositories with a URL are known; state it as one")
            commit = _text(table, "commit-id")
            if not commit:
                raise LockError(f"{where}: `vcs` has no `commit-id`, so nobody knows what was locked; lock it again")
            return SourceRequirement("git", where, url=_text(table, "url"), ref=commit, subdirectory=below, name=name)
        if key == "directory":
            path = _inside(posixpath.join(posixpath.dirname(file), _text(table, "path")), where)
            editable = table.get("editable") is True
            return SourceRequirement("local", where, path=path, subdirectory=below, name=name, editable=editable)
        url, sha256 = _text(table, "url"), sha256_of(table)
        if not sha256:
            raise LockError(f"{where}: its {key} has no sha256; a lock without hashes can't be honoured")
        _check_address(url, where)
        return SourceRequirement("archive", where, url=url, subdirectory=below, name=name, hashes=(sha256,))
    raise LockError(no_wheel(entry, target, file))


def _inside(path: str, where: str) -> str:
    """Return a path relative to the repository's root in its plain form; it must not leave the repository."""
    plain = posixpath.normpath(path) if path else "."
    if plain.startswith(("/", "..")) or "\\" in path or "\0" in path:
        raise LockError(f"{where}: the path {path[:200]!r} leads out of the repository; lock it with relative paths")
    return "" if plain == "." else plain


def _check_address(url: str, where: str) -> None:
    try:
        parts = urlsplit(url)
        known = parts.scheme in _WEB and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        known = False
    if not known:
        raise LockError(f"{where}: it has no address on the web that it can be fetched from; lock it from an index")


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key, "")
    return value if isinstance(value, str) else ""
