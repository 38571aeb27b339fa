"""Installs projects of the repository: as editables if nothing of them has to run, else as sources of wheels.

Projects that require each other by path are each taken once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from builder.environment.description import Description
from builder.environment.files import Files, TomlFile, join, read_toml
from builder.environment.poetry import describe_poetry, poetry_groups
from builder.environment.pyproject import describe_pyproject, wishes_of
from builder.environment.setup_cfg import describe_setup
from builder.environment.spec import EditableProject, EnvironmentFileError, SourceRequirement, StatedRequirement
from builder.environment.wishes import Part, Wish

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_PROJECTS = 100


def describe(directory: str, files: Files) -> Description | None:
    """Return what the project in a directory says of itself, or ``None`` if there is none."""
    if "pyproject.toml" in files.names(directory):
        file = read_toml(files, join(directory, "pyproject.toml"))
        found = describe_pyproject(file, files) or describe_poetry(file, files)
        if found is not None:
            groups = {**poetry_groups(file, files), **_pdm_groups(file, files), **found.groups}
            return replace(found, groups=groups)
        if "build-system" in file.document:
            setup = describe_setup(directory, files)
            if setup is not None:
                return setup
            return Description(file.path, directory, "", import_paths=(directory,), code="it has no [project]")
    return describe_setup(directory, files)


def _pdm_groups(file: TomlFile, files: Files) -> dict[str, tuple[Wish, ...]]:
    table = file.table("tool", "pdm", "dev-dependencies")
    return {
        canonicalize_name(name): wishes_of(
            file,
            files,
            [text.removeprefix("-e ").strip() for text in file.strings(table, name, f"the group {name[:60]!r}")],
        )
        for name in table
    }


def install(
    wishes: Iterable[Wish], files: Files, *, dependencies: bool = True, seen: frozenset[str] = frozenset()
) -> Part:
    """Return what installing ``wishes`` means. A directory of the repository becomes an editable or a source; with
    ``dependencies``, what it requires is installed too."""
    part = Part()
    for wish in wishes:
        if isinstance(wish, StatedRequirement):
            part += Part(requirements=(wish,))
        elif wish.kind != "local":
            part += Part(sources=(wish,))
        else:
            part += install_project(wish, files, dependencies=dependencies, seen=seen)
    return part


def install_project(
    wish: SourceRequirement,
    files: Files,
    *,
    groups: Iterable[str] = (),
    dependencies: bool = True,
    seen: frozenset[str] = frozenset(),
) -> Part:
    """Return what installing the project of a directory (``wish.path``) with its extras and ``groups`` means.

    Raises :class:`EnvironmentFileError` if there is no project, or no such extra or group.
    """
    where = wish.path or "the repository's root"
    found = describe(wish.path, files)
    if found is None:
        raise EnvironmentFileError(
            f"{wish.source}: {where} has no pyproject.toml with a [project], nor a setup.py; add one"
        )
    if len(seen) > _MOST_PROJECTS:
        raise EnvironmentFileError(
            f"{wish.source}: more than {_MOST_PROJECTS} directories require each other; use fewer"
        )
    part = Part(notes=found.notes)
    if found.python_source:
        part += Part(pythons=((found.python, found.python_source),))
    if found.packaged:
        part += _installed(wish, found)
    if not dependencies:
        return part
    wishes = [] if found.code and not found.requires else list(found.requires)
    for extra in wish.extras:
        if extra not in found.extras and not found.code:
            known = ", ".join(sorted(found.extras)) or "none"
            raise EnvironmentFileError(f"{wish.source}: {found.file} has no extra {extra!r}; it has {known}")
        wishes += found.extras.get(extra, ())
    for group in groups:
        if group not in found.groups:
            known = ", ".join(sorted(found.groups)) or "none"
            raise EnvironmentFileError(f"{wish.source}: {found.file} has no group {group!r}; it has {known}")
        wishes += found.groups[group]
    return part + install(_others(wishes, found, wish, seen), files, seen=seen | {wish.path})


def _others(wishes: list[Wish], found: Description, wish: SourceRequirement, seen: frozenset[str]) -> list[Wish]:
    """Leave out what is installed already: the projects on the way here, and the project's own name with its extras,
    which stands for those extras."""
    kept: list[Wish] = []
    pending, known = list(wishes), set(wish.extras)
    while pending:
        item = pending.pop(0)
        name = item.requirement.name if isinstance(item, StatedRequirement) else item.name
        own = found.name and canonicalize_name(name) == canonicalize_name(found.name)
        if isinstance(item, SourceRequirement) and item.kind == "local" and item.path in (*seen, wish.path):
            continue
        if isinstance(item, StatedRequirement) and own:
            for extra in sorted({canonicalize_name(extra) for extra in item.requirement.extras} - known):
                known.add(extra)
                pending += found.extras.get(extra, ())
            continue
        kept.append(item)
    return kept


def _installed(wish: SourceRequirement, found: Description) -> Part:
    if found.code:
        note = f"{found.file}: {found.name or 'the project'} is built from source, because {found.code}"
        name = canonicalize_name(found.name) if found.name else wish.name
        return Part(sources=(replace(wish, name=name),), notes=(note,))
    lines = [_line(item, "") for item in found.requires]
    for extra, wishes in sorted(found.extras.items()):
        lines += [_line(item, extra) for item in wishes]
    project = EditableProject(
        name=found.name,
        version=found.version,
        directory=found.directory,
        import_paths=found.import_paths,
        entry_points=found.entry_points,
        requires=tuple(lines),
        extras=tuple(sorted(found.extras)),
        requires_python=str(found.python),
        generated=found.generated,
    )
    return Part(editables=(project,))


def _line(wish: Wish, extra: str) -> str:
    """Return the Requires-Dist line of a wish. A source stands by its name: where it came from is the lock's to say."""
    if isinstance(wish, StatedRequirement):
        marker, head = str(wish.requirement.marker or ""), str(wish.requirement).partition(";")[0].strip()
    else:
        marker, head = wish.marker, (wish.name or "") + (f"[{','.join(wish.extras)}]" if wish.extras else "")
    conditions = [f"({marker})" if marker and extra else marker, f'extra == "{extra}"' if extra else ""]
    text = " and ".join(filter(None, conditions))
    return f"{head}; {text}" if text else head
