"""Locks a base's requirements, and finds the wheels that a committed lock names.

What is added to a base is resolved with the pins of the base as constraints: none of them changes, and the lock has
only what the base lacks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from base_images.definition import Definition, Pin, write_lock, write_pins
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


def lock_base(definition: Definition, workshop: Workshop) -> dict[str, list[Pin]]:
    """Resolve a definition's requirements anew and write its committed locks; return them by environment."""
    target, parent = stated_target(definition), definition.parent
    locks: dict[str, list[Pin]] = {}
    for name, requirements in definition.requirements.items():
        if parent is None:
            locks[name] = _pins(_resolve(f"{name}.in", requirements, target, workshop), target, f"{name}.in")
        elif requirements:
            locks[name] = _added(requirements, parent, name, workshop, definition.directory / f"{name}.in")
        else:
            locks[name] = []
            definition.lock_file(name).unlink(missing_ok=True)
            continue
        write_lock(definition.directory, name, locks[name])
    return locks


def lock_additions(definition: Definition, workshop: Workshop) -> list[Pin]:
    """Resolve what the site adds to a base's analysis environment, and write the lock beside ``site.yaml``."""
    additions = workshop.additions
    file = additions.lock_file(definition.name)
    pins = _added(additions.packages, definition, "analysis", workshop, file)
    write_pins(file, pins, f"casabinder base lock --additions {definition.name}", "the packages in site.yaml")
    return pins


def _added(requirements: Sequence[str], below: Definition, name: str, workshop: Workshop, source: Path) -> list[Pin]:
    """Return what ``requirements`` need that ``below`` does not have; ``source`` is named in messages."""
    target, there = stated_target(below), below.pins(name)
    constraints = "".join(f"{pin.name}=={pin.version}\n" for pin in there)
    try:
        text = _resolve(source.name, requirements, target, workshop, constraints)
    except RefusedError as error:
        raise LockError(
            f"{source}: this can't be had with the versions of {below.name}, which stay as they are: {error}"
        ) from error
    names = {pin.name for pin in there}
    return [pin for pin in _pins(text, target, source.name) if pin.name not in names]


def _resolve(
    source: str, requirements: Sequence[str], target: PythonTarget, workshop: Workshop, constraints: str = ""
) -> str:
    return resolve([(source, "\n".join(requirements) + "\n")], target, workshop.index, constraints=constraints)


def _pins(text: str, target: PythonTarget, source: str) -> list[Pin]:
    return [Pin(package.name, package.version, package.sha256) for package in read_pylock(text, target, source)]


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
