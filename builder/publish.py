"""Brings an image into a store: every layer by the cheapest way there is, then configuration, manifest and tags.

For each layer, in this order: it is in another repository of the same store and is mounted (one POST, which also
succeeds when the layer is here already); it is in the repository (one HEAD); it is on local disk and uploaded; it is
in the base's store elsewhere and copied through. Tags are set last, so that nobody ever sees an image whose parts are
not there.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Literal

from registry_sync.copy import copy_blob
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from builder.image import Image
    from registry_sync.manifest import Descriptor
    from registry_sync.store import Store

_WORKERS = 4

Outcome = Literal["present", "mounted", "uploaded", "copied"]


@dataclass(frozen=True)
class Part:
    """One blob of an image and where it may come from.

    ``mounts`` are repositories of the target store that may have it; ``blob`` is a local file; ``origin`` is another
    store (with the repository there) to copy it from.
    """

    descriptor: Descriptor
    mounts: tuple[str, ...] = ()
    blob: Path | None = None
    origin: tuple[Store, str] | None = None


def put_part(store: Store, repository: str, part: Part, progress: Callable[[int], None] = lambda _: None) -> Outcome:
    """Make sure that ``repository`` has the part; say how. ``progress`` counts uploaded bytes."""
    digest = part.descriptor.digest
    for source in part.mounts:
        if source != repository and store.mount_blob(repository, digest, source):
            return "mounted"
    if store.head_blob(repository, digest) is not None:
        return "present"
    if part.blob is not None:
        local = part.blob
        store.put_blob(repository, part.descriptor, lambda: local.open("rb"), progress)
        return "uploaded"
    if part.origin is not None:
        origin, origin_repository = part.origin
        copy_blob(origin, origin_repository, part.descriptor, store, repository, progress)
        return "copied"
    raise CasabinderError(
        f"the layer {digest} is neither in the registry nor in the cache any more; build again with --rebuild"
    )


def put_parts(
    store: Store, repository: str, parts: Sequence[Part], progress: Callable[[int], None] = lambda _: None
) -> list[Outcome]:
    """Put all parts, several at a time, and return what became of each, in order."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        return list(pool.map(lambda part: put_part(store, repository, part, progress), parts))


def put_image(store: Store, repository: str, image: Image, tags: Sequence[str]) -> None:
    """Put configuration and manifest of an image whose layers are there, then set the tags."""
    config = image.manifest.config
    if store.head_blob(repository, config.digest) is None:
        store.put_blob(repository, config, lambda: BytesIO(image.config))
    for reference in tags or (image.digest,):
        store.put_manifest(repository, reference, image.manifest)
