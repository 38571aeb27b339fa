"""Chooses the image for one platform where a reference names an index of several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from registry_sync.manifest import Manifest
    from registry_sync.store import Store


def image_manifest(store: Store, repository: str, reference: str, architecture: str = "amd64") -> Manifest:
    """Return the image manifest that ``reference`` names, for linux on ``architecture`` if it is an index.

    Raises :class:`CasabinderError` for an index without the platform; what the store raises for the rest.
    """
    manifest = store.get_manifest(repository, reference)
    if not manifest.is_index:
        return manifest
    for entry in manifest.manifests:
        platform = entry.platform or {}
        if (platform.get("os"), platform.get("architecture")) == ("linux", architecture):
            return store.get_manifest(repository, entry.digest)
    raise CasabinderError(f"{repository} at {reference} has no image for linux/{architecture}")
