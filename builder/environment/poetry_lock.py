"""Reads ``poetry.lock``, versions 1.1, 2.0 and 2.1.

2.1 says of every package which groups and which markers it is for. Earlier ones say only what requires what: they are
walked from the dependencies of ``pyproject.toml``, once for each Python.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from builder.environment.description import Description, checked_version
from builder.environment.files import LOCK_LIMIT, Files, TomlFile, join, read_toml
from builder.environment.locked import check_covers, locked_name, pin, sha256s, source_of
from builder.environment.poetry import poetry_specifier
from builder.environment.projects import describe, install, install_project
from builder.environment.pythons import PYTHONS, allowed, evaluate, marker_for
from builder.environment.spec import (
    EnvironmentFileError,
    RepositorySettings,
    SourceRequirement,
    StatedLock,
    StatedRequirement,
)
from builder.environment.wishes import Part, Wish

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class _Package:
    name: str
    version: str
    table: dict[str, Any]
    where: str
    python: SpecifierSet


def read_poetry_lock(path: str, files: Files, settings: RepositorySettings) -> Part:
    """Return what a ``poetry.lock`` says. As ``poetry install`` does, all groups that are not optional are taken unless
    ``settings`` name groups. Raises :class:`EnvironmentFileError`."""
    file = read_toml(files, path, LOCK_LIMIT)
    if "pyproject.toml" not in files.names(file.directory):
        raise EnvironmentFileError(f"{path} needs the pyproject.toml that it was made from beside it; add it")
    manifest = read_toml(files, join(file.directory, "pyproject.toml"))
    project = describe(file.directory, files)
    if project is None:
        raise EnvironmentFileError(f"{manifest.path} has neither [project] nor [tool.poetry] for {path}; add one")
    metadata = file.table("metadata")
    version = str(metadata.get("lock-version", ""))
    if version.split(".")[0] not in ("1", "2"):
        raise EnvironmentFileError(f"{path}: lock-version {version[:20]!r} is not known; 1.1, 2.0 and 2.1 are")
    source = f"{path}: python-versions"
    python = poetry_specifier(str(metadata.get("python-versions", "*")), source)
    packages = _packages(file)
    groups = _groups(manifest, project) if settings.groups is None else settings.groups
    for group in groups:
        if group not in project.groups:
            known = ", ".join(sorted(project.groups)) or "none"
            raise EnvironmentFileError(f"{path}: there is no group {group!r}; {manifest.path} has {known}")
    considered = [number for number in PYTHONS if allowed(python, number)]
    flat = version not in ("1.0", "1.1", "2.0", "1", "2")
    chosen: dict[int, list[str]] = defaultdict(list)
    for number in considered:
        if flat:
            found = [n for n, package in enumerate(packages) if _stated(package, number, groups, settings.extras)]
        else:
            found = _walked(packages, number, _roots(project, groups, settings.extras))
        for index in found:
            chosen[index].append(number)
    part = Part(pythons=((python, source),) if str(python) else ())
    own = SourceRequirement("local", path, path=file.directory, editable=True)
    part += install_project(own, files, dependencies=False)
    pins = []
    old = file.table("metadata", "files") if "files" in metadata else {}
    for index, package in enumerate(packages):
        if index not in chosen:
            continue
        marker = marker_for(chosen[index], considered)
        found_source = source_of(_address(package), package.name, package.where, file.directory, files)
        if found_source is not None:
            part += install([replace(found_source, marker=marker)], files, dependencies=False)
            continue
        listed = package.table.get("files") or next(
            (value for key, value in old.items() if canonicalize_name(key) == package.name), None
        )
        pins.append(pin(package.name, package.version, marker, sha256s(listed, package.where), package.where))
    names = {package.name for package in packages}
    check_covers(project, path, names, "poetry lock")
    return part + Part(lock=StatedLock(path, pins=tuple(pins)))


def _packages(file: TomlFile) -> list[_Package]:
    tables = file.document.get("package", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise EnvironmentFileError(f"{file.path}: package is not an array of tables; run `poetry lock`")
    found = []
    for table in tables:
        where = file.where(f'name = "{table.get("name")}"')
        name = locked_name(table.get("name"), where)
        version = checked_version(table.get("version"), f"{where}: {name}")
        python = poetry_specifier(str(table.get("python-versions", "*")), f"{where}: python-versions")
        found.append(_Package(name, version, table, where, python))
    return found


def _groups(manifest: TomlFile, project: Description) -> tuple[str, ...]:
    """Return the groups that ``poetry install`` takes: those that are not optional."""
    optional = {
        canonicalize_name(name)
        for name, table in manifest.table("tool", "poetry", "group").items()
        if isinstance(table, dict) and table.get("optional") is True
    }
    return tuple(sorted(set(project.groups) - optional))


def _stated(package: _Package, python: str, groups: Iterable[str], extras: tuple[str, ...]) -> bool:
    if not allowed(package.python, python):
        return False
    stated = package.table.get("groups", ["main"])
    markers = package.table.get("markers", "")
    for group in stated if isinstance(stated, list) else ["main"]:
        if group != "main" and canonicalize_name(str(group)) not in set(groups):
            continue
        marker = markers.get(group, "") if isinstance(markers, dict) else markers
        if evaluate(marker, python, package.where, extras):
            return not (package.table.get("optional") is True and group == "main" and not extras and not marker)
    return False


def _roots(project: Description, groups: Iterable[str], extras: Iterable[str]) -> list[Wish]:
    roots = list(project.requires)
    for extra in extras:
        roots += project.extras.get(extra, ())
    for group in groups:
        roots += project.groups[group]
    return roots


def _walked(packages: list[_Package], python: str, roots: list[Wish]) -> list[int]:
    """Return the indexes of what the roots require, for one Python."""
    by_name: dict[str, list[int]] = defaultdict(list)
    for index, package in enumerate(packages):
        if allowed(package.python, python):
            by_name[package.name].append(index)
    limits: dict[str, SpecifierSet] = defaultdict(SpecifierSet)
    pending: list[tuple[str, frozenset[str]]] = []
    for wish in roots:
        if isinstance(wish, StatedRequirement):
            if not evaluate(str(wish.requirement.marker or ""), python, wish.source):
                continue
            name: str = canonicalize_name(wish.requirement.name)
            extras = set(wish.requirement.extras)
            limits[name] &= wish.requirement.specifier
        else:
            if not evaluate(wish.marker, python, wish.source):
                continue
            name, extras = wish.name, set(wish.extras)
        pending.append((name, frozenset(canonicalize_name(extra) for extra in extras)))
    seen: set[tuple[str, frozenset[str]]] = set()
    chosen: dict[str, int] = {}
    while pending:
        item = pending.pop(0)
        if item in seen:
            continue
        seen.add(item)
        first = _candidate(packages, by_name[item[0]], limits[item[0]])
        if first is None:
            continue
        chosen[item[0]] = first
        for required, specifier, inner in _required(packages[first], python, item[1]):
            limits[required] &= specifier
            pending.append((required, inner))
    # Limits that came in later may speak against an earlier choice among several versions.
    return sorted(
        index for name in chosen for index in [_candidate(packages, by_name[name], limits[name])] if index is not None
    )


def _candidate(packages: list[_Package], indexes: list[int], limit: SpecifierSet) -> int | None:
    fitting = [index for index in indexes if limit.contains(packages[index].version, prereleases=True)]
    return max(fitting or indexes, key=lambda index: _order(packages[index].version), default=None)


def _order(version: str) -> Any:
    from packaging.version import Version

    return Version(version)


def _required(package: _Package, python: str, extras: frozenset[str]) -> list[tuple[str, SpecifierSet, frozenset[str]]]:
    """Return what a package requires: name, versions and extras."""
    table = package.table.get("dependencies", {})
    own = package.table.get("extras", {})
    enabled = {
        canonicalize_name(str(line).split()[0].split("[")[0].split("(")[0].rstrip(";"))
        for extra, lines in (own.items() if isinstance(own, dict) else ())
        if canonicalize_name(extra) in extras and isinstance(lines, list)
        for line in lines
        if str(line).strip()
    }
    found: list[tuple[str, SpecifierSet, frozenset[str]]] = []
    for key, value in table.items() if isinstance(table, dict) else ():
        name = canonicalize_name(key)
        for entry in value if isinstance(value, list) else [value]:
            stated = entry if isinstance(entry, dict) else {"version": entry}
            if stated.get("optional") is True and name not in enabled:
                continue
            if not evaluate(stated.get("markers", ""), python, package.where, extras):
                continue
            inner = stated.get("extras", [])
            names = (
                frozenset(canonicalize_name(str(extra)) for extra in inner) if isinstance(inner, list) else frozenset()
            )
            found.append((name, poetry_specifier(str(stated.get("version", "*")), package.where), names))
    return found


def _address(package: _Package) -> dict[str, str]:
    source = package.table.get("source")
    if not isinstance(source, dict):
        return {}
    url, kind = str(source.get("url", "")), source.get("type")
    found = {"subdirectory": str(source["subdirectory"])} if "subdirectory" in source else {}
    if kind == "git":
        return {**found, "git": url, "ref": str(source.get("resolved_reference") or source.get("reference") or "")}
    if kind == "url":
        return {**found, "url": url}
    if kind in ("directory", "file"):
        return {**found, "path": url}
    return {}
