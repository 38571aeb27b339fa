"""Says whether an image may be put onto another base: whether all that it took from its old base is still there.

What a lock took from a base is known by name and version only, and the new base has other versions. So the packages of
the new base and the image's own ones are looked at as one environment: nothing may be missing, nothing may break
that held before, and what the user's files ask for must still hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename

from builder.attachments.sbom import installed
from builder.locking.closure import admits, applies, breaches, leavers
from builder.verify import exactly
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.attachments.provenance import BuildInputs
    from builder.attachments.sbom import Contents
    from builder.base import Base
    from builder.locking.lock import Lock
    from builder.target import PythonTarget


class RebaseRefusedError(CasabinderError):
    """An image that can't be put onto another base as it is; the message has the reason and what to do."""


@dataclass(frozen=True)
class BaseChange:
    """An image, what it consists of, its lock, its base and the one that it is to get."""

    image: str
    old: Base
    new: Base
    before: Lock
    contents: Contents

    def refused(self, reason: str) -> RebaseRefusedError:
        """Return the error for a reason."""
        name, digest = self.new.inventory.name, self.new.digest[7:19]
        return RebaseRefusedError(f"{self.image} can't be put onto {name} ({digest}): {reason}; build it again")


def lock_on(change: BaseChange, inputs: BuildInputs) -> Lock:
    """Return the image's lock on the new base: the same layered packages, everything else the new base's.

    Raises :class:`RebaseRefusedError` with the first reason against it.
    """
    new, target = change.new, change.new.inventory.target
    there = new.inventory.analysis.by_name
    layered = {package.name: package for package in change.before.layered}
    _check_platform(change)
    _check_layered(change)
    kept = {package.name for package in change.before.packages} - layered.keys()
    if missing := sorted(kept - there.keys()):
        raise change.refused(f"the new base has no {missing[0]}, which the image took from the old one")
    analysis = change.contents.of("analysis")
    described = {name: installed(analysis[name]) for name in layered}
    gone = leavers(described, there, target)
    for name in sorted(gone.keys() & kept):
        raise change.refused(str(gone[name]))
    packages = {name: one for name, one in there.items() if name not in gone} | described
    requirements = _applying(inputs.requirements, target)
    constraints = _applying((*inputs.constraints, *inputs.pins), target)
    asked = [requirement for requirement, _ in requirements]
    tolerated = {
        (breach.package.name, breach.needed)
        for breach in breaches({name: installed(one) for name, one in analysis.items()}, target, asked)
    }
    for breach in breaches(packages, target, asked):
        if (breach.package.name, breach.needed) not in tolerated:
            raise change.refused(str(breach))
    for requirement, source in (*requirements, *constraints):
        has = packages.get(canonicalize_name(requirement.name))
        if has is not None and not admits(requirement, has.version):
            raise change.refused(f"{source} asks for {requirement}, and the new base has {has.name} {has.version}")
    if target.python_full not in SpecifierSet(inputs.python):
        raise change.refused(
            f"{inputs.python_source} asks for Python {inputs.python}, and the new base has {target.python_full}"
        )
    return exactly([*(one.locked for name, one in packages.items() if name not in layered), *layered.values()], new)


def _check_platform(change: BaseChange) -> None:
    old, new = change.old.inventory, change.new.inventory
    for what, left, right in (
        ("Python", old.target.python, new.target.python),
        ("the platform", old.target.platform, new.target.platform),
        ("the environment's directory", old.analysis.prefix, new.analysis.prefix),
    ):
        if left != right:
            raise change.refused(f"{what} is {left} in the old base and {right} in the new one")


def _check_layered(change: BaseChange) -> None:
    """Refuse what a build on the new base would not layer, or not so."""
    there, before = change.new.inventory.analysis.by_name, change.old.inventory.analysis.by_name
    target = change.new.inventory.target
    for package in change.before.layered:
        has = there.get(package.name)
        if has is not None and has.version == package.version:
            raise change.refused(f"the new base has {package} itself, and the image would have it twice")
        if has is not None and package.name not in before:
            raise change.refused(f"the new base has {package.name} {has.version}, and the image adds {package.version}")
        if not any(tag in target.tag_rank for tag in parse_wheel_filename(package.filename)[3]):
            raise change.refused(f"{package.filename} is not for the new base, which has glibc {target.glibc}")


def _applying(lines: Sequence[tuple[str, str]], target: PythonTarget) -> list[tuple[Requirement, str]]:
    found = [(Requirement(line), source) for line, source in lines]
    return [(requirement, source) for requirement, source in found if applies(requirement, target)]
