"""Reads ``requirements.txt`` as pip does (Requirements File Format), as far as wheels from an index go.

Understood: requirement lines with extras, markers and hashes, comments, line continuation, ``-r`` and ``-c`` of files
in the repository. What needs code to run or another place to fetch from (``-e``, paths, URLs, index options) is
refused with its line, not ignored.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from packaging.requirements import InvalidRequirement, Requirement

from builder.environment.spec import EnvironmentFileError, StatedRequirement

_COMMENT = re.compile(r"(^|\s)#.*$")
_HASH = re.compile(r"\s--hash[= ]sha256:([0-9a-f]{64})(?=\s|$)")
_INCLUDE = re.compile(r"(?P<option>-r|-c|--requirement|--constraint)[= ]?\s*(?P<path>\S+)")
_HARMLESS = re.compile(r"(--only-binary|--prefer-binary|--no-cache-dir|--require-hashes)\b.*")
_VCS_OR_URL = re.compile(r"(git|hg|svn|bzr)\+|\w+://|^\.{0,2}/|^\.$|\.(whl|zip|tar\.gz)$")
_DEEPEST = 10
_MOST_FILES = 100

ReadFile = Callable[[str], bytes | None]


@dataclass
class _Found:
    requirements: list[StatedRequirement] = field(default_factory=list)
    constraints: list[StatedRequirement] = field(default_factory=list)
    files: int = 0


def read_requirements(path: str, read: ReadFile) -> tuple[tuple[StatedRequirement, ...], tuple[StatedRequirement, ...]]:
    """Return the requirements and the constraints that the file at ``path`` and those it includes state.

    ``read`` returns a file of the repository by its path, or ``None``. Raises :class:`EnvironmentFileError` naming
    file and line.
    """
    found = _Found()
    _read(path, read, found, constraint=False, including=())
    return tuple(found.requirements), tuple(found.constraints)


def _read(path: str, read: ReadFile, found: _Found, *, constraint: bool, including: tuple[str, ...]) -> None:
    content = read(path)
    if content is None and including:
        raise EnvironmentFileError(f"{including[-1]} includes {path}, which is not in the repository")
    if content is None:
        raise EnvironmentFileError(f"{path} is not a file, or a symlink to none; make it a file")
    found.files += 1
    if found.files > _MOST_FILES:
        raise EnvironmentFileError(f"{path}: more than {_MOST_FILES} files are included; put them into one")
    for number, line in _logical_lines(_decode(content, path)):
        source = f"{path}, line {number}"
        include = _INCLUDE.fullmatch(line)
        if include:
            target = posixpath.normpath(posixpath.join(posixpath.dirname(path), include["path"]))
            if target.startswith(("../", "/")) or target == ".." or "://" in include["path"]:
                raise EnvironmentFileError(f"{source}: {include['path']} is not a file of the repository")
            if target == path or target in including or len(including) > _DEEPEST:
                raise EnvironmentFileError(f"{source}: {path} and {target} include each other")
            narrows = constraint or include["option"] in ("-c", "--constraint")
            _read(target, read, found, constraint=narrows, including=(*including, path))
        elif _HARMLESS.fullmatch(line):
            continue
        else:
            (found.constraints if constraint else found.requirements).append(_requirement(line, source))


def _requirement(line: str, source: str) -> StatedRequirement:
    if line.startswith("-"):
        option = line.split()[0].split("=")[0]
        if option in ("-e", "--editable"):
            reason = "editable installs are not supported; the repository's own modules can be imported as they are"
        else:
            reason = f"the option {option} is not supported; the facility decides where packages come from"
        raise EnvironmentFileError(f"{source}: {reason}; remove the line")
    hashes = tuple(match[1] for match in _HASH.finditer(f" {line}"))
    text = _HASH.sub("", f" {line}").strip()
    elsewhere = EnvironmentFileError(
        f"{source}: {text!r} does not come from the package index; give a released version instead"
    )
    if _VCS_OR_URL.search(text.partition(";")[0].split("[")[0].strip()):
        raise elsewhere
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        raise EnvironmentFileError(
            f"{source}: {text!r} is not a requirement ({reason}); write it like `name` or `name==1.2`"
        ) from error
    if requirement.url:
        raise elsewhere
    return StatedRequirement(requirement, source, hashes)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield (number of the first line, text) with continuations joined and comments gone."""
    pending, first = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        first = first or number
        comment = _COMMENT.search(line)
        plain = line[: comment.start()] if comment else line
        if plain.endswith("\\") and not comment:
            pending += plain[:-1] + " "
            continue
        joined = (pending + plain).strip()
        if joined:
            yield first, joined
        pending, first = "", 0
    if pending.strip():
        yield first, pending.strip()


def _decode(content: bytes, path: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise EnvironmentFileError(f"{path}, line {line}: the file is not UTF-8 text; save it as UTF-8") from error
