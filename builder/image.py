"""Puts an image together: configuration and manifest over finished layers (image-spec config.md, manifest.md).

Nothing here depends on time, machine or place, so the manifest digest is a function of the layers and settings alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from registry_sync.errors import CasabinderError
from registry_sync.manifest import OCI_CONFIG, Descriptor, Manifest, canonical_json, sha256_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.layers.layer import Layer

CREATED = "1980-01-01T00:00:00Z"
"""When every image says it was made: the time is a constant, so that it does not decide the digest."""

MOST_LAYERS = 120
"""Engines stop at 127 layers; what stays free is for those who build on top of our images."""

_LONGEST_HISTORY = 200


@dataclass(frozen=True)
class ImageSettings:
    """What a container of the image starts with. ``None`` and empty values leave the parent's as they are."""

    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    working_directory: str | None = None
    user: str | None = None
    ports: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parent:
    """The image below: its layers (bottom first) and its configuration document."""

    layers: tuple[Descriptor, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Image:
    """An image that is ready to be pushed."""

    manifest: Manifest
    config: bytes

    @property
    def digest(self) -> str:
        """The manifest digest."""
        return self.manifest.digest


def make_image(
    parent: Parent,
    layers: Sequence[Layer],
    settings: ImageSettings,
    annotations: Mapping[str, str],
    architecture: str = "amd64",
) -> Image:
    """Return the image of ``layers`` on top of ``parent``. Raises :class:`CasabinderError` for too many layers."""
    if len(parent.layers) + len(layers) > MOST_LAYERS:
        raise CasabinderError(
            f"the image would have {len(parent.layers) + len(layers)} layers, and more than {MOST_LAYERS} are too many "
            "for container engines; use a base with fewer layers"
        )
    config = canonical_json(_config(parent, layers, settings, architecture))
    manifest = Manifest.image(
        Descriptor(OCI_CONFIG, sha256_digest(config), len(config)),
        [*parent.layers, *(layer.descriptor for layer in layers)],
        annotations=annotations,
    )
    return Image(manifest, config)


def _config(parent: Parent, layers: Sequence[Layer], settings: ImageSettings, architecture: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(parent.config))  # a copy that shares nothing
    run: dict[str, Any] = document.get("config") or {}
    environment = dict(entry.split("=", 1) for entry in run.get("Env") or ())
    environment.update(settings.environment)
    run["Env"] = [f"{name}={value}" for name, value in sorted(environment.items())]
    labels = {**(run.get("Labels") or {}), **settings.labels}
    if labels:
        run["Labels"] = labels
    if settings.entrypoint is not None:
        run["Entrypoint"] = list(settings.entrypoint)
    if settings.command is not None:
        run["Cmd"] = list(settings.command)
    if settings.working_directory is not None:
        run["WorkingDir"] = settings.working_directory
    if settings.user is not None:
        run["User"] = settings.user
    if settings.ports:
        run["ExposedPorts"] = {port: {} for port in settings.ports}
    diff_ids = list((document.get("rootfs") or {}).get("diff_ids") or ())
    history = list(document.get("history") or ())
    history += [{"created": CREATED, "created_by": f"casabinder: {layer.what}"[:_LONGEST_HISTORY]} for layer in layers]
    document.update(
        {
            "architecture": architecture,
            "os": "linux",
            "created": CREATED,
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": [*diff_ids, *(layer.diff_id for layer in layers)]},
            "history": history,
        }
    )
    return document
