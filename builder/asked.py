"""The packages that a repository asks for, as far as they decide its base: all that is said of each, together.

What a lock fixes is asked for, and so is what is made from source, where its name is known. Constraints narrow the
versions and ask for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from builder.environment.spec import StatedRequirement
from builder.locking.closure import applies
from builder.locking.stated import stated_pins

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

    from builder.environment.spec import EnvironmentSpec
    from builder.target import PythonTarget


@dataclass(frozen=True)
class AskedPackage:
    """A package that is asked for: all that is stated of it together, and where (``requirements.txt, line 3``)."""

    name: str
    extras: frozenset[str]
    versions: SpecifierSet
    sources: tuple[str, ...]

    def __str__(self) -> str:
        """Return a clause for people: where what is asked for."""
        extras = f"[{','.join(sorted(self.extras))}]" if self.extras else ""
        verb = "asks" if len(self.sources) == 1 else "ask"
        return f"{' and '.join(self.sources)} {verb} for {self.name}{extras}{self.versions}"


def asked_packages(spec: EnvironmentSpec, target: PythonTarget) -> tuple[AskedPackage, ...]:
    """Return the packages that are asked for on ``target``, in the order in which they are stated."""
    found: dict[str, AskedPackage] = {}
    pins = stated_pins(spec.lock) if spec.lock else ()
    for item in (*spec.requirements, *pins, *named_sources(spec)):
        if applies(item.requirement, target):
            name = canonicalize_name(item.requirement.name)
            found[name] = _with(found.get(name), name, item)
    for item in spec.constraints:
        name = canonicalize_name(item.requirement.name)
        if name in found and str(item.requirement.specifier) and applies(item.requirement, target):
            found[name] = _with(found[name], name, item)
    return tuple(found.values())


def named_sources(spec: EnvironmentSpec) -> tuple[StatedRequirement, ...]:
    """Return the sources whose name is known as requirements of any version."""
    found = []
    for source in (source for source in spec.sources if source.name):
        requirement = Requirement(source.name)
        requirement.extras = set(source.extras)
        requirement.marker = Marker(source.marker) if source.marker else None
        found.append(StatedRequirement(requirement, source.source))
    return tuple(found)


def _with(there: AskedPackage | None, name: str, item: StatedRequirement) -> AskedPackage:
    extras = frozenset(map(canonicalize_name, item.requirement.extras))
    if there is None:
        return AskedPackage(name, extras, item.requirement.specifier, (item.source,))
    sources = there.sources if item.source in there.sources else (*there.sources, item.source)
    return AskedPackage(name, there.extras | extras, there.versions & item.requirement.specifier, sources)
