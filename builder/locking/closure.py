"""Whether the packages of one environment fit each other: Requires-Dist and Requires-Python over stored metadata.

Nothing is installed and nobody is asked. ``pip check`` would find the same in the finished image; here it is known
while the image is being planned, for every package whose metadata is at hand (a base's inventory holds all of its
own, :mod:`builder.locking.wheel_metadata` finds those of the others)::

    packages                            breaches
    uproot 5.7 (numpy, awkward>=2.8)    uproot 5.7 requires awkward>=2.8, and awkward 1.10 is there
    awkward 1.10, numpy 2.4
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from builder.base import InstalledPackage
    from builder.target import PythonTarget

PYTHON = "python"
_MICROS = 100  # more than any Python has had


@dataclass(frozen=True)
class Breach:
    """A requirement of ``package`` that does not hold: ``needed`` (a name, or ``python``) is there as ``found``, or is
    missing (``""``)."""

    package: InstalledPackage
    requirement: str
    needed: str
    found: str

    def __str__(self) -> str:
        """Return the breach as a clause for people."""
        package = f"{self.package.name} {self.package.version}"
        if self.needed == PYTHON:
            return f"{package} is for Python {self.requirement}, and {self.found} is there"
        there = f"{self.needed} {self.found} is there" if self.found else f"{self.needed} is not there"
        return f"{package} requires {self.requirement}, and {there}"


def applies(requirement: Requirement, target: PythonTarget, extra: str = "") -> bool:
    """Whether a requirement's marker is true for ``target`` (with one extra asked for, or none)."""
    return requirement.marker is None or requirement.marker.evaluate({**target.markers, "extra": extra})


def admits(requirement: Requirement, version: str) -> bool:
    """Whether a version satisfies a requirement; what is installed may be a pre-release."""
    try:
        return requirement.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return not requirement.specifier


def needs(package: InstalledPackage, target: PythonTarget, extras: Iterable[str] = ()) -> Iterator[Requirement]:
    """Yield what a package requires on ``target``, with ``extras`` of it asked for."""
    wanted = ("", *sorted(extras))
    for line in package.requires:
        if len(wanted) == 1 and "extra" in line.partition(";")[2]:
            continue  # most lines are of extras; parsing them all would take longer than all else
        requirement = _needed(line, target, wanted)
        if requirement is not None:
            yield requirement


@lru_cache(maxsize=20_000)
def _needed(line: str, target: PythonTarget, extras: tuple[str, ...]) -> Requirement | None:
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return None  # an old package's malformed line binds nobody, and pip skips it too
    return requirement if any(applies(requirement, target, extra) for extra in extras) else None


@lru_cache(maxsize=10_000)
def python_fits(requires: str, python: str) -> bool:
    """Whether Requires-Python admits any release of a Python (``X.Y``): uv takes no notice of upper limits."""
    try:
        specifier = SpecifierSet(requires)
    except InvalidSpecifier:
        return True  # nobody can tell
    return not specifier or any(specifier.filter(f"{python}.{micro}" for micro in range(_MICROS)))


def extras_in_use(
    packages: Mapping[str, InstalledPackage], target: PythonTarget, asked: Iterable[Requirement] = ()
) -> dict[str, set[str]]:
    """Return the extras that are asked for, by package: by ``asked``, and by packages that are there."""
    found: dict[str, set[str]] = {}
    pending = [(canonicalize_name(item.name), item.extras) for item in asked]
    pending += [
        (canonicalize_name(item.name), item.extras)
        for package in packages.values()
        for item in needs(package, target)
        if item.extras
    ]
    while pending:
        name, extras = pending.pop()
        new = set(extras) - found.get(name, set())
        if new and name in packages:
            found.setdefault(name, set()).update(new)
            pending += [(canonicalize_name(item.name), item.extras) for item in needs(packages[name], target, new)]
    return found


def breaches(
    packages: Mapping[str, InstalledPackage], target: PythonTarget, asked: Iterable[Requirement] = ()
) -> list[Breach]:
    """Return every requirement of ``packages`` (by canonical name) that does not hold among them, sorted by name.

    Extras are looked at where ``asked``, or a package that is there, asks for them.
    """
    extras = extras_in_use(packages, target, asked)
    found = []
    for name in sorted(packages):
        found += _breaches_of(packages[name], packages, target, extras.get(name, ()))
    return found


def _breaches_of(
    package: InstalledPackage,
    packages: Mapping[str, InstalledPackage],
    target: PythonTarget,
    extras: Iterable[str] = (),
) -> list[Breach]:
    found = []
    if package.requires_python and not python_fits(package.requires_python, target.python):
        found.append(Breach(package, package.requires_python, PYTHON, target.python))
    for requirement in needs(package, target, extras):
        name = canonicalize_name(requirement.name)
        there = packages.get(name)
        if there is None or not admits(requirement, there.version):
            text = f"{name}{requirement.specifier}"
            found.append(Breach(package, text, name, there.version if there else ""))
    return found


def leavers(
    chosen: Mapping[str, InstalledPackage], installed: Mapping[str, InstalledPackage], target: PythonTarget
) -> dict[str, Breach]:
    """Return what of the base (``installed``) can't stay beside ``chosen``, by name, each with the reason.

    A package that nobody chose goes when one of its own requirements no longer holds, and so does what depends on it.
    """
    packages = {**installed, **chosen}
    gone: dict[str, Breach] = {}
    while found := {
        name: broken[0]
        for name in packages.keys() - chosen.keys()
        if (broken := _breaches_of(packages[name], packages, target))
    }:
        gone |= found
        for name in found:
            del packages[name]
    return gone


def closure_of(
    roots: Iterable[str], packages: Mapping[str, InstalledPackage], target: PythonTarget
) -> dict[str, str | None]:
    """Return the names that ``roots`` need, themselves included, each with one that needs it (``None`` for a root)."""
    found: dict[str, str | None] = {name: None for name in roots if name in packages}
    pending = [(name, frozenset[str]()) for name in found]
    seen = set(pending)
    while pending:
        name, extras = pending.pop(0)
        for requirement in needs(packages[name], target, extras):
            edge = canonicalize_name(requirement.name), frozenset(requirement.extras)
            if edge[0] in packages and edge not in seen:
                seen.add(edge)
                found.setdefault(edge[0], name)
                pending.append(edge)
    return found


def satisfied(
    stated: Iterable[Requirement],
    wanted: Iterable[Requirement],
    installed: Mapping[str, InstalledPackage],
    target: PythonTarget,
) -> bool:
    """Whether the packages have all that is ``wanted``, extras included, and admit all that is ``stated``."""
    for item in stated:
        there = installed.get(canonicalize_name(item.name))
        if there is not None and not admits(item, there.version):
            return False
    pending = [(canonicalize_name(item.name), frozenset(item.extras)) for item in wanted]
    seen = set()
    while pending:
        name, extras = pending.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        there = installed.get(name)
        if there is None:
            return False
        for requirement in needs(there, target, extras) if extras else ():
            needed = canonicalize_name(requirement.name)
            if needed not in installed or not admits(requirement, installed[needed].version):
                return False
            pending.append((needed, frozenset(requirement.extras)))
    return True
