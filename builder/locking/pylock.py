"""``pylock.toml`` (PEP 751): the one form in which locked Python packages travel between rooms.

Read: what uv wrote for one platform becomes a list of :class:`LockedPackage`, each with the one wheel that fits the
target best. Written: a lock that any PEP 751 tool can install from, stored with every image. A wheel that was made from
source has no address; its ``path`` says where it lies beside the lock, ``wheels/<sha256>/<file name>``. (A lock that a
repository brings says more, and is trusted less: :mod:`builder.locking.stated` reads it.)
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from registry_sync.errors import CasabinderError
from registry_sync.manifest import canonical_json, sha256_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from packaging.markers import Marker

    from builder.target import PythonTarget

WHEELS = "wheels"  # the directory that a made wheel's path begins with
_UNSAFE = re.compile(r"[^A-Za-z0-9_.!+-]")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_CONTROL = re.compile(r"[\x00-\x20\x7f-\x9f]")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class LockError(CasabinderError):
    """A lock that can't be read, can't be made, or can't be honoured."""


class UnfitError(LockError):
    """What is asked for does not go with a base; with another it may."""


@dataclass(frozen=True, order=True)
class LockedPackage:
    """One package of a lock and the wheel that stands for it.

    ``size`` is bytes, 0 where the index does not say. ``url`` is empty for a wheel that was made from source.
    """

    name: str
    version: str
    filename: str
    sha256: str
    url: str = ""
    size: int = 0

    def identity(self) -> list[str]:
        """Return what of the package decides an environment: kind, name, version, artifact."""
        return ["wheel", self.name, self.version, self.sha256]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def lock_sha256(packages: Iterable[LockedPackage]) -> str:
    """Return the hash (64 hex digits) of a lock: of what is installed, not of how the file is written."""
    return sha256_digest(canonical_json(sorted(package.identity() for package in packages)))[7:]


def read_pylock(
    text: str,
    target: PythonTarget,
    source: str = "pylock.toml",
    pins: Mapping[str, str] | None = None,
    made: Mapping[str, LockedPackage] | None = None,
) -> list[LockedPackage]:
    """Return the packages of a lock for ``target``, sorted by name.

    Packages whose marker is false there are left out. ``pins`` (sha256 by name) narrows the choice to the very wheels
    that an earlier lock chose; ``made`` (by name) stand for entries with an address on this machine. Raises
    :class:`LockError` for a package without a wheel that fits (``source`` names the file in the message).
    """
    packages = []
    for entry in read_entries(text, source):
        if marker_holds(entry, target.markers, source):
            own = (made or {}).get(entry_name(entry, source))
            if own is not None and _is_local(entry):
                packages.append(own)
                continue
            name = entry_name(entry, source)
            pin = pins.get(name) if pins is not None else None
            chosen = choose_wheel(entry, target, source, None if pin is None else {pin}, need_url=False)
            if chosen is None and pin is not None:
                raise LockError(
                    f"{source}: the index no longer has the wheel of {name} {_plain(entry.get('version', ''))} "
                    f"with sha256 {pin}"
                )
            if chosen is None:
                raise LockError(no_wheel(entry, target, source))
            packages.append(chosen)
    return sorted(packages)


def write_pylock(packages: Iterable[LockedPackage], target: PythonTarget) -> str:
    """Return a ``pylock.toml`` with one wheel a package, for the one platform of ``target``."""
    lines = [
        'lock-version = "1.0"',
        'created-by = "casabinder"',
        f'requires-python = "=={target.python}.*"',
    ]
    for package in sorted(packages):
        wheel = [f"name = {_text(package.filename)}"]
        if package.url:
            wheel.append(f"url = {_text(package.url)}")
        else:
            wheel.append(f"path = {_text(f'{WHEELS}/{package.sha256}/{package.filename}')}")
        if package.size:
            wheel.append(f"size = {package.size}")
        wheel.append(f"hashes = {{ sha256 = {_text(package.sha256)} }}")
        lines += [
            "",
            "[[packages]]",
            f"name = {_text(package.name)}",
            f"version = {_text(package.version)}",
            f"wheels = [{{ {', '.join(wheel)} }}]",
        ]
    return "\n".join(lines) + "\n"


def read_document(text: str, source: str) -> dict[str, Any]:
    """Return the TOML of a lock; raise :class:`LockError` when it is none."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise LockError(f"{source} is not valid TOML: {' '.join(str(error).split())}") from error


def read_entries(text: str, source: str) -> list[dict[str, Any]]:
    """Return the tables ``[[packages]]`` of a lock."""
    return tables(read_document(text, source), "packages", source)


def tables(table: Mapping[str, Any], key: str, source: str) -> list[dict[str, Any]]:
    """Return an array of tables, empty when there is none; raise :class:`LockError` for anything else."""
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise LockError(f"{source}: `{key}` must be an array of tables")
    return value


def entry_name(entry: Mapping[str, Any], source: str) -> str:
    """Return the canonical name of a package's entry."""
    name = canonicalize_name(str(entry.get("name", "")))
    if not _NAME.fullmatch(name):
        raise LockError(f"{source}: a package has no name, or an invalid one: {_short(entry.get('name'))}")
    return name


