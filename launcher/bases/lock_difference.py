"""Says what a new lock changes, package by package and why, and what keeps the others from being the newest.

::

    package     old -> new        why
    awkward     2.8.2 -> 2.8.5    needed by coffea 2025.7 (requires awkward>=2.8.2)
    fonttools   4.59 -> (gone)    nobody needs it any more

    not the newest
    numpy       2.3.5 (2.4.0)     numba 0.62 requires numpy<2.4

Reasons are read off the requirements of the definition and the metadata of the packages; the resolver is not asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name
from packaging.version import Version

from builder.locking.closure import admits, applies, breaches, extras_in_use, needs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packaging.requirements import Requirement

    from builder.base import InstalledPackage
    from builder.target import PythonTarget

_MOST_NAMED = 2


@dataclass(frozen=True)
class LockChange:
    """A package that is not what it was: a version is empty where there is none, equal for another wheel of it."""

    name: str
    old: str
    new: str
    why: str


@dataclass(frozen=True)
class HeldBack:
    """A package that the index has in a newer version; ``free`` says that only the lock itself keeps it."""

    name: str
    version: str
    newest: str
    why: str
    free: bool = False


@dataclass(frozen=True)
class LockState:
    """A lock that was just made: its packages with what they require, and what the definition asks for, where.

    ``below`` are the packages of the base that the definition adds to: they stay as they are, and have a say.
    """

    packages: Mapping[str, InstalledPackage]
    stated: Sequence[tuple[Requirement, str]]
    target: PythonTarget
    below: Mapping[str, InstalledPackage] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, InstalledPackage]:
        """All packages of the environment, by name."""
        return {**self.below, **self.packages}

    def demands(self, name: str) -> list[tuple[Requirement, str]]:
        """Return the requirements on a package, each with a clause that says whose it is: the definition's first."""
        found = [
            (item, f"asked for by {source}{_specified(item, ' as {}')}")
            for item, source in self.stated
            if canonicalize_name(item.name) == name and applies(item, self.target)
        ]
        there = self.environment
        extras = extras_in_use(there, self.target, [item for item, _ in self.stated])
        for other in there.values():
            for item in needs(other, self.target, extras.get(other.name, ())):
                if canonicalize_name(item.name) == name and other.name != name:
                    clause = f"needed by {other.name} {other.version}{_specified(item, ' (requires {})')}"
                    found.append((item, clause))
        return found


def changes(old: Mapping[str, tuple[str, str]], new: LockState) -> list[LockChange]:
    """Return what changed, by name; ``old`` has version and sha256 of the earlier lock."""
    found = []
    for name in sorted({*old, *new.packages}):
        before, _ = was = old.get(name, ("", ""))
        package = new.packages.get(name)
        if package is None:
            found.append(LockChange(name, before, "", "nobody needs it any more"))
        elif was != (package.version, package.sha256):
            why = "another wheel of the same version" if before == package.version else _why(name, before, new)
            found.append(LockChange(name, before, package.version, why))
    return found


def held_back(state: LockState, newest: Mapping[str, InstalledPackage]) -> list[HeldBack]:
    """Return the packages that the index (``newest``) has in a newer version, each with what keeps it back.

    All of them are put into the environment at once, and what does not fit there is taken out again until the rest
    fits; so packages that can only move together do not hold each other back.
    """
    newer = {
        name: newest[name]
        for name, package in state.packages.items()
        if name in newest and Version(newest[name].version) > Version(package.version)
    }
    moving, reasons = dict(newer), dict[str, str]()
    while found := _misfits(moving, replace(state, packages={**state.packages, **moving})):
        reasons |= found
        moving = {name: package for name, package in moving.items() if name not in found}
    return [
        HeldBack(
            name,
            state.packages[name].version,
            package.version,
            reasons.get(name, "as it was locked; --upgrade takes the newer one"),
            free=name in moving,
        )
        for name, package in sorted(newer.items())
    ]


def _why(name: str, old: str, state: LockState) -> str:
    """Return who asks for a package: whoever rules the old version out comes first."""
    demands = state.demands(name)
    if old:
        demands.sort(key=lambda demand: admits(demand[0], old))
    clauses = list(dict.fromkeys(clause for _, clause in demands))
    more = len(clauses) - _MOST_NAMED
    return ", ".join(clauses[:_MOST_NAMED]) + (f", and {more} more" if more > 0 else "")


def _misfits(moving: Mapping[str, InstalledPackage], state: LockState) -> dict[str, str]:
    """Return which of ``moving`` others rule out, with the reason; if none, which have needs that do not hold."""
    found = {}
    for name, package in moving.items():
        against = [clause for item, clause in state.demands(name) if not admits(item, package.version)]
        if against:
            found[name] = against[0]
    broken = [] if found else breaches(state.environment, state.target)
    return found or {one.package.name: str(one) for one in reversed(broken) if one.package.name in moving}


def _specified(item: Requirement, form: str) -> str:
    return form.format(f"{canonicalize_name(item.name)}{item.specifier}") if item.specifier else ""
