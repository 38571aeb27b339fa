"""Reads ``requirements.txt`` as pip does (Requirements File Format).

Understood: requirement lines with extras, markers and hashes, comments, line continuation, ``-r`` and ``-c`` of files
in the repository, ``-e`` and directories of the repository, git and archive addresses. Options that say where packages
come from are refused with their line: that is the facility's decision. Source: pip's documentation, "Requirements
File Format".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from builder.environment.files import Files, decode, inside, is_directory
from builder.environment.spec import EnvironmentFileError, SourceRequirement, StatedRequirement
from builder.environment.wishes import Wish, and_marker, parse_address, parse_requirement

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMMENT = re.compile(r"(^|\s)#.*$")
_HASH = re.compile(r"\s--hash[= ]sha256:([0-9a-f]{64})(?=\s|$)")
_PER_REQUIREMENT = re.compile(r"\s--(config-settings?|global-option|install-option|hash)\b")
_INCLUDE = re.compile(r"(?P<option>-r|-c|--requirement|--constraint)[= ]?\s*(?P<path>\S+)")
_EDITABLE = re.compile(r"(-e|--editable)[= ]?\s*(?P<target>.+)")
_HARMLESS = re.compile(r"(--only-binary|--prefer-binary|--no-cache-dir|--require-hashes|--use-feature)\b.*")
_NOTED = {
    "--pre": "pre-releases are taken only where a requirement names one, as in name>=2.0rc1",
    "--no-binary": "wheels are used where the index has them",
}
_INDEX = ("-i", "--index-url", "--pypi-url", "--extra-index-url", "-f", "--find-links", "--no-index", "--trusted-host")
_VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")
_ADDRESS = re.compile(r"((git|hg|svn|bzr)\+|\w+://|file:|\.{0,2}/|\.{1,2}(\[|$)|~)")
_FILE = re.compile(r"\S+\.(whl|zip|tar\.gz|tgz|tar\.bz2)")
_SPACED_EXTRAS = re.compile(r"\[[^\[\]]*\]$")
_DEEPEST = 10
_MOST_FILES = 100


@dataclass
class RequirementLines:
    """What the files state, in their order."""

    wishes: list[Wish] = field(default_factory=list)
    constraints: list[StatedRequirement] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: int = 0


def read_requirements(path: str, files: Files, root: str = "") -> RequirementLines:
    """Return what the file at ``path`` and those it includes state. Raises :class:`EnvironmentFileError` naming file
    and line.

    Directories of projects (``-e .``) start from ``root``, where pip would be started, as with repo2docker; where there
    is no such directory, from the directory of the file.
    """
    found = RequirementLines()
    _read(path, files, root, found, constraint=False, including=())
    return found


def _read(
    path: str, files: Files, root: str, found: RequirementLines, *, constraint: bool, including: tuple[str, ...]
) -> None:
    content = files.read(path)
    if content is None and including:
        raise EnvironmentFileError(f"{including[-1]} includes {path}, which is not in the repository; add it")
    if content is None:
        raise EnvironmentFileError(f"{path} is not a file, or a symlink to none; make it a file")
    found.files += 1
    if found.files > _MOST_FILES:
        raise EnvironmentFileError(f"{path}: more than {_MOST_FILES} files are included; put them into one")
    directory = path.rpartition("/")[0]
    for number, line in _logical_lines(decode(content, path)):
        source = f"{path}, line {number}"
        if variable := _VARIABLE.search(line):
            raise EnvironmentFileError(f"{source}: {variable[0]} is not known when the image is built; write its value")
        include = _INCLUDE.fullmatch(line)
        if include:
            target = inside(directory, include["path"])
            if not target or "://" in include["path"]:
                raise EnvironmentFileError(f"{source}: {include['path'][:80]} is not a file of the repository")
            if target == path or target in including or len(including) > _DEEPEST:
                raise EnvironmentFileError(f"{source}: {path} and {target} include each other; remove one of the lines")
            narrows = constraint or include["option"] in ("-c", "--constraint")
            _read(target, files, root, found, constraint=narrows, including=(*including, path))
        elif line.startswith("-") and not _EDITABLE.fullmatch(line):
            _option(line, source, found)
        else:
            _add(_wish(line, source, (root, directory), files), source, found, constraint=constraint)


def _add(wish: Wish, source: str, found: RequirementLines, *, constraint: bool) -> None:
    if not constraint:
        found.wishes.append(wish)
    elif isinstance(wish, StatedRequirement):
        found.constraints.append(wish)
    else:
        raise EnvironmentFileError(f"{source}: a constraint can't be an address; write it like `name<2`")


def _option(line: str, source: str, found: RequirementLines) -> None:
    option = line.split()[0].split("=")[0]
    if _HARMLESS.fullmatch(line):
        return
    if option in _NOTED:
        found.notes.append(f"{source}: {option} has no effect: {_NOTED[option]}")
        return
    if option in _INDEX or re.match(r"-[if]\S", line):
        reason = f"the option {option} is not supported; the facility decides where packages come from"
    else:
        reason = f"the option {option} is not supported"
    raise EnvironmentFileError(f"{source}: {reason}; remove the line")


def _wish(line: str, source: str, directories: tuple[str, str], files: Files) -> Wish:
    hashes = tuple(match[1] for match in _HASH.finditer(f" {line}"))
    text = _HASH.sub("", f" {line}").strip()
    option = _PER_REQUIREMENT.search(text)
    if option and option[1] == "hash":
        raise EnvironmentFileError(f"{source}: only --hash=sha256: with 64 hex digits is understood; correct the hash")
    if option:
        raise EnvironmentFileError(f"{source}: the option --{option[1]} is not supported; remove it from the line")
    editable = _EDITABLE.fullmatch(text)
    if editable:
        text = editable["target"].strip()
    plain, *markers = (part.strip() for part in re.split(r"\s;|;\s", text, maxsplit=1))
    directory = _start(plain, directories, files)
    if (editable and " @ " not in plain) or _ADDRESS.match(plain) or _FILE.fullmatch(plain) or _is_directory(plain):
        found = parse_address(_SPACED_EXTRAS.sub(_unspaced, plain), source, directory, files)
        found = replace(found, editable=bool(editable), hashes=hashes or found.hashes)
        return and_marker(found, markers[0] if markers else "", source)
    wish = parse_requirement(text, source, directory, files)
    if isinstance(wish, SourceRequirement):
        return replace(wish, editable=bool(editable), hashes=hashes or wish.hashes)
    return replace(wish, hashes=hashes)


def _start(address: str, directories: tuple[str, str], files: Files) -> str:
    """Return the directory that a path of the repository starts from: the first in which it is a directory."""
    plain = address.rpartition("@ ")[2].partition("[")[0]
    for directory in directories:
        path = inside(directory, plain)
        if path is not None and is_directory(files, path):
            return directory
    return directories[0]


def _unspaced(extras: re.Match[str]) -> str:
    return extras[0].replace(" ", "")


def _is_directory(text: str) -> bool:
    """pip takes a line with a slash in it for a path, unless it is a direct reference."""
    return "/" in text and "@" not in text and not re.search(r"[\s<>=!~;]", text)


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
