"""What an image of the catalogue adds to the one that it is built on: packages, files, settings.

A definition that extends another is one, and so is what a site adds to every base.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from base_images.definition import Definition, Pin
    from builder.layers.layer import Entry


@dataclass(frozen=True)
class Addition:
    """``requirements``, ``locks`` and ``lock_files`` are by environment and name only what is added.

    ``certificates`` are (name, PEM text) pairs that the image trusts; ``lock_command`` is what makes the locks anew.
    """

    name: str
    title: str
    requirements: Mapping[str, tuple[str, ...]]
    locks: Mapping[str, tuple[Pin, ...]]
    lock_files: Mapping[str, Path]
    lock_command: str
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    protected: tuple[str, ...] = ()
    files: tuple[Entry, ...] = ()
    certificates: tuple[tuple[str, str], ...] = ()


def addition_of(definition: Definition) -> Addition:
    """Return what a definition adds to the one that it extends."""
    document = definition.document
    return Addition(
        name=definition.name,
        title=document.title,
        requirements=definition.requirements,
        locks=definition.locks,
        lock_files={name: definition.lock_file(name) for name in definition.requirements},
        lock_command=f"casabinder base lock {definition.name}",
        environment=document.environment,
        labels=document.image_labels,
        protected=document.protected,
    )
