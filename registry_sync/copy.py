"""Copies an image with what is attached to it from one store to another; the tag moves last."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from registry_sync.manifest import Descriptor, Manifest
    from registry_sync.store import Store


def copy_image(
    source: Store,
    source_repository: str,
    reference: str,
    target: Store,
    target_repository: str,
    tags: Iterable[str],
    progress: Callable[[int], None] = lambda _: None,
) -> Manifest:
    """Copy an image (or index, with its images) and its referrers, then set ``tags``; return its manifest.

    Blobs that the target has are not moved. ``progress`` counts the bytes that were. Raises what the stores raise.
    """
    manifest = source.get_manifest(source_repository, reference)
    for child in manifest.manifests:
        copy_image(source, source_repository, child.digest, target, target_repository, (), progress)
    if not manifest.is_index:
        for blob in (*manifest.layers, manifest.config):
            copy_blob(source, source_repository, blob, target, target_repository, progress)
    target.put_manifest(target_repository, manifest.digest, manifest)
    for referrer in source.referrers(source_repository, manifest.digest):
        copy_image(source, source_repository, referrer.digest, target, target_repository, (), progress)
    for tag in tags:
        target.put_manifest(target_repository, tag, manifest)
    return manifest


def copy_blob(
    source: Store,
    source_repository: str,
    blob: Descriptor,
    target: Store,
    target_repository: str,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Copy a blob unless the target has it, through a temporary file: an interrupted upload reads it again."""
    if target.head_blob(target_repository, blob.digest) is not None:
        return
    with tempfile.NamedTemporaryFile(prefix="casabinder-blob-") as file:
        with source.open_blob(source_repository, blob.digest) as chunks:
            for chunk in chunks:
                file.write(chunk)
        file.flush()
        path = Path(file.name)
        target.put_blob(target_repository, blob, lambda: path.open("rb"), progress)
