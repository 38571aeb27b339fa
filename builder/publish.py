"""Brings an image into a store: every layer by the cheapest way there is, then configuration, manifest and tags.

For each layer, in this order: it is known to be in the repository (no request); it is in another repository of the same
store and is mounted (one POST, which also succeeds when the layer is here already); it is in the repository (one
HEAD); it is on local disk and uploaded; it is in the base's store elsewhere and copied through. Tags are set last, so
that nobody ever sees an image whose parts are not there.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Literal

from registry_sync.copy import copy_blob
from registry_sync.errors import CasabinderError, NotFoundError
from registry_sync.faults import RegistryFaultError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from builder.image import Image
    from registry_sync.manifest import Descriptor
    from registry_sync.store import Store

_WORKERS = 8
_UNKNOWN_BLOB = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"})

Outcome = Literal["present", "mounted", "uploaded", "copied"]


class LostBlobError(CasabinderError):
    """A blob is not where it was thought to be: what was remembered of the registry is wrong."""


@dataclass(frozen=True)
class Part:
    """One blob of an image and where it may come from.

    ``mounts`` are repositories of the target store that may have it; ``blob`` is a local file, or the bytes; ``origin``
    is another store (with the repository there) to copy it from. ``new`` says that the target can't have it yet.
    """

    descriptor: Descriptor
    mounts: tuple[str, ...] = ()
    blob: Path | bytes | None = None
    origin: tuple[Store, str] | None = None
    new: bool = False


def put_part(store: Store, repository: str, part: Part, progress: Callable[[int], None] = lambda _: None) -> Outcome:
    """Make sure that ``repository`` has the part; say how. ``progress`` counts uploaded bytes."""
    digest = part.descriptor.digest
    for source in part.mounts:
        if source != repository and store.mount_blob(repository, digest, source):
            return "mounted"
    if not part.new and store.head_blob(repository, digest) is not None:
        return "present"
    if part.blob is not None:
        local = part.blob

        def opened() -> BinaryIO:
            return BytesIO(local) if isinstance(local, bytes) else local.open("rb")

        store.put_blob(repository, part.descriptor, opened, progress)
        return "uploaded"
    if part.origin is not None:
        origin, origin_repository = part.origin
        try:
            copy_blob(origin, origin_repository, part.descriptor, store, repository, progress)
        except NotFoundError as error:
            raise LostBlobError(f"{error}; build again with --rebuild") from error
        return "copied"
    raise LostBlobError(
        f"the layer {digest} is neither in the registry nor in the cache any more; build again with --rebuild"
    )


def put_parts(
    store: Store,
    repository: str,
    parts: Sequence[Part],
    progress: Callable[[int], None] = lambda _: None,
    *,
    known: Collection[str] = (),
) -> list[Outcome]:
    """Put all parts but those of the ``known`` digests, several at a time; return what became of each, in order."""

    def put(part: Part) -> Outcome:
        if part.descriptor.digest in known:
            return "present"
        return put_part(store, repository, part, progress)

    with ThreadPoolExecutor(_WORKERS) as pool:
        return list(pool.map(put, parts))


def put_image(store: Store, repository: str, image: Image, tags: Sequence[str]) -> None:
    """Put configuration and manifest of an image whose layers are there, then set the tags."""
    config = image.manifest.config
    if store.head_blob(repository, config.digest) is None:
        store.put_blob(repository, config, lambda: BytesIO(image.config))
    put_tags(store, repository, image, tags or (image.digest,))


def put_tags(store: Store, repository: str, image: Image, references: Sequence[str]) -> None:
    """Put the manifest of an image whose blobs are there; raise :class:`LostBlobError` if they are not."""
    try:
        for reference in references:
            store.put_manifest(repository, reference, image.manifest)
    except RegistryFaultError as fault:
        if _UNKNOWN_BLOB & set(fault.codes):
            raise LostBlobError(f"{fault}; build again with --rebuild") from fault
        raise
