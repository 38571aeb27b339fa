"""Reads a repository's ``pylock.toml`` (PEP 751), or what uv exports its own lock to.

Packages of the index stay in the lock's text as they are. A directory of the repository, a git repository and an
archive become projects and sources, and leave the text.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import date, datetime, time
from typing import Any

from packaging.utils import InvalidName, canonicalize_name

from builder.environment.files import LOCK_LIMIT, Files, TomlFile, read_toml
from builder.environment.projects import install
from builder.environment.spec import EnvironmentFileError, SourceRequirement, StatedLock
from builder.environment.wishes import Part, parse_address, parse_marker, parse_python

_NAMED = re.compile(r"pylock\.([^.]+)\.toml")
_SHA = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-fA-F]{40,64}")


def choose_pylock(names: set[str], directory: str) -> str | None:
    """Return the name of the lock among ``names``: ``pylock.toml``, or the only ``pylock.<name>.toml``.

    Raises :class:`EnvironmentFileError` naming them if there are several.
    """
    if "pylock.toml" in names:
        return "pylock.toml"
    found = sorted(name for name in names if _NAMED.fullmatch(name))
    if len(found) > 1:
        where = f"{directory}/" if directory else ""
        raise EnvironmentFileError(
            f"{' and '.join(where + name for name in found)} are several locks; call the one to use {where}pylock.toml"
        )
    return found[0] if found else None


def read_pylock_file(path: str, files: Files) -> Part:
    """Return what a ``pylock.toml`` says. Raises :class:`EnvironmentFileError`."""
    return part_of_pylock(read_toml(files, path, LOCK_LIMIT), files)


def part_of_pylock(file: TomlFile, files: Files) -> Part:
    """Return the part of a parsed lock; paths in it start from the directory of the file."""
    version = file.document.get("lock-version")
    if not isinstance(version, str) or not version.startswith("1."):
        raise EnvironmentFileError(f'{file.path}: lock-version is {str(version)[:40]!r}; PEP 751 has "1.0"; lock again')
    packages = file.document.get("packages", [])
    if not isinstance(packages, list) or not all(isinstance(package, dict) for package in packages):
        raise EnvironmentFileError(f"{file.path}: packages is not an array of tables; lock again")
    part, kept = Part(), []
    for package in packages:
        source = _source(file, package, files)
        if source is None:
            kept.append(_checked(package, file))
        else:
            part += install([source], files, dependencies=False)
    python = file.document.get("requires-python", "")
    where = f"{file.path}: requires-python"
    if python:
        part += Part(pythons=((parse_python(python, where), where),))
    text = file.text if len(kept) == len(packages) else toml_text({**file.document, "packages": kept})
    return part + Part(lock=StatedLock(file.path, pylock=text))


def _checked(package: dict[str, Any], file: TomlFile) -> dict[str, Any]:
    name = str(package.get("name", ""))
    where = file.where(f'name = "{name}"')
    if not any(package.get(key) for key in ("wheels", "sdist")):
        raise EnvironmentFileError(f"{where}: {name[:60]!r} has no wheels and no sdist; lock again")
    if "marker" in package:
        parse_marker(package["marker"], where)
    wheels = package.get("wheels", [])
    if not isinstance(wheels, list) or not all(isinstance(wheel, dict) for wheel in wheels):
        raise EnvironmentFileError(f"{where}: the wheels of {name[:60]!r} are not an array of tables; lock again")
    for artifact in [*wheels, *([package["sdist"]] if "sdist" in package else [])]:
        hashes = artifact.get("hashes", {}) if isinstance(artifact, dict) else None
        if not isinstance(hashes, dict) or not _SHA.fullmatch(str(hashes.get("sha256", ""))):
            raise EnvironmentFileError(f"{where}: a file of {name[:60]!r} has no sha256; lock again, with hashes")
        if not isinstance(artifact.get("url", ""), str) or not isinstance(artifact.get("size", 0), int):
            raise EnvironmentFileError(f"{where}: a file of {name[:60]!r} has an odd url or size; lock again")
    return package


def _source(file: TomlFile, package: dict[str, Any], files: Files) -> SourceRequirement | None:
    name = package.get("name")
    where = file.where(f'name = "{name}"')
    try:
        canonical = canonicalize_name(str(name), validate=True)
    except InvalidName as error:
        raise EnvironmentFileError(f"{file.path}: a package is called {str(name)[:60]!r}; lock again") from error
    table = next((package[key] for key in ("directory", "vcs", "archive") if key in package), None)
    if table is None:
        return None
    if not isinstance(table, dict):
        raise EnvironmentFileError(f"{where}: {canonical} has an entry that is not a table; lock again")
    if "directory" in package:
        found = replace(
            parse_address(str(table.get("path", "")) or ".", where, file.directory, files),
            editable=table.get("editable") is True,
        )
        if found.kind != "local":
            raise EnvironmentFileError(f"{where}: {canonical} is not a directory of the repository; lock again")
    elif "vcs" in package:
        ref = str(table.get("commit-id", ""))
        if table.get("type") != "git" or not _COMMIT.fullmatch(ref):
            raise EnvironmentFileError(
                f"{where}: {canonical} is not locked to a commit of a git repository; lock again"
            )
        found = parse_address(f"git+{table.get('url', '')}", where, file.directory, files)
        found = replace(found, ref=ref, subdirectory=found.subdirectory or str(table.get("subdirectory", "")))
    else:
        hashes = table.get("hashes", {})
        sha256 = str(hashes.get("sha256", "")) if isinstance(hashes, dict) else ""
        if not _SHA.fullmatch(sha256):
            raise EnvironmentFileError(f"{where}: the archive of {canonical} has no sha256; lock again, with hashes")
        found = parse_address(str(table.get("url") or table.get("path") or ""), where, file.directory, files)
        found = replace(found, hashes=(sha256,))
    marker = str(parse_marker(package["marker"], where)) if "marker" in package else ""
    return replace(found, name=canonical, marker=marker)


def toml_text(document: dict[str, Any]) -> str:
    """Return a document as TOML, arrays of tables at its top as such and everything below inline."""
    lines, tables = [], []
    for key, value in document.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            for item in value:
                tables += ["", f"[[{_key(key)}]]", *(f"{_key(name)} = {_value(inner)}" for name, inner in item.items())]
        elif value != []:
            lines.append(f"{_key(key)} = {_value(value)}")
    return "\n".join([*lines, *tables]) + "\n"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(key)} = {_value(inner)}' for key, inner in value.items())} }}"
    return str(value)