def marker_holds(entry: Mapping[str, Any], markers: Mapping[str, Any], source: str) -> bool:
    """Whether a package's entry is for the environment ``markers``."""
    from packaging.markers import InvalidMarker, UndefinedComparison, UndefinedEnvironmentName

    marker = entry.get("marker")
    environment = {"extras": frozenset(), "dependency_groups": frozenset(), **markers}
    try:
        return marker is None or _marker(str(marker)).evaluate(environment, context="lock_file")
    except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName, InvalidVersion, RecursionError) as error:
        name = _plain(entry.get("name", ""))
        raise LockError(f"{source}: {name} has a marker that is not understood: {_short(marker)}") from error


@lru_cache(maxsize=1024)  # a lock says the same of many packages, and is asked for several Pythons
def _marker(text: str) -> Marker:
    from packaging.markers import Marker

    return Marker(text)


def choose_wheel(
    entry: Mapping[str, Any],
    target: PythonTarget,
    source: str,
    allowed: Iterable[str] | None = None,
    *,
    need_url: bool = True,
) -> LockedPackage | None:
    """Return the wheel of a package's entry that fits ``target`` best, ``None`` if none does.

    ``allowed`` are the only hashes that are taken. Without ``need_url`` a wheel may lie beside the lock, under the very
    path that :func:`write_pylock` gives it.
    """
    name = entry_name(entry, source)
    best: tuple[int, LockedPackage] | None = None
    for wheel in tables(entry, "wheels", source):
        package, rank = _read_wheel(name, entry, wheel, target, source)
        if rank is None or (best is not None and rank >= best[0]):
            continue
        if allowed is not None and package.sha256 not in allowed:
            continue
        if not _SHA256.fullmatch(package.sha256):
            raise LockError(f"{source}: {package.filename} has no sha256; a lock without hashes can't be honoured")
        path = wheel.get("path")
        if not package.url and (need_url or path not in (None, f"{WHEELS}/{package.sha256}/{package.filename}")):
            raise LockError(f"{source}: {package.filename} has no address that it can be fetched from")
        best = (rank, package)
    return best[1] if best else None


def no_wheel(entry: Mapping[str, Any], target: PythonTarget, source: str) -> str:
    """Return the sentence for a package without a wheel that fits."""
    return (
        f"{source}: {entry_name(entry, source)} {_plain(entry.get('version', ''))} has no wheel for Python "
        f"{target.python} on {target.machine} (glibc {target.glibc}); choose a version that has one"
    )


def sha256_of(artifact: Mapping[str, Any]) -> str:
    """Return the sha256 that a lock states for a file, ``""`` if it states none."""
    hashes = artifact.get("hashes")
    value = hashes.get("sha256", "") if isinstance(hashes, dict) else ""
    return value.lower() if isinstance(value, str) and _SHA256.fullmatch(value.lower()) else ""


def _read_wheel(
    name: str, entry: Mapping[str, Any], wheel: Mapping[str, Any], target: PythonTarget, source: str
) -> tuple[LockedPackage, int | None]:
    url = str(wheel.get("url", ""))
    filename = str(wheel.get("name") or file_name(url or str(wheel.get("path", "")), source))
    try:
        _, version, _, tags = parse_wheel_filename(filename)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise LockError(f"{source}: {name} has a wheel with an invalid name: {_short(filename)}") from error
    if _UNSAFE.search(filename):  # packaging looks at the parts, and a tag may hold anything
        raise LockError(f"{source}: {name} has a wheel with an invalid name: {_short(filename)}")
    if _CONTROL.search(url):
        raise LockError(f"{source}: {filename} has an invalid address")
    stated = str(entry.get("version", version))
    if not _same_version(stated, version):
        raise LockError(f"{source}: {name} {_short(stated)} has a wheel of another version: {filename}")
    rank = min((target.tag_rank[tag] for tag in tags if tag in target.tag_rank), default=None)
    size = wheel.get("size", 0)
    if not isinstance(size, int) or size < 0:
        raise LockError(f"{source}: {filename} has an invalid size: {_short(size)}")
    return LockedPackage(name, stated, filename, sha256_of(wheel), url, int(size)), rank


def file_name(address: str, source: str) -> str:
    """Return the last part of a URL or path."""
    try:
        return unquote(urlsplit(address).path.rpartition("/")[2])
    except ValueError as error:
        raise LockError(f"{source}: {_short(address)} is not an address") from error


def _same_version(stated: str, version: Version) -> bool:
    try:
        return Version(stated) == version or Version(stated).public == version.public
    except InvalidVersion:
        return False


def _is_local(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of uv's stands for a wheel on this machine, which uv was told of."""
    wheels = entry.get("wheels")
    first = wheels[0] if isinstance(wheels, list) and wheels else entry.get("archive")
    return isinstance(first, dict) and ("path" in first or str(first.get("url", "")).startswith("file:"))


def _short(value: object) -> str:
    return repr(str(value)[:200])


def _plain(value: object) -> str:
    return _CONTROL.sub("?", str(value)[:100])


def _text(value: str) -> str:
    return json.dumps(value)  # a JSON string is a TOML basic string
