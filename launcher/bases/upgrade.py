"""What became of a base's lock when it was made anew: gathers what the reasons are read off."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from base_images.definition import stated_requirements
from base_images.locking import locked_packages, stated_target
from builder.locking.pylock import read_pylock
from builder.locking.resolver import resolve
from builder.locking.wheel_metadata import MetadataShelf
from launcher.bases.lock_difference import HeldBack, LockChange, LockState, changes, held_back
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from base_images.definition import Definition, Pin
    from base_images.identity import Workshop
    from base_images.upgrade import Upgrade
    from builder.locking.pylock import LockedPackage
    from builder.target import PythonTarget


@dataclass(frozen=True)
class LockDifference:
    """What became of one lock: how many packages it has, what changed, what is not the newest."""

    base: str
    environment: str
    packages: int
    changes: tuple[LockChange, ...]
    held: tuple[HeldBack, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)

    def to_text(self) -> str:
        """Return it as people read it; what only the lock keeps is counted, not listed."""
        lines = [f"{self.base}, {self.environment}: {self.packages} packages, {len(self.changes)} changed"]
        rows = [(one.name, f"{one.old or '(new)'} -> {one.new or '(gone)'}", one.why) for one in self.changes]
        lines += _columns(rows)
        held = [(one.name, f"{one.version} ({one.newest})", one.why) for one in self.held if not one.free]
        lines += ["  not the newest:", *_columns(held)] if held else []
        free = sum(one.free for one in self.held)
        lines += [f"  {free} more have newer versions, which --upgrade takes where they fit"] if free else []
        return "\n".join(lines)


def compare(
    definition: Definition, environment: str, packages: list[LockedPackage], workshop: Workshop
) -> LockDifference:
    """Return how a new lock differs from the definition's, and why."""
    stated = stated_requirements(definition.directory, environment) if definition.requirements[environment] else []
    old = definition.locks[environment]
    below = _below(definition.parent, environment, workshop)
    return _compared(definition, environment, old, stated, packages, below, workshop)


def compare_additions(
    definition: Definition, old: Sequence[Pin], packages: list[LockedPackage], workshop: Workshop
) -> LockDifference:
    """Return how a new lock of what the site adds to a base differs from the ``old`` one, and why."""
    stated = [(Requirement(line), "site.yaml") for line in workshop.additions.packages]
    below = _below(definition, "analysis", workshop)
    return _compared(definition, "additions", old, stated, packages, below, workshop)


def _below(definition: Definition | None, environment: str, workshop: Workshop) -> list[LockedPackage]:
    """Return the packages of the base that something is added to."""
    if definition is None:
        return []
    file = definition.lock_file(environment)
    return locked_packages(definition.pins(environment), file, stated_target(definition), workshop)


def _compared(
    definition: Definition,
    what: str,
    old: Sequence[Pin],
    stated: list[tuple[Requirement, str]],
    packages: list[LockedPackage],
    below: list[LockedPackage],
    workshop: Workshop,
) -> LockDifference:
    target = stated_target(definition)
    shelf = MetadataShelf(workshop.cache / "metadata", workshop.wheelhouse, workshop.index.ca_bundle)
    state = LockState(shelf.describe(packages), stated, target, shelf.describe(below))
    versions = {package.name: package.version for package in packages}
    newest = newest_packages(versions, target, workshop)
    newer = [package for package in newest if package.version != versions[package.name]]
    before = {pin.name: (pin.version, pin.sha256) for pin in old}
    found, held = changes(before, state), held_back(state, shelf.describe(newer))
    return LockDifference(definition.name, what, len(packages), tuple(found), tuple(held))


def newest_packages(names: Iterable[str], target: PythonTarget, workshop: Workshop) -> list[LockedPackage]:
    """Return each package as it would be if it were alone: the newest version with a wheel for ``target``."""
    lines = "".join(f"{name}\n" for name in names)
    if not lines:
        return []
    text = resolve([("names.in", lines)], target, workshop.index, dependencies=False)
    return read_pylock(text, target, "the package index")


def check_names(upgrade: Upgrade, locks: Iterable[Iterable[Pin]]) -> None:
    """Refuse a name to upgrade that no lock has: it is most likely misspelled."""
    known = {pin.name for pins in locks for pin in pins}
    if unknown := sorted(upgrade.packages - known):
        raise CasabinderError(f"--upgrade-package {unknown[0]}: no lock of these bases has it; check the name")


def _columns(rows: list[tuple[str, str, str]]) -> list[str]:
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    return [f"  {name:<{widths[0]}}  {versions:<{widths[1]}}  {why}".rstrip() for name, versions, why in rows]
