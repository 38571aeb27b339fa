"""Reads the one-purpose files beside any environment: ``runtime.txt``, ``apt.txt``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

from packaging.specifiers import SpecifierSet

from builder.environment.files import Files, read_text
from builder.environment.spec import EnvironmentFileError

_RUNTIME = re.compile(
    r"(?P<name>python|r)(-(?P<version>\d{1,3}(\.\d{1,3}){0,2}))?(-(?P<date>\d{4}-\d{2}-\d{2}))?", re.ASCII
)
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]+(=[A-Za-z0-9.+:~-]+)?")


@dataclass(frozen=True)
class Runtime:
    """``runtime.txt``: ``python`` is a specifier or ``None``; ``as_of`` is a date; ``r`` says that R is asked for, then
    ``r_version`` is its version and ``r_snapshot`` the day of its packages, as far as they are stated."""

    python: SpecifierSet | None = None
    as_of: str = ""
    r: bool = False
    r_version: str = ""
    r_snapshot: str = ""


def read_runtime(path: str, files: Files) -> Runtime:
    """Return what ``runtime.txt`` says: ``python-3.13``, ``python-3.13.5``, ``r-4.3``, with or without a date.

    A base has one patch release of each Python, so that the third number does not count. Raises
    :class:`EnvironmentFileError`.
    """
    text = read_text(files, path).strip()
    match = _RUNTIME.fullmatch(text)
    if not match or not (match["version"] or match["date"]):
        raise EnvironmentFileError(
            f"{path}, line 1: {text[:60]!r} is not understood; write python-3.13, python-3.11-2023-05-01 or r-4.3"
        )
    if match["date"]:
        try:
            date.fromisoformat(match["date"])
        except ValueError as error:
            raise EnvironmentFileError(
                f"{path}, line 1: {match['date']} is not a date; write it like 2023-05-01"
            ) from error
    if match["name"] == "r":
        return Runtime(r=True, r_version=match["version"] or "", r_snapshot=match["date"] or "")
    minor = ".".join((match["version"] or "").split(".")[:2])
    return Runtime(SpecifierSet(f"=={minor}.*") if minor else None, match["date"] or "")


def read_apt(path: str, files: Files) -> tuple[str, ...]:
    """Return the Debian packages of ``apt.txt``, sorted. Every line is matched whole: it ends up in a command."""
    found = set()
    for number, line in enumerate(read_text(files, path).splitlines(), start=1):
        plain = re.sub(r"(^|\s)#.*", "", line).strip()
        if not plain:
            continue
        if not _PACKAGE.fullmatch(plain):
            raise EnvironmentFileError(
                f"{path}, line {number}: {plain[:60]!r} is not a Debian package; write a name or name=version a line"
            )
        found.add(plain)
    return tuple(sorted(found))
