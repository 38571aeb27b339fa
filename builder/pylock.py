"""``pylock.toml`` (PEP 751): the one form in which locked Python packages travel between rooms.

Read: what uv wrote for one platform becomes a list of :class:`LockedPackage`, each with the one wheel that fits the
target best. Written: a lock that any PEP 751 tool can install from, stored with every image.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from registry_sync.errors import CasabinderError
from registry_sync.manifest import canonical_json, sha256_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.target import PythonTarget

_UNSAFE = re.compile(r"[^A-Za-z0-9_.!+-]")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class LockError(CasabinderError):
    """A lock that can't be read, can't be made, or can't be honoured."""


@dataclass(frozen=True, order=True)
class LockedPackage:
    """One package of a lock and the wheel that stands for it. ``size`` is bytes, 0 where the index does not say."""

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
    text: str, target: PythonTarget, source: str = "pylock.toml", pins: Mapping[str, str] | None = None
) -> list[LockedPackage]:
    """Return the packages of a lock for ``target``, sorted by name.

    Packages whose marker is false there are left out. ``pins`` (sha256 by name) narrows the choice to the very wheels
    that an earlier lock chose. Raises :class:`LockError` for a package without a wheel that fits (``source`` names the
    file in the message).
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LockError(f"{source} is not valid TOML: {error}") from error
    return sorted(
        _read_package(entry, target, source, pins)
        for entry in document.get("packages", [])
        if _applies(entry, target, source)
    )


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


def _text(value: str) -> str:
    return json.dumps(value)  # a JSON string is a TOML basic string


def _applies(entry: dict[str, Any], target: PythonTarget, source: str) -> bool:
    from packaging.markers import InvalidMarker, Marker, UndefinedEnvironmentName

    marker = entry.get("marker")
    try:
        return marker is None or Marker(str(marker)).evaluate(target.markers)
    except (InvalidMarker, UndefinedEnvironmentName) as error:
        raise LockError(f"{source}: {entry.get('name', '')} has a marker that is not understood: {marker}") from error


def _read_package(
    entry: dict[str, Any], target: PythonTarget, source: str, pins: Mapping[str, str] | None
) -> LockedPackage:
    name = canonicalize_name(str(entry.get("name", "")))
    pin = pins.get(name) if pins is not None else None
    best: tuple[int, LockedPackage] | None = None
    for wheel in entry.get("wheels", []):
        url = str(wheel.get("url", ""))
        filename = str(wheel.get("name") or unquote(urlsplit(url).path.rpartition("/")[2]))
        sha256 = str(wheel.get("hashes", {}).get("sha256", ""))
        try:
            _, version, _, tags = parse_wheel_filename(filename)
        except InvalidWheelFilename as error:
            raise LockError(f"{source}: {name} has a wheel with an invalid name: {filename!r}") from error
        if _UNSAFE.search(filename):  # packaging looks at the parts, and a tag may hold anything
            raise LockError(f"{source}: {name} has a wheel with an invalid name: {filename!r}")
        rank = min((target.tag_rank[tag] for tag in tags if tag in target.tag_rank), default=None)
        if rank is None or (best is not None and rank >= best[0]) or (pin is not None and sha256 != pin):
            continue
        if not _SHA256.fullmatch(sha256):
            raise LockError(f"{source}: {filename} has no sha256; a lock without hashes can't be honoured")
        package = LockedPackage(
            name, str(entry.get("version", version)), filename, sha256, url, int(wheel.get("size", 0))
        )
        best = (rank, package)
    if best is None and pin is not None:
        raise LockError(
            f"{source}: the index no longer has the wheel of {name} {entry.get('version', '')} with sha256 {pin}"
        )
    if best is None:
        raise LockError(
            f"{source}: {name} {entry.get('version', '')} has no wheel for Python {target.python} on {target.machine} "
            f"(glibc {target.glibc}); choose a version that has one"
        )
    return best[1]
