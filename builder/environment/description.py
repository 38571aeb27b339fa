"""What a project says of itself where nothing of it has to run: the common form of pyproject, poetry and setup.cfg."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

from builder.environment.files import Files, inside, is_directory, join
from builder.environment.spec import EnvironmentFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.environment.wishes import Wish

UNKNOWN_VERSION = "0+unknown"
_SCRIPT = re.compile(r"[\w.][\w.\- +]{0,99}")
_GROUP = re.compile(r"[\w.\-]+")
_OBJECT = re.compile(r"[\w.]+(\s*:\s*[\w.]+)?(\s*\[[^\[\]\n]*\])?")


@dataclass(frozen=True)
class Description:
    """A project: ``extras`` and ``groups`` are wishes by canonical name.

    ``code`` says why its metadata or its modules can't be had without running code (empty: they can); ``packaged`` is
    false for a project that only lists dependencies. The other fields are those of
    :class:`~builder.environment.spec.EditableProject`.
    """

    file: str
    directory: str
    name: str
    version: str = UNKNOWN_VERSION
    requires: tuple[Wish, ...] = ()
    extras: Mapping[str, tuple[Wish, ...]] = field(default_factory=dict)
    groups: Mapping[str, tuple[Wish, ...]] = field(default_factory=dict)
    python: SpecifierSet = field(default_factory=SpecifierSet)
    python_source: str = ""
    entry_points: str = ""
    import_paths: tuple[str, ...] = ()
    generated: tuple[tuple[str, str], ...] = ()
    code: str = ""
    packaged: bool = True
    notes: tuple[str, ...] = ()


def checked_name(name: object, file: str) -> str:
    """Return a project's name as it stands; raise :class:`EnvironmentFileError` if it is none."""
    try:
        if not isinstance(name, str) or not name.isascii():
            raise InvalidName
        canonicalize_name(name, validate=True)
    except InvalidName as error:
        raise EnvironmentFileError(
            f"{file}: the project's name {str(name)[:60]!r} is not one; write letters, digits, -, _ and ."
        ) from error
    return name


def checked_version(version: object, file: str) -> str:
    """Return a version in its normal form; raise :class:`EnvironmentFileError` if it does not follow PEP 440."""
    try:
        return str(Version(str(version)[:200]))
    except InvalidVersion as error:
        raise EnvironmentFileError(
            f"{file}: the version {str(version)[:60]!r} is not one; write it like 1.2.0"
        ) from error


def entry_points_text(groups: Mapping[str, object], file: str) -> str:
    """Return the text of ``entry_points.txt`` for tables of name and object by group."""
    sections = []
    for group, entries in groups.items():
        if not isinstance(entries, dict) or not _GROUP.fullmatch(group):
            raise EnvironmentFileError(
                f'{file}: the entry points {group[:60]!r} are not a table of name = "module:function"'
            )
        lines = []
        for name, target in sorted(entries.items()):
            value = target.get("reference", "") if isinstance(target, dict) else target  # poetry's longer form
            scripts = group in ("console_scripts", "gui_scripts")
            usable = isinstance(value, str) and _OBJECT.fullmatch(value) and (":" in value or not scripts)
            if not usable or not _SCRIPT.fullmatch(name):
                raise EnvironmentFileError(
                    f'{file}: the entry point {name[:60]!r} is {str(value)[:60]!r}; write name = "module:function"'
                )
            lines.append(f"{name} = {value}\n")
        if lines:
            sections.append(f"[{group}]\n{''.join(lines)}")
    return "\n".join(sections)


def import_path(directory: str, stated: str, file: str) -> str:
    """Return a directory that modules are imported from; raise if it leads out of the repository."""
    path = inside(directory, stated or ".")
    if path is None:
        raise EnvironmentFileError(f"{file}: {stated[:80]!r} is not a directory of the repository; correct the path")
    return path


def guessed_import_path(files: Files, directory: str, name: str) -> str:
    """Return where a project's modules lie when it does not say: ``src`` unless they are beside the file."""
    source = join(directory, "src")
    if not is_directory(files, source):
        return directory
    module = canonicalize_name(name).replace("-", "_")
    below, beside = files.names(source), files.names(directory)
    if not {module, f"{module}.py"} & below and {module, f"{module}.py"} & beside:
        return directory
    return source
