"""Reads the labels of an image in the registry: its base says by them what it is made for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry_sync.store import Store


def image_labels(store: Store, repository: str, digest: str) -> dict[str, str]:
    """Return the labels of an image; two small requests."""
    manifest = store.get_manifest(repository, digest)
    config = json.loads(store.read_blob(repository, manifest.config.digest))
    labels: dict[str, str] = (config.get("config") or {}).get("Labels") or {}
    return labels
