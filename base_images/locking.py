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
    locks = {}
    for name, requirements in definition.requirements.items():
        if definition.parent is not None and not requirements:
            definition.lock_file(name).unlink(missing_ok=True)
            locks[name] = list[Pin]()
            continue
        below = definition.parent.pins(name) if definition.parent else ()
        source = definition.directory / f"{name}.in"
        locks[name] = _resolved(requirements, below, definition, workshop, source)
        write_lock(definition.directory, name, locks[name])
    return locks


def lock_additions(definition: Definition, workshop: Workshop) -> list[Pin]:
    """Resolve what the site adds to a base's analysis environment, and write the lock beside ``site.yaml``."""
    additions = workshop.additions
    file = additions.lock_file(definition.name)
    pins = _resolved(additions.packages, definition.pins("analysis"), definition, workshop, file)
    write_pins(file, pins, f"casabinder base lock --additions {definition.name}", "the packages in site.yaml")
    return pins


def _resolved(
    requirements: Sequence[str], below: Sequence[Pin], definition: Definition, workshop: Workshop, source: Path
) -> list[Pin]:
    """Return what ``requirements`` need beside the pins ``below``; ``source`` is named in messages."""
    target = stated_target(definition)
    constraints = "".join(f"{pin.name}=={pin.version}\n" for pin in below)
    files = [(source.name, "\n".join(requirements) + "\n")]
    try:
        text = resolve(files, target, workshop.index, constraints=constraints)
    except RefusedError as error:
        if not below:
            raise
        raise LockError(
            f"{source}: this can't be had with the versions of {(definition.parent or definition).name}, which stay as "
            f"they are: {error}"
        ) from error
    there = {pin.name for pin in below}
    return [Pin(p.name, p.version, p.sha256) for p in read_pylock(text, target, source.name) if p.name not in there]


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
