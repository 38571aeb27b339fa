"""Locks a base's requirements, and finds the wheels that a committed lock names.

What is added to a base is resolved with the pins of the base as constraints: none of them changes, and the lock has
only what the base lacks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from base_images.definition import Definition, Pin, read_lock, write_lock, write_pins
from base_images.upgrade import KEEP, Upgrade, preferences, same_wheels
from builder.locking.pylock import LockedPackage, LockError, read_pylock
from builder.locking.resolver import RefusedError, resolve
from builder.target import PythonTarget
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from base_images.identity import Workshop

DEBIAN = {"bookworm": ("3.11.2", "2.36"), "trixie": ("3.13.5", "2.41")}
"""What a Debian release has at least: the full version of its Python, and its C library's."""


def lock_base(
    definition: Definition, workshop: Workshop, upgrade: Upgrade = KEEP, *, write: bool = True
) -> dict[str, list[LockedPackage]]:
    """Resolve a definition's requirements and write its committed locks; return them by environment.

    Pins that the requirements still allow stay as they are, but for those that ``upgrade`` gives up. The locks are
    written when all are resolved, or not at all.
    """
    locks: dict[str, list[LockedPackage]] = {}
    for name, requirements in definition.requirements.items():
        kept = upgrade.kept(definition.locks[name])
        if definition.parent is None:
            locks[name] = _resolve(f"{name}.in", requirements, stated_target(definition), workshop, kept)
        else:
            source = definition.directory / f"{name}.in"
            locks[name] = _added(requirements, definition.parent, name, workshop, source, kept)
    for name, packages in locks.items() if write else ():
        if packages or definition.parent is None:
            write_lock(definition.directory, name, _pins(packages))
        else:
            definition.lock_file(name).unlink(missing_ok=True)
    return locks


def lock_additions(
    definition: Definition, workshop: Workshop, upgrade: Upgrade = KEEP, *, write: bool = True
) -> list[LockedPackage]:
    """Resolve what the site adds to a base's analysis environment, and write the lock beside ``site.yaml``."""
    additions = workshop.additions
    file = additions.lock_file(definition.name)
    packages = _added(additions.packages, definition, "analysis", workshop, file, upgrade.kept(read_lock(file)))
    if write:
        command = f"casabinder base lock --additions {definition.name}"
        write_pins(file, _pins(packages), command, "the packages in site.yaml")
    return packages


def _added(
    requirements: Sequence[str],
    below: Definition,
    name: str,
    workshop: Workshop,
    source: Path,
    kept: Sequence[Pin],
) -> list[LockedPackage]:
    """Return what ``requirements`` need that ``below`` does not have; ``source`` is named in messages."""
    if not requirements:
        return []
    there = below.pins(name)
    constraints = "".join(f"{pin.name}=={pin.version}\n" for pin in there)
    try:
        packages = _resolve(source.name, requirements, stated_target(below), workshop, kept, constraints)
    except RefusedError as error:
        raise LockError(
            f"{source}: this can't be had with the versions of {below.name}, which stay as they are: {error}"
        ) from error
    names = {pin.name for pin in there}
    return [package for package in packages if package.name not in names]


def _resolve(
    source: str,
    requirements: Sequence[str],
    target: PythonTarget,
    workshop: Workshop,
    kept: Sequence[Pin],
    constraints: str = "",
) -> list[LockedPackage]:
    lines = "\n".join(requirements) + "\n"
    text = resolve([(source, lines)], target, workshop.index, constraints=constraints, preferences=preferences(kept))
    return read_pylock(text, target, source, same_wheels(text, kept, source))


def _pins(packages: Sequence[LockedPackage]) -> list[Pin]:
    return [Pin(package.name, package.version, package.sha256) for package in packages]


def locked_packages(pins: Sequence[Pin], file: Path, target: PythonTarget, workshop: Workshop) -> list[LockedPackage]:
    """Find where the wheels of a committed lock are today, and insist on the very ones it names."""
    if not pins:
        return []
    lines = "".join(f"{pin.name}=={pin.version}\n" for pin in pins)
    text = resolve([(file.name, lines)], target, workshop.index, dependencies=False)
    packages = read_pylock(text, target, file.name, {pin.name: pin.sha256 for pin in pins})
    if len(packages) != len(pins):
        raise LockError(f"{file} names {len(pins)} packages, and the index gave {len(packages)}")
    return packages


def stated_target(definition: Definition) -> PythonTarget:
    """Return the target as far as the definition tells; for a Debian suite, what that release has at least."""
    root = definition.root.document
    if root.start is not None:
        return PythonTarget(definition.python, root.start.python_full, root.start.glibc, root.machine)
    suite = root.rootfs.suite if root.rootfs is not None else ""
    if suite not in DEBIAN:
        file = definition.root.directory / "base.yaml"
        raise CasabinderError(f"{file}: the Debian suite {suite!r} is not known here")
    return PythonTarget(definition.python, *DEBIAN[suite], root.machine)
