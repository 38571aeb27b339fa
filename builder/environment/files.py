"""Reading files of a repository whose content, names and paths nobody vouches for."""

from __future__ import annotations

import posixpath
import tomllib
from dataclasses import dataclass
from typing import Any, Protocol

from builder.environment.spec import EnvironmentFileError

FILE_LIMIT = 2**20
LOCK_LIMIT = 16 * 2**20
"""The most bytes of an environment file, and of a lock file, which lists every file of every package."""


class Files(Protocol):
    """The files of a repository, by paths relative to its root; :class:`builder.repository.checkout.Tree` is one."""

    def read(self, path: str, limit: int = FILE_LIMIT) -> bytes | None:
        """Return a file's bytes, or ``None`` if there is no such file."""
        ...

    def names(self, directory: str) -> set[str]:
        """Return the names of what lies directly in a directory (``""`` is the root)."""
        ...

    def has_directory(self, path: str) -> bool:
        """Whether ``path`` (not the root) is a directory."""
        ...


@dataclass(frozen=True)
class TomlFile:
    """A TOML file: its path, its text and what it says."""

    path: str
    text: str
    document: dict[str, Any]

    @property
    def directory(self) -> str:
        """The directory that the file lies in."""
        return posixpath.dirname(self.path)

    def where(self, value: object) -> str:
        """Return ``path, line N`` of the first line that holds ``value``, or just the path."""
        number = line_of(self.text, value) if isinstance(value, str) else 0
        return f"{self.path}, line {number}" if number else self.path

    def table(self, *keys: str) -> dict[str, Any]:
        """Return the table below ``keys``, empty if there is none; raise if something else is there."""
        found: Any = self.document
        for depth, key in enumerate(keys, start=1):
            found = found.get(key, {})
            if not isinstance(found, dict):
                raise EnvironmentFileError(f"{self.path}: [{'.'.join(keys[:depth])}] is not a table; make it one")
        return dict(found)

    def strings(self, table: dict[str, Any], key: str, name: str) -> list[str]:
        """Return ``table[key]`` as a list of strings, empty if there is none; ``name`` is for messages."""
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise EnvironmentFileError(f'{self.path}: {name} is not a list of strings; write it like ["numpy>=2"]')
        return value


def line_of(text: str, value: str) -> int:
    """Return the number of the first line of ``text`` that holds ``value``, or 0."""
    position = text.find(value) if value else -1
    return text.count("\n", 0, position) + 1 if position >= 0 else 0


def join(directory: str, name: str) -> str:
    """Return the path of ``name`` in ``directory`` (``""`` is the root)."""
    return f"{directory}/{name}" if directory else name


def inside(directory: str, stated: str) -> str | None:
    """Return the normalised path that ``stated`` means in ``directory``, or ``None`` if it leads out of the repository
    or is no plain path."""
    if not stated or not stated.isprintable() or stated.startswith(("/", "~", ":")) or "\\" in stated:
        return None
    path = posixpath.normpath(posixpath.join(directory, stated))
    if path.split("/")[0] == ".." or path.startswith(":"):
        return None
    return "" if path == "." else path


def is_directory(files: Files, path: str) -> bool:
    """Whether ``path`` is a directory of the repository; ``""``, the root, is one."""
    return not path or files.has_directory(path)


def read_text(files: Files, path: str, limit: int = FILE_LIMIT) -> str:
    """Return a file as text. Raises :class:`EnvironmentFileError` if it is no file, too big, or not UTF-8."""
    content = files.read(path, limit)
    if content is None:
        raise EnvironmentFileError(f"{path} is not a file, or a symlink to none; make it a file")
    return decode(content, path)


def decode(content: bytes, path: str) -> str:
    """Return ``content`` as text; raise :class:`EnvironmentFileError` naming the line that is not UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise EnvironmentFileError(f"{path}, line {line}: the file is not UTF-8 text; save it as UTF-8") from error


def read_toml(files: Files, path: str, limit: int = FILE_LIMIT) -> TomlFile:
    """Return a TOML file. Raises :class:`EnvironmentFileError` with line and column if it is none."""
    return parse_toml(path, read_text(files, path, limit))


def parse_toml(path: str, text: str) -> TomlFile:
    """Return ``text`` as a TOML file; raise :class:`EnvironmentFileError` with line and column if it is none."""
    try:
        return TomlFile(path, text, tomllib.loads(text))
    except RecursionError as error:
        raise EnvironmentFileError(f"{path} is not valid TOML: it is nested too deeply; write it flat") from error
    except ValueError as error:  # TOMLDecodeError, and Python's own for a number of thousands of digits
        raise EnvironmentFileError(f"{path} is not valid TOML: {' '.join(str(error).split())}") from error
