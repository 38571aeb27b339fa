"""Reads ``pdm.lock``: every package with its groups, its marker and the hashes of its files. Versions 4 and later."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from builder.environment.files import LOCK_LIMIT, Files, join, read_toml
from builder.environment.locked import check_covers, pin, sha256s, source_of
from builder.environment.projects import describe, install_project
from builder.environment.pythons import PYTHONS, allowed, evaluate, marker_for
from builder.environment.spec import EnvironmentFileError, RepositorySettings, SourceRequirement, StatedLock
from builder.environment.wishes import Part, parse_python


def read_pdm_lock(path: str, files: Files, settings: RepositorySettings) -> Part:
    """Return what a ``pdm.lock`` says. As ``pdm install`` does, all development groups are taken unless ``settings``
    name groups. Raises :class:`EnvironmentFileError`."""
    file = read_toml(files, path, LOCK_LIMIT)
    if "pyproject.toml" not in files.names(file.directory):
        raise EnvironmentFileError(f"{path} needs the pyproject.toml that it was made from beside it; add it")
    project = describe(file.directory, files)
    if project is None:
        raise EnvironmentFileError(
            f"{join(file.directory, 'pyproject.toml')} has no [project], which {path} is for; add it"
        )
    metadata = file.table("metadata")
    python = parse_python(str(metadata.get("requires_python") or ""), f"{path}: requires_python")
    packages = file.document.get("package", [])
    if not isinstance(packages, list) or not all(isinstance(package, dict) for package in packages):
        raise EnvironmentFileError(f"{path}: package is not an array of tables; run `pdm lock`")
    locked_groups = set(file.strings(metadata, "groups", "[metadata] groups")) if "groups" in metadata else set()
    groups = set(project.groups) if settings.groups is None else set(settings.groups)
    if settings.groups is None and locked_groups:
        groups &= locked_groups
    wanted = {"default", *settings.extras, *groups}
    if locked_groups and wanted - locked_groups:
        missing = ", ".join(sorted(wanted - locked_groups))
        raise EnvironmentFileError(f"{path} does not lock the group {missing}; run `pdm lock -G :all`")
    considered = [version for version in PYTHONS if allowed(python, version)]
    part = Part(pythons=((python, f"{path}: requires_python"),) if str(python) else ())
    own = SourceRequirement("local", path, path=file.directory, extras=(), editable=True)
    part += install_project(own, files, dependencies=False)
    pins = {}
    for package in packages:
        where = file.where(f'name = "{package.get("name")}"')
        if not _chosen(package, wanted):
            continue
        pythons = [version for version in considered if evaluate(package.get("marker", ""), version, where)]
        if not pythons:
            continue
        marker = marker_for(pythons, considered)
        source = source_of(_address(package), package.get("name"), where, file.directory, files)
        if source is not None:
            part += _installed(source, marker, files)
            continue
        found = pin(package.get("name"), package.get("version"), marker, sha256s(package.get("files"), where), where)
        pins[str(found.requirement)] = found  # a package stands once more for each set of extras
    check_covers(
        project,
        path,
        {item.requirement.name for item in pins.values()}
        | {item.name for item in part.sources}
        | {item.name for item in part.editables},
        "pdm lock",
    )
    return part + Part(lock=StatedLock(path, pins=tuple(pins.values())))


def _installed(source: SourceRequirement, marker: str, files: Files) -> Part:
    from builder.environment.projects import install

    return install([replace(source, marker=marker)], files, dependencies=False)


def _chosen(package: dict[str, Any], wanted: set[str]) -> bool:
    groups = package.get("groups", ["default"])
    return isinstance(groups, list) and bool(wanted & {str(group) for group in groups})


def _address(package: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {key: str(package[key]) for key in ("git", "url", "path", "subdirectory") if key in package}
    if "git" in found:
        found["ref"] = str(package.get("revision") or package.get("ref") or "")
    return found
