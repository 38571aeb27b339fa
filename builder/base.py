"""A base image as the builder sees it: data in the registry, whoever made it and with whatever tool.

The contract is the *inventory*, an artifact attached to the base's manifest (an OCI referrer of type
:data:`INVENTORY_TYPE`) with two JSON layers: ``inventory`` (platform facts, top-level requirements, and per package its
name, version, wheel and metadata) and ``files`` (per package the paths it owns), which is read only when a package of
the base is replaced.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from builder.attachments.attach import TITLE, Artifact, Blob, attach
from builder.cuda import CUDA
from builder.layers.bytecode import Interpreter
from builder.layers.wheel import InstallTarget
from builder.locking.pylock import LockedPackage
from builder.target import PythonTarget
from registry_sync.errors import CasabinderError, NotFoundError
from registry_sync.files import write_atomically
from registry_sync.manifest import Manifest, canonical_json, sha256_digest
from registry_sync.platform import image_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from registry_sync.manifest import Descriptor
    from registry_sync.store import Store

INVENTORY_TYPE = "application/vnd.casabinder.base.inventory.v1+json"
FILES_TYPE = "application/vnd.casabinder.base.files.v1+json+gzip"
INTERPRETER_TYPE = "application/vnd.casabinder.base.interpreter.v1.tar+gzip"
CERTIFICATES_TYPE = "application/vnd.casabinder.base.certificates.v1.pem+gzip"
PYLOCK_TYPE = "application/vnd.casabinder.pylock.v1+toml"

_GENERATION = "org.casabinder.generation"


@dataclass(frozen=True)
class InstalledPackage:
    """A package in an environment of the base; ``requires`` are its Requires-Dist lines as they stand in METADATA."""

    name: str
    version: str
    filename: str
    sha256: str
    requires: tuple[str, ...] = ()
    requires_python: str = ""
    url: str = ""
    size: int = 0

    @property
    def locked(self) -> LockedPackage:
        """The package as a lock names it."""
        return LockedPackage(self.name, self.version, self.filename, self.sha256, self.url, self.size)


@dataclass(frozen=True)
class InstalledEnvironment:
    """One environment of the base: where it is, what was asked for (``requirements``), what is there (``packages``)."""

    prefix: str
    requirements: tuple[str, ...]
    packages: tuple[InstalledPackage, ...]

    @cached_property
    def by_name(self) -> Mapping[str, InstalledPackage]:
        """The packages by canonical name."""
        return {package.name: package for package in self.packages}


@dataclass(frozen=True)
class Inventory:
    """What a base states of itself; ``bytecode`` is the identity of the interpreter it carries, "" without one."""

    name: str
    target: PythonTarget
    analysis: InstalledEnvironment
    server: InstalledEnvironment
    protected: tuple[str, ...] = ()
    system_packages: tuple[str, ...] = ()
    bytecode: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the inventory as the JSON object that is stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Inventory:
        """Read an inventory; raise :class:`CasabinderError` when it is not one."""
        try:
            return cls(
                name=document["name"],
                target=PythonTarget(**document["target"]),
                analysis=_environment(document["analysis"]),
                server=_environment(document["server"]),
                protected=tuple(document["protected"]),
                system_packages=tuple(document["system_packages"]),
                bytecode=document.get("bytecode", ""),
            )
        except (KeyError, TypeError) as error:
            raise CasabinderError(
                f"the base image's inventory has no usable {error}; build the base again with this version"
            ) from error


def _environment(document: Mapping[str, Any]) -> InstalledEnvironment:
    packages = tuple(
        InstalledPackage(**{**package, "requires": tuple(package["requires"])}) for package in document["packages"]
    )
    return InstalledEnvironment(document["prefix"], tuple(document["requirements"]), packages)


@dataclass(frozen=True)
class Base:
    """A base image: where it is, its manifest and configuration, and its inventory."""

    store: Store
    registry: str
    repository: str
    reference: str
    manifest: Manifest
    config: Mapping[str, Any]
    inventory: Inventory
    _artifact: Manifest

    @property
    def digest(self) -> str:
        """The manifest digest: the base's identity."""
        return self.manifest.digest

    @property
    def cuda(self) -> str:
        """The version of CUDA that its packages were built for; empty without."""
        return str((self.config.get("config", {}).get("Labels") or {}).get(CUDA, ""))

    @property
    def install_target(self) -> InstallTarget:
        """Where wheels of the user go."""
        inventory = self.inventory
        return InstallTarget(inventory.analysis.prefix, inventory.target.python, inventory.bytecode)

    def interpreter(self, cache: Path) -> Interpreter:
        """Return the interpreter that makes the bytecode of layers on this base, unpacked below ``cache``.

        It is read from the registry (a few MB) once; raises :class:`CasabinderError` if the base carries none.
        """
        directory, python = cache / "interpreters" / self.inventory.bytecode, self.inventory.target.python
        if self.inventory.bytecode and directory.exists():
            return Interpreter(directory, python)
        archive = self._attached(INTERPRETER_TYPE)
        if archive is None:
            raise CasabinderError(f"{self.registry}/{self.repository} carries no interpreter; build the base again")
        return Interpreter.unpack(archive, python, directory)

    @cached_property
    def files(self) -> Mapping[str, tuple[str, ...]]:
        """The paths (relative to the image's root) that each package of the analysis environment owns."""
        raw = self._attached(FILES_TYPE)
        if raw is None:
            raise CasabinderError(f"{self.registry}/{self.repository} has no list of files; build the base again")
        return {name: tuple(paths) for name, paths in json.loads(gzip.decompress(raw)).items()}

    @property
    def interpreter_archive(self) -> bytes:
        """The archive that :meth:`interpreter` unpacks, as a tar; empty if there is none."""
        archive = self._attached(INTERPRETER_TYPE)
        return gzip.decompress(archive) if archive else b""

    @property
    def certificates(self) -> str:
        """The PEM text of all certificate authorities that the image trusts."""
        raw = self._attached(CERTIFICATES_TYPE)
        if raw is None:
            raise CasabinderError(f"{self.registry}/{self.repository} doesn't say whom it trusts; build the base again")
        return gzip.decompress(raw).decode("utf-8")

    def _attached(self, media_type: str) -> bytes | None:
        found = next((layer for layer in self._artifact.layers if layer.media_type == media_type), None)
        return None if found is None else self.store.read_blob(self.repository, found.digest)


