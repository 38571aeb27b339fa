"""Reads ``Pipfile.lock`` and ``Pipfile`` with their development packages, as repo2docker installs them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from packaging.specifiers import SpecifierSet

from builder.environment.files import LOCK_LIMIT, Files, line_of, read_text, read_toml
from builder.environment.locked import locked_name, pin, sha256s, source_of
from builder.environment.projects import install
from builder.environment.pythons import PYTHONS, evaluate, everywhere, marker_for
from builder.environment.spec import EnvironmentFileError, SourceRequirement, StatedLock
from builder.environment.wishes import Part, Wish, and_marker, parse_extras, parse_python, parse_requirement

_SECTIONS = (("default", "develop"), ("packages", "dev-packages"))
_MARKERS = ("os_name", "sys_platform", "platform_machine", "platform_system", "python_version", "python_full_version")


def read_pipfile_lock(path: str, files: Files, root: str = "") -> Part:
    """Return what a ``Pipfile.lock`` says. Raises :class:`EnvironmentFileError`. Directories start from ``root``."""
    text = read_text(files, path, LOCK_LIMIT)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise EnvironmentFileError(f"{path}{line} is not valid JSON; run `pipenv lock`") from error
    meta = document.get("_meta", {}) if isinstance(document, dict) else None
    if not isinstance(meta, dict):
        raise EnvironmentFileError(f"{path} is not a JSON object with _meta, default and develop; run `pipenv lock`")
    requires = meta.get("requires", {})
    part = _python(requires if isinstance(requires, dict) else {}, path)
    pins: dict[str, Any] = {}
    for section in _SECTIONS[0]:
        table = document.get(section, {})
        if not isinstance(table, dict):
            raise EnvironmentFileError(f"{path}: {section} is not an object; run `pipenv lock`")
        for name, entry in table.items():
            number = line_of(text, f'"{name}": {{')
            source = f"{path}, line {number}" if number else path
            if not isinstance(entry, dict):
                raise EnvironmentFileError(f"{source}: {name[:60]!r} is not an object; run `pipenv lock`")
            pythons = everywhere(lambda python, entry=entry, source=source: _applies(entry, python, source))  # type: ignore[misc]
            if not pythons:
                continue
            marker = marker_for(pythons, PYTHONS)
            found = source_of(_address(entry), name, source, root, files)
            if found is not None:
                found = replace(found, marker=marker, extras=_extras(entry, source), editable=_editable(entry))
                part += install([found], files, dependencies=False)
                continue
            version = str(entry.get("version", ""))
            if not version.startswith("=="):
                raise EnvironmentFileError(
                    f"{source}: {name[:60]} is {version[:40]!r} and not locked to ==; run `pipenv lock`"
                )
            pins.setdefault(
                locked_name(name, source), pin(name, version[2:], marker, sha256s(entry.get("hashes"), source), source)
            )
    return part + Part(lock=StatedLock(path, pins=tuple(pins.values())))


def read_pipfile(path: str, files: Files, root: str = "") -> Part:
    """Return what a ``Pipfile`` says. Raises :class:`EnvironmentFileError`. Directories start from ``root``."""
    file = read_toml(files, path)
    part = _python(file.table("requires"), path)
    wishes: list[Wish] = []
    for section in _SECTIONS[1]:
        for name, stated in file.table(section).items():
            wishes.append(_wish(name, stated, file.where(name), root, files))
    return part + install(wishes, files)


def _wish(name: str, stated: object, source: str, directory: str, files: Files) -> Wish:
    entry = {"version": stated} if isinstance(stated, str) else stated
    if not isinstance(entry, dict):
        raise EnvironmentFileError(f'{source}: {name[:60]!r} is {str(stated)[:40]!r}; write "*", "==1.2" or a table')
    if "index" in entry:
        raise EnvironmentFileError(f"{source}: the index of {name[:60]!r} is the facility's to decide; remove it")
    extras = _extras(entry, source)
    found = source_of(_address(entry), name, source, directory, files)
    wish: Wish
    if found is not None:
        wish = replace(found, extras=extras, editable=_editable(entry))
    else:
        version = str(entry.get("version", "*")).strip()
        line = name + (f"[{','.join(extras)}]" if extras else "") + ("" if version == "*" else version)
        wish = parse_requirement(line, source, directory, files)
        if isinstance(wish, SourceRequirement):
            raise EnvironmentFileError(f'{source}: {version[:60]!r} is not a version; write "*", "==1.2" or a table')
    for variable in _MARKERS:
        if isinstance(entry.get(variable), str):
            wish = and_marker(wish, f"{variable} {entry[variable]}", source)
    return and_marker(wish, str(entry.get("markers", "")), source)


def _python(requires: dict[str, Any], path: str) -> Part:
    """``python_full_version`` counts by its minor version: a base has one patch release of each."""
    for key in ("python_full_version", "python_version"):
        stated = requires.get(key)
        if stated in (None, "", "*"):
            continue
        source = f"{path}: {key}"
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:\.\d+)*", str(stated))
        specifier = SpecifierSet(f"=={match[1]}.*") if match else parse_python(stated, source)
        return Part(pythons=((specifier, source),))
    return Part()


def _applies(entry: dict[str, Any], python: str, source: str) -> bool:
    stated = [str(entry.get("markers", ""))]
    stated += [f"{variable} {entry[variable]}" for variable in _MARKERS if isinstance(entry.get(variable), str)]
    return all(evaluate(text, python, source) for text in stated)


def _address(entry: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {key: str(entry[key]) for key in ("git", "ref", "path", "subdirectory") if key in entry}
    if isinstance(entry.get("file"), str):
        remote = entry["file"].startswith(("https://", "http://"))
        found["url" if remote else "path"] = entry["file"]
    if "git" in found and "ref" not in found:
        found["ref"] = "HEAD"
    return found


def _extras(entry: dict[str, Any], source: str) -> tuple[str, ...]:
    extras = entry.get("extras", [])
    return parse_extras(",".join(map(str, extras)), source) if isinstance(extras, list) else ()


def _editable(entry: dict[str, Any]) -> bool:
    return entry.get("editable") is True
