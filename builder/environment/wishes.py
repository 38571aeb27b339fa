"""Turns what a file states of one package into a requirement of the index or a source that a wheel is made from.

PEP 508 lines, pip's addresses (``git+https://host/repo@ref#egg=name&subdirectory=x``, archives at a URL, directories
of the repository) and the errors of all of them. Source: PEP 508, PEP 440 (direct references), pip's "VCS Support".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidName, canonicalize_name

from builder.environment.files import Files, inside, is_directory
from builder.environment.spec import (
    EditableProject,
    EnvironmentFileError,
    SourceRequirement,
    StatedLock,
    StatedRequirement,
)

Wish = StatedRequirement | SourceRequirement

_LONGEST = 4000
_GIT = ("git+https", "git+http", "git+ssh", "git+git")
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REF = re.compile(r"[\w./+-]{1,200}")


@dataclass(frozen=True)
class Part:
    """What one file adds to an environment; ``pythons`` are (specifier, where it stands)."""

    requirements: tuple[StatedRequirement, ...] = ()
    constraints: tuple[StatedRequirement, ...] = ()
    sources: tuple[SourceRequirement, ...] = ()
    editables: tuple[EditableProject, ...] = ()
    pythons: tuple[tuple[SpecifierSet, str], ...] = ()
    lock: StatedLock | None = None
    notes: tuple[str, ...] = ()

    def __add__(self, other: Part) -> Part:
        return Part(
            requirements=self.requirements + other.requirements,
            constraints=self.constraints + other.constraints,
            sources=self.sources + tuple(source for source in other.sources if source not in self.sources),
            editables=self.editables
            + tuple(
                project
                for project in other.editables
                if project.directory not in {there.directory for there in self.editables}
            ),
            pythons=self.pythons + tuple(python for python in other.pythons if python not in self.pythons),
            lock=self.lock or other.lock,
            notes=self.notes + tuple(note for note in other.notes if note not in self.notes),
        )


def parse_requirement(text: object, source: str, directory: str, files: Files) -> Wish:
    """Return what a PEP 508 line asks for. A direct reference becomes a :class:`SourceRequirement`; ``directory`` is
    what relative paths start from. Raises :class:`EnvironmentFileError`."""
    try:
        if not isinstance(text, str) or len(text) > _LONGEST:
            raise InvalidRequirement("it is not a short text")
        requirement = Requirement(text)
    except (InvalidRequirement, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise EnvironmentFileError(
            f"{source}: {str(text)[:80]!r} is not a requirement ({reason}); write it like `name` or `name==1.2`"
        ) from error
    if not requirement.url:
        return StatedRequirement(requirement, source)
    found = parse_address(requirement.url, source, directory, files)
    return replace(
        found,
        name=canonicalize_name(requirement.name),
        extras=tuple(sorted(requirement.extras)),
        marker=str(requirement.marker or ""),
    )


def parse_address(address: str, source: str, directory: str, files: Files) -> SourceRequirement:
    """Return the source at an address: ``git+...``, ``https://...``, or a directory of the repository."""
    if not address.isprintable() or " " in address or len(address) > _LONGEST:
        raise EnvironmentFileError(f"{source}: {address[:80]!r} is not an address; write it without spaces")
    scheme = address.partition("://")[0].lower() if "://" in address else ""
    if address.lower().startswith(("svn+", "hg+", "bzr+")):
        raise EnvironmentFileError(
            f"{source}: {address.partition('+')[0]} repositories can't be fetched; use git+https:// or an archive"
        )
    if scheme in _GIT:
        return _git(address, source)
    if scheme in ("https", "http"):
        return _archive(address, source)
    if scheme or address.startswith(("file:", "git+", "git@")):
        raise EnvironmentFileError(
            f"{source}: {address[:80]!r} can't be fetched; use git+https://, https:// or a directory of the repository"
        )
    return _local(address, source, directory, files)


def _split(address: str, source: str) -> tuple[str, dict[str, str]]:
    """Return the address without its fragment, and what the fragment says."""
    try:
        parts = urlsplit(address)
        password, host, _ = parts.password, parts.hostname, parts.port
    except ValueError as error:
        raise EnvironmentFileError(f"{source}: {address[:80]!r} is not a URL; check the address") from error
    if password or not host or ("@" in parts.netloc and not parts.scheme.endswith("ssh")):
        what = "holds a user name or password" if host else "names no host"
        raise EnvironmentFileError(f"{source}: the address {what}; write it as https://host/path")
    fragment = dict(parse_qsl(parts.fragment.replace("?", "&"), keep_blank_values=True))
    return urlunsplit(parts._replace(fragment="")), fragment