def load_base(store: Store, registry: str, repository: str, reference: str, cache: Path) -> Base:
    """Read a base from ``store``; three small requests the first time, one (the manifest) when it was read before.

    Raises :class:`NotFoundError` when there is no such image, :class:`CasabinderError` when it is no base.
    """
    manifest = image_manifest(store, repository, reference)
    # The same image may get a newer inventory; whoever makes one gives the base another tag.
    name = sha256_digest(canonical_json([manifest.digest, reference])).removeprefix("sha256:")
    cached = cache / "bases" / f"{name}.json"
    try:
        document = json.loads(cached.read_bytes())
        artifact = Manifest(document["artifact"].encode(), manifest.media_type)
    except (OSError, ValueError, KeyError):
        found = store.referrers(repository, manifest.digest, INVENTORY_TYPE)
        if not found:
            raise CasabinderError(
                f"{registry}/{repository} at {reference} carries no inventory, so it can't serve as a base; "
                "make one with `casabinder base build`"
            ) from None
        newest = max(found, key=_generation)
        artifact = store.get_manifest(repository, newest.digest)
        inventory = next((layer for layer in artifact.layers if layer.media_type == INVENTORY_TYPE), None)
        if inventory is None:
            raise NotFoundError(f"the inventory of {registry}/{repository} at {reference} is empty") from None
        document = {
            "artifact": artifact.raw.decode(),
            "config": json.loads(store.read_blob(repository, manifest.config.digest)),
            "inventory": json.loads(store.read_blob(repository, inventory.digest)),
        }
        write_atomically(cached, canonical_json(document))
    return Base(
        store=store,
        registry=registry,
        repository=repository,
        reference=reference,
        manifest=manifest,
        config=document["config"],
        inventory=Inventory.from_json(document["inventory"]),
        _artifact=artifact,
    )


def attach_inventory(
    store: Store,
    repository: str,
    subject: Manifest,
    inventory: Inventory,
    files: Mapping[str, tuple[str, ...]],
    pylocks: Mapping[str, str],
    interpreter: bytes = b"",
    certificates: str = "",
    generation: int = 0,
) -> Manifest:
    """Attach an inventory to a base that was just pushed and return the artifact's manifest.

    ``files`` are the paths per package of the analysis environment; ``pylocks`` the full locks by environment;
    ``interpreter`` the archive of the interpreter that makes bytecode, if there is one; ``certificates`` the PEM text
    of whom the image trusts. Of several inventories of one image, that of the highest ``generation`` counts.
    """
    blobs = (
        Blob(INVENTORY_TYPE, canonical_json(inventory.to_json())),
        Blob(FILES_TYPE, _gzip(canonical_json({name: list(paths) for name, paths in files.items()}))),
        *(Blob(PYLOCK_TYPE, text.encode(), {TITLE: f"pylock.{name}.toml"}) for name, text in pylocks.items()),
        *((Blob(INTERPRETER_TYPE, _gzip(interpreter)),) if interpreter else ()),
        Blob(CERTIFICATES_TYPE, _gzip(certificates.encode())),
    )
    (artifact,) = attach(
        store, repository, subject.descriptor(), [Artifact(INVENTORY_TYPE, blobs, {_GENERATION: str(generation)})]
    )
    return artifact


def _generation(artifact: Descriptor) -> int:
    stated = artifact.annotations.get(_GENERATION, "")
    return int(stated) if stated.isdecimal() else 0


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, 6, mtime=0)
