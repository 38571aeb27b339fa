"""Manifests and descriptors of the OCI image specification as immutable values.

A :class:`Manifest` keeps the exact bytes it was read from (a digest is over bytes, never over a re-serialised
document); everything else is a view of them. Image manifests, artifact manifests and indexes are all one class,
since a registry treats them alike. Source: https://github.com/opencontainers/image-spec (manifest.md, descriptor.md).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from registry_sync.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_INDEX)
INDEX_TYPES = (OCI_INDEX, DOCKER_INDEX)

EMPTY_JSON = b"{}"


def canonical_json(value: object) -> bytes:
    """Return ``value`` as JSON bytes that depend on nothing but the value: sorted keys, no spaces, ASCII only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def sha256_digest(data: bytes) -> str:
    """Return the OCI digest (``sha256:<64 hex>``) of ``data``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Descriptor:
    """Points at content: its media type, digest and size in bytes (descriptor.md of the image specification)."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str | None = None
    platform: Mapping[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the descriptor as the JSON object that manifests hold; empty fields are left out."""
        document: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.artifact_type:
            document["artifactType"] = self.artifact_type
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        if self.platform:
            document["platform"] = dict(self.platform)
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Descriptor:
        """Read a descriptor from a manifest's JSON object; raise :class:`RegistryError` if it is not one."""
        try:
            return cls(
                media_type=str(document["mediaType"]),
                digest=str(document["digest"]),
                size=int(document["size"]),
                annotations=dict(document.get("annotations") or {}),
                artifact_type=document.get("artifactType"),
                platform=document.get("platform"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RegistryError(f"a manifest holds a descriptor without a usable {error}") from error


@dataclass(frozen=True)
class Manifest:
    """An image manifest, artifact manifest or index: the bytes and views of them."""

    raw: bytes
    media_type: str

    @classmethod
    def parse(cls, raw: bytes, media_type: str | None = None) -> Manifest:
        """Read manifest bytes; ``media_type`` (a Content-Type) wins over the document's own ``mediaType``."""
        try:
            document = json.loads(raw)
        except ValueError as error:
            raise RegistryError("the registry sent a manifest that is not JSON") from error
        if not isinstance(document, dict):
            raise RegistryError("the registry sent a manifest that is not a JSON object")
        stated = document.get("mediaType")
        if media_type not in MANIFEST_TYPES:
            media_type = stated if isinstance(stated, str) else (OCI_INDEX if "manifests" in document else OCI_MANIFEST)
        return cls(raw=raw, media_type=media_type)

    @classmethod
    def image(
        cls,
        config: Descriptor,
        layers: Iterable[Descriptor],
        *,
        annotations: Mapping[str, str] | None = None,
        subject: Descriptor | None = None,
        artifact_type: str | None = None,
    ) -> Manifest:
        """Make an OCI image manifest (or an artifact, with ``artifact_type``) in canonical JSON."""
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config.to_json(),
            "layers": [layer.to_json() for layer in layers],
        }
        if artifact_type:
            document["artifactType"] = artifact_type
        if annotations:
            document["annotations"] = dict(annotations)
        if subject:
            document["subject"] = subject.to_json()
        return cls(raw=canonical_json(document), media_type=OCI_MANIFEST)

    @classmethod
    def index(cls, manifests: Iterable[Descriptor], *, annotations: Mapping[str, str] | None = None) -> Manifest:
        """Make an OCI index in canonical JSON."""
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [manifest.to_json() for manifest in manifests],
        }
        if annotations:
            document["annotations"] = dict(annotations)
        return cls(raw=canonical_json(document), media_type=OCI_INDEX)

    @cached_property
    def document(self) -> dict[str, Any]:
        """The parsed JSON object. Read it, do not change it."""
        parsed: dict[str, Any] = json.loads(self.raw)
        return parsed

    @cached_property
    def digest(self) -> str:
        """The digest of the exact bytes."""
        return sha256_digest(self.raw)

    @property
    def is_index(self) -> bool:
        """Whether this lists manifests (one per platform, say) instead of layers."""
        return self.media_type in INDEX_TYPES

    @cached_property
    def config(self) -> Descriptor:
        """The image configuration's descriptor."""
        return Descriptor.from_json(self.document.get("config") or {})

    @cached_property
    def layers(self) -> tuple[Descriptor, ...]:
        """The layers' descriptors, bottom first."""
        return tuple(Descriptor.from_json(layer) for layer in self.document.get("layers") or ())

    @cached_property
    def manifests(self) -> tuple[Descriptor, ...]:
        """An index's manifests; empty for an image."""
        return tuple(Descriptor.from_json(entry) for entry in self.document.get("manifests") or ())

    @cached_property
    def subject(self) -> Descriptor | None:
        """The manifest that this one is attached to (a referrer's subject), if any."""
        subject = self.document.get("subject")
        return Descriptor.from_json(subject) if subject else None

    @property
    def annotations(self) -> Mapping[str, str]:
        """The manifest's own annotations."""
        return self.document.get("annotations") or {}

    @property
    def artifact_type(self) -> str | None:
        """The artifact type: stated, or the configuration's media type (manifest.md, "artifactType")."""
        stated = self.document.get("artifactType")
        if stated:
            return str(stated)
        return None if self.is_index else self.config.media_type

    def descriptor(self) -> Descriptor:
        """Return the descriptor that points at this manifest."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.raw))