def _git(address: str, source: str) -> SourceRequirement:
    url, fragment = _split(address, source)
    url = url.removeprefix("git+")
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    path, at, ref = path.rpartition("@") if "@" in path else (path, "", "")
    if not path or (at and (not _REF.fullmatch(ref) or ref.startswith("-"))):
        raise EnvironmentFileError(f"{source}: {address[:80]!r} is not understood; write git+https://host/path@ref")
    name, extras = _egg(fragment, source)
    return SourceRequirement(
        "git",
        source,
        url=f"{scheme}://{host}/{path}",
        ref=ref,
        subdirectory=_subdirectory(fragment.get("subdirectory", ""), source),
        name=name,
        extras=extras,
    )


def _archive(address: str, source: str) -> SourceRequirement:
    url, fragment = _split(address, source)
    file = unquote(urlsplit(url).path).rpartition("/")[2]
    if not file.lower().endswith(_ARCHIVES):
        raise EnvironmentFileError(
            f"{source}: {address[:80]!r} names no wheel or archive; its name must end in one of {', '.join(_ARCHIVES)}"
        )
    hashes = (fragment["sha256"],) if "sha256" in fragment else ()
    if hashes and not _SHA256.fullmatch(hashes[0]):
        raise EnvironmentFileError(f"{source}: the sha256 of {file[:80]!r} does not have 64 hex digits; correct it")
    name, extras = _egg(fragment, source)
    if not name and file.lower().endswith(".whl"):
        name = canonicalize_name(file.split("-")[0])
    subdirectory = _subdirectory(fragment.get("subdirectory", ""), source)
    return SourceRequirement(
        "archive", source, url=url, hashes=hashes, subdirectory=subdirectory, name=name, extras=extras
    )


def _local(stated: str, source: str, directory: str, files: Files) -> SourceRequirement:
    plain, bracket, extras = stated.partition("[")
    path = inside(directory, plain)
    if path is None:
        raise EnvironmentFileError(
            f"{source}: {plain[:80]!r} is not a directory of the repository; use a path below it"
        )
    if plain.lower().endswith(_ARCHIVES):
        raise EnvironmentFileError(
            f"{source}: {plain[:80]!r} is a file; name a directory of the repository, or the package by its version"
        )
    if not is_directory(files, path):
        raise EnvironmentFileError(f"{source}: the repository has no directory {plain[:80]!r}; correct the path")
    names = parse_extras(extras.removesuffix("]"), source) if bracket else ()
    return SourceRequirement("local", source, path=path, extras=names)


def parse_extras(text: str, source: str) -> tuple[str, ...]:
    """Return the canonical names of a comma-separated list of extras."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            found.append(canonicalize_name(part, validate=True))
        except InvalidName as error:
            raise EnvironmentFileError(f"{source}: {part[:40]!r} is not the name of an extra; correct it") from error
    return tuple(sorted(set(found)))


def _egg(fragment: dict[str, str], source: str) -> tuple[str, tuple[str, ...]]:
    text = fragment.get("egg", "")
    name, bracket, extras = text.partition("[")
    try:
        canonical = canonicalize_name(name.strip(), validate=True) if name else ""
    except InvalidName as error:
        raise EnvironmentFileError(f"{source}: #egg={text[:40]} is not a package name; correct it") from error
    return canonical, parse_extras(extras.removesuffix("]"), source) if bracket else ()


def _subdirectory(stated: str, source: str) -> str:
    if not stated:
        return ""
    path = inside("", stated)
    if path is None:
        raise EnvironmentFileError(f"{source}: the subdirectory {stated[:80]!r} leads out; use a path below")
    return path


def parse_python(text: object, source: str) -> SpecifierSet:
    """Return a Python version specifier; raise :class:`EnvironmentFileError` if it is none."""
    try:
        if not isinstance(text, str) or len(text) > _LONGEST:
            raise InvalidSpecifier
        return SpecifierSet(text)
    except InvalidSpecifier as error:
        raise EnvironmentFileError(
            f"{source} {str(text)[:60]!r} is not a version specifier; write it like `>=3.11`"
        ) from error


def and_marker(wish: Wish, text: str, source: str) -> Wish:
    """Return ``wish`` with a further condition."""
    if not text:
        return wish
    marker = parse_marker(text, source)
    if isinstance(wish, SourceRequirement):
        return replace(wish, marker=f"({wish.marker}) and ({marker})" if wish.marker else str(marker))
    requirement = Requirement(str(wish.requirement))
    own = requirement.marker
    requirement.marker = Marker(f"({own}) and ({marker})") if own else marker
    return replace(wish, requirement=requirement)


def parse_marker(text: object, source: str) -> Marker:
    """Return a PEP 508 marker; raise :class:`EnvironmentFileError` if it is none."""
    from packaging.markers import InvalidMarker

    try:
        if not isinstance(text, str) or len(text) > _LONGEST:
            raise InvalidMarker("it is not a short text")
        return Marker(text)
    except (InvalidMarker, RecursionError) as error:
        raise EnvironmentFileError(
            f"{source}: {str(text)[:80]!r} is not a marker; write it like `python_version < '3.12'`"
        ) from error
