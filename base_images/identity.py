"""Names a base image without making it: the tag and the repository that a definition's image has at this site.

A build asks for it before anything else, so this imports little.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from base_images import image_files
from base_images.addition import Addition, addition_of
from base_images.definition import short_identity
from base_images.runtime_wheel import build_runtime_wheel
from base_images.site_additions import SiteAdditions
from builder.layers.bytecode import identity as bytecode_identity
from builder.locking.resolver import PackageIndex
from registry_sync.manifest import canonical_json, sha256_digest

if TYPE_CHECKING:
    from pathlib import Path

    from base_images.definition import Definition
    from builder.layers.cache import LayerCache
    from builder.layers.layer import Entry
    from builder.wheelhouse import Wheelhouse


@dataclass(frozen=True)
class Workshop:
    """What making a base needs from outside: the cache directory, the package index, what the site adds to bases."""

    cache: Path
    index: PackageIndex = field(default_factory=PackageIndex)
    additions: SiteAdditions = field(default_factory=SiteAdditions)

    @property
    def wheelhouse(self) -> Wheelhouse:
        """The wheels on disk."""
        from builder.wheelhouse import Wheelhouse

        return Wheelhouse(self.cache / "wheels", ca_bundle=self.index.ca_bundle)

    @property
    def layers(self) -> LayerCache:
        """The layers on disk."""
        from builder.layers.cache import LayerCache

        return LayerCache(self.cache / "layers")

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """What goes into every base besides its definition: the runtime package, casabinder's own files, bytecode."""
        runtime, _ = build_runtime_wheel(self.cache / "wheels")
        own = sha256_digest(canonical_json([describe(entry) for entry in image_files.own_entries()]))
        return runtime.sha256, own, bytecode_identity("")


@dataclass(frozen=True)
class Stage:
    """One of the images that a base consists of, each built on the one below: its name, its tag, and what it adds.

    The lowest is made of a ``definition`` alone and has no ``addition``. ``final`` says that nothing of the site's
    comes on top, so that this is the image which people mean by the name.
    """

    definition: Definition
    identity: str
    addition: Addition | None = None
    final: bool = True

    @property
    def name(self) -> str:
        """The name of the image's repository."""
        return self.definition.name


def stages_of(definition: Definition, workshop: Workshop) -> tuple[Stage, ...]:
    """Return the images that the base of ``definition`` consists of, bottom first; no network is touched."""
    additions = workshop.additions
    lowest = definition.root
    found = [Stage(lowest, lowest.identity(*workshop.inputs), final=not additions)]
    for extending in definition.chain[1:]:
        identity = extending.identity(found[-1].identity)
        found.append(Stage(extending, identity, addition_of(extending), final=not additions))
    if additions:
        addition = additions.on(definition)
        found.append(Stage(definition, _identity_with(addition, found[-1].identity), addition))
    return tuple(found)


def base_identity(definition: Definition, workshop: Workshop) -> str:
    """Return the tag of the base that ``definition`` makes here and now; no network is touched."""
    return stages_of(definition, workshop)[-1].identity


def _identity_with(addition: Addition, below: str) -> str:
    return short_identity(
        {
            "below": below,
            "requirements": {name: list(lines) for name, lines in addition.requirements.items()},
            "locks": {name: [[pin.name, pin.version, pin.sha256] for pin in p] for name, p in addition.locks.items()},
            "environment": dict(addition.environment),
            "files": [describe(entry) for entry in addition.files],
            "certificates": [name for name, _ in addition.certificates],
        }
    )


def base_repository(prefix: str, name: str) -> str:
    """Return the repository of a base below the facility's prefix."""
    return f"{prefix}/bases/{name}" if prefix else f"bases/{name}"


def describe(entry: Entry) -> list[object]:
    """Return all that decides a generated file, as JSON."""
    if not isinstance(entry.content, bytes):
        raise TypeError("only generated files are described by their content")
    content = hashlib.sha256(entry.content).hexdigest()
    return [entry.path, entry.kind, content, entry.mode, entry.uid, entry.gid, entry.target]
