"""Reads what a base has to know of an image that it starts from: its configuration, and three of its files."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry_sync.client import RegistryClient
from registry_sync.errors import CasabinderError
from registry_sync.layer_stream import DAMAGED, OPAQUE, WHITEOUT, as_file, plain_tar
from registry_sync.platform import image_manifest
from registry_sync.reference import ImageReference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from registry_sync.manifest import Descriptor, Manifest
    from registry_sync.store import Store

_LARGEST = 2**24  # bytes of one of the files
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
    texts = read_texts(store, reference.repository, manifest.layers)
    return Start(store, reference.repository, manifest, config, texts)


def read_texts(store: Store, repository: str, layers: Sequence[Descriptor]) -> dict[str, str]:
    """Return the text of each of the three files as the layers leave it, in UTF-8; an empty one if it is not there."""
    texts = dict.fromkeys(_FILES, "")
    for layer in layers:
        with store.open_blob(repository, layer.digest) as chunks:
            plain = plain_tar(layer.media_type, as_file(chunks))
            try:
                with tarfile.open(fileobj=plain, mode="r|") as tar:
                    texts |= _changes(tar)
            except DAMAGED as error:
                raise CasabinderError(f"the layer {layer.digest} of {repository} can't be read: {error}") from error
    return texts


def _changes(tar: tarfile.TarFile) -> dict[str, str]:
    """Return what a layer makes of the files: what it adds counts, also where it takes the directory's others away."""
    added, removed = {}, set()
    for member in tar:
        directory, _, name = member.name.removeprefix("./").rpartition("/")
        path = f"{directory}/{name}"
        if name == OPAQUE:
            removed |= {file for file in _FILES if file.startswith(f"{directory}/")}
        elif name.startswith(WHITEOUT):
            gone = f"{directory}/{name.removeprefix(WHITEOUT)}"
            removed |= {file for file in _FILES if f"{file}/".startswith(f"{gone}/")}
        elif path in _FILES:
            content = tar.extractfile(member) if member.isfile() else None
            added[path] = content.read(_LARGEST).decode("utf-8", "replace") if content is not None else ""
    return dict.fromkeys(removed, "") | added
