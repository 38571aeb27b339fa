"""Reads what a base has to know of an image that it starts from: its configuration, and three of its files."""

from __future__ import annotations

import json
import tarfile
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry_sync.client import RegistryClient
from registry_sync.errors import CasabinderError
from registry_sync.platform import image_manifest
from registry_sync.reference import ImageReference

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from registry_sync.manifest import Manifest
    from registry_sync.store import Store

_FILES = ("etc/passwd", "etc/group", "etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class Start:
    """An image to start from: where it is, its manifest and configuration, and the text of some files in it."""

    store: Store
    repository: str
    manifest: Manifest
    config: Mapping[str, Any]
    texts: Mapping[str, str]


def read_start(text: str, ca_bundle: Path | None) -> Start:
    """Read the image that ``text`` refers to; all its layers are read once to find its users and certificates."""
    reference = ImageReference.parse(text)
    store = RegistryClient(reference.registry, ca_bundle=ca_bundle)
    manifest = image_manifest(store, reference.repository, reference.reference)
    config = json.loads(store.read_blob(reference.repository, manifest.config.digest))
    texts = dict.fromkeys(_FILES, "")
    for layer in manifest.layers:
        texts.update(_find(store, reference.repository, layer.digest))
    return Start(store, reference.repository, manifest, config, texts)


def _find(store: Store, repository: str, digest: str) -> dict[str, str]:
    found = {}
    with tempfile.TemporaryFile() as file:
        with store.open_blob(repository, digest) as chunks:
            for chunk in chunks:
                file.write(chunk)
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:*") as tar:
                for member in tar:
                    name = member.name.removeprefix("./")
                    content = tar.extractfile(member) if name in _FILES and member.isfile() else None
                    if content is not None:
                        found[name] = content.read().decode("utf-8", "replace")
        except tarfile.TarError as error:
            raise CasabinderError(f"the layer {digest} of {repository} is not a tar that can be read here") from error
    return found
