"""Names a base image without making it: the tag and the repository that a definition's image has at this site.

A build asks for it before anything else, so this imports little.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from base_images import image_files
from base_images.runtime_wheel import build_runtime_wheel
from builder.layers.bytecode import identity
from builder.locking.resolver import PackageIndex
from registry_sync.errors import CasabinderError
from registry_sync.manifest import canonical_json, sha256_digest

if TYPE_CHECKING:
    from pathlib import Path

    from base_images.definition import Definition
    from builder.layers.cache import LayerCache
    from builder.layers.layer import Entry
    from builder.wheelhouse import Wheelhouse


@dataclass(frozen=True)
class Workshop:
    """What making a base needs from outside: the cache directory, the package index, the site's certificates."""

    cache: Path
    index: PackageIndex = field(default_factory=PackageIndex)
    certificates: tuple[Path, ...] = ()

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

    def certificate_texts(self) -> list[tuple[str, str]]:
        """Return (name, PEM text) of the site's certificates; raise :class:`CasabinderError` if one is not PEM."""
        texts = []
        for path in self.certificates:
            try:
                text = path.read_text(encoding="ascii")
            except (OSError, UnicodeDecodeError) as error:
                raise CasabinderError(f"the CA certificate {path} can't be read as PEM text") from error
            if "-----BEGIN CERTIFICATE-----" not in text:
                raise CasabinderError(f"{path} holds no PEM certificate")
            texts.append((f"site-{hashlib.sha256(text.encode()).hexdigest()[:16]}", text))
        return sorted(set(texts))


def base_identity(definition: Definition, workshop: Workshop) -> str:
    """Return the tag of the base that ``definition`` makes here and now; no network is touched."""
    runtime, _ = build_runtime_wheel(workshop.cache / "wheels")
    own = sha256_digest(canonical_json([describe(entry) for entry in image_files.own_entries()]))
    certificates = [name for name, _ in workshop.certificate_texts()]
    return definition.identity(runtime.sha256, own, identity(""), *certificates)


def base_repository(prefix: str, name: str) -> str:
    """Return the repository of a base below the facility's prefix."""
    return f"{prefix}/bases/{name}" if prefix else f"bases/{name}"


def describe(entry: Entry) -> list[object]:
    """Return all that decides a generated file, as JSON."""
    if not isinstance(entry.content, bytes):
        raise TypeError("only generated files are described by their content")
    content = hashlib.sha256(entry.content).hexdigest()
    return [entry.path, entry.kind, content, entry.mode, entry.uid, entry.gid, entry.target]
