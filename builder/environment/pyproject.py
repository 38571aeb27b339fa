"""Reads ``pyproject.toml``: ``[project]`` (PEP 621) and ``[dependency-groups]`` (PEP 735), for what needs no code.

Where a project's own modules lie is said in its build back end's words; :mod:`builder.environment.backends` knows
them.
"""

from __future__ import annotations

from typing import Any

from packaging.utils import InvalidName, canonicalize_name

from builder.environment.backends import layout_of
from builder.environment.description import UNKNOWN_VERSION, Description, checked_name, entry_points_text
from builder.environment.files import Files, TomlFile, decode, inside
from builder.environment.spec import EnvironmentFileError
from builder.environment.wishes import Wish, parse_python, parse_requirement

_DEEPEST_GROUP = 20


def describe_pyproject(file: TomlFile, files: Files) -> Description | None:
    """Return what a ``pyproject.toml`` with a ``[project]`` says, or ``None`` if it has none.

    Raises :class:`EnvironmentFileError` naming file and line.
    """
    if "project" not in file.document:
        return None
    project = file.table("project")
    name = checked_name(project.get("name"), f"{file.path}: [project]")
    dynamic = file.strings(project, "dynamic", "[project] dynamic")
    requires: tuple[Wish, ...] = ()
    code = ""
    if "dependencies" in dynamic:
        stated = _from_files(file, files, file.table("tool", "setuptools", "dynamic").get("dependencies"))
        requires, code = stated or (), "" if stated is not None else "its dependencies are dynamic"
    else:
        requires = wishes_of(file, files, file.strings(project, "dependencies", "[project] dependencies"))
    extras = {
        _canonical(extra, file): wishes_of(file, files, file.strings(table, extra, f"the extra {extra[:60]!r}"))
        for table in [file.table("project", "optional-dependencies")]
        for extra in table
    }
    if "optional-dependencies" in dynamic:
        for extra, value in file.table("tool", "setuptools", "dynamic", "optional-dependencies").items():
            stated = _from_files(file, files, value)
            extras[_canonical(extra, file)] = stated or ()
            code = code or ("" if stated is not None else "its extras are dynamic")
    if "scripts" in dynamic or "entry-points" in dynamic:
        code = code or "its entry points are dynamic"
    source = f"{file.path}: requires-python"
    python = parse_python(project.get("requires-python", ""), source)
    # A [project] without a version is not valid, and common where there is nothing to release.
    stated_version = project.get("version", UNKNOWN_VERSION)
    layout = layout_of(file, files, name, stated_version if "version" not in dynamic else None)
    return Description(
        file=file.path,
        directory=file.directory,
        name=name,
        version=layout.version,
        requires=requires,
        extras=extras,
        groups=read_groups(file, files),
        python=python,
        python_source=source if str(python) else "",
        entry_points=entry_points_text(
            {
                "console_scripts": file.table("project", "scripts"),
                "gui_scripts": file.table("project", "gui-scripts"),
                **file.table("project", "entry-points"),
            },
            file.path,
        ),
        import_paths=layout.import_paths,
        generated=layout.generated,
        code=code or layout.code,
        packaged=file.table("tool", "uv").get("package") is not False,
        notes=layout.notes,
    )


def read_groups(file: TomlFile, files: Files) -> dict[str, tuple[Wish, ...]]:
    """Return the dependency groups by canonical name, with what they include. Source: PEP 735."""
    table = file.table("dependency-groups")
    by_name = {_canonical(name, file): value for name, value in table.items()}
    known: dict[str, tuple[Wish, ...]] = {}

    def group(name: str, including: tuple[str, ...]) -> tuple[Wish, ...]:
        if name in known:
            return known[name]
        if name in including or len(including) > _DEEPEST_GROUP:
            both = " and ".join((*including[-1:], name))
            raise EnvironmentFileError(f"{file.path}: the dependency groups {both} include each other; remove one")
        if name not in by_name:
            raise EnvironmentFileError(
                f"{file.path}: there is no dependency group {name!r} to include; add or remove it"
            )
        entries = by_name[name]
        if not isinstance(entries, list):
            raise EnvironmentFileError(f"{file.path}: the dependency group {name!r} is not a list; make it one")
        found: list[Wish] = []
        for entry in entries:
            if isinstance(entry, dict):
                if list(entry) != ["include-group"] or not isinstance(entry["include-group"], str):
                    raise EnvironmentFileError(
                        f"{file.path}: the dependency group {name!r} holds a table that is no {{include-group = ...}}"
                    )
                found += group(_canonical(entry["include-group"], file), (*including, name))
            else:
                found += wishes_of(file, files, [entry])
        known[name] = tuple(found)
        return known[name]

    return {name: group(name, ()) for name in by_name}


def wishes_of(file: TomlFile, files: Files, texts: list[str]) -> tuple[Wish, ...]:
    """Return the wishes of a list of PEP 508 lines."""
    return tuple(parse_requirement(text, file.where(text), file.directory, files) for text in texts)


def _from_files(file: TomlFile, files: Files, stated: Any) -> tuple[Wish, ...] | None:
    """Return setuptools' dependencies that are read from files, or ``None`` if they are not said like that."""
    names = stated.get("file") if isinstance(stated, dict) else None
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    found: list[Wish] = []
    for name in names:
        path = inside(file.directory, name)
        content = files.read(path) if path else None
        if content is None or path is None:
            raise EnvironmentFileError(
                f"{file.where(name)}: the repository has no file {name[:80]!r}; correct the path"
            )
        for number, line in enumerate(decode(content, path).splitlines(), start=1):
            plain = line.strip()  # setuptools reads lines and comments, and none of pip's options
            if plain and not plain.startswith("#"):
                found.append(parse_requirement(plain.split(" #")[0], f"{path}, line {number}", file.directory, files))
    return tuple(found)


def _canonical(name: str, file: TomlFile) -> str:
    try:
        return canonicalize_name(name, validate=True)
    except InvalidName as error:
        raise EnvironmentFileError(
            f"{file.path}: {name[:60]!r} is not the name of an extra or group; correct it"
        ) from error
