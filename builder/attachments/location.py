"""Finds an image that a user names: in the facility's registry, in another one, or in an OCI layout on disk.

``oci:DIRECTORY[:TAG]`` and ``oci:DIRECTORY@DIGEST`` are skopeo's words for a layout; here the directory is a repository
of the layouts below the facility's own root, or else of those beside it.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from registry_sync.client import RegistryClient
from registry_sync.errors import InvalidReferenceError, NotFoundError
from registry_sync.layout import LayoutStore
from registry_sync.open_store import LAYOUT_SCHEME
from registry_sync.platform import image_manifest
from registry_sync.reference import DEFAULT_TAG, ImageReference

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from builder.facility import Facility
    from registry_sync.manifest import Manifest
    from registry_sync.store import Store


@dataclass(frozen=True)
class Location:
    """Where an image is: a store, its name for people (``registry``), the repository, the image's manifest."""

    store: Store
    registry: str
    repository: str
    manifest: Manifest

    @property
    def digest(self) -> str:
        """The manifest digest."""
        return self.manifest.digest

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}@{self.digest}"


@contextmanager
def locate(image: str, facility: Facility) -> Iterator[Location]:
    """Find an image; connections to a registry that is not the facility's last as long as the context.

    Raises :class:`InvalidReferenceError` for what is no reference, :class:`NotFoundError` when there is no such image.
    """
    if image.startswith(LAYOUT_SCHEME):
        store, registry, repository, reference = _layout(image, facility)
        yield Location(store, registry, repository, _manifest(store, repository, reference, image))
        return
    parsed = ImageReference.parse(image)
    if parsed.registry == facility.registry:
        manifest = _manifest(facility.store, parsed.repository, parsed.reference, image)
        yield Location(facility.store, parsed.registry, parsed.repository, manifest)
        return
    with RegistryClient(parsed.registry, ca_bundle=facility.index.ca_bundle) as client:
        manifest = _manifest(client, parsed.repository, parsed.reference, image)
        yield Location(client, parsed.registry, parsed.repository, manifest)


def split_name(name: str, known: Sequence[str] = ()) -> tuple[str, str]:
    """Return registry and repository of a name that a record holds; ``known`` are names of stores (``oci:...``)."""
    head = name.partition("@")[0]
    for store in known:
        if head.startswith(f"{store}/"):
            return store, head.removeprefix(f"{store}/").partition(":")[0]
    registry, _, rest = head.partition("/")
    return registry, rest.partition(":")[0]


def _layout(image: str, facility: Facility) -> tuple[Store, str, str, str]:
    rest = image.removeprefix(LAYOUT_SCHEME)
    path, at, digest = rest.partition("@")
    tag = ""
    if not at:
        path, colon, last = rest.rpartition(":")
        path, tag = (path, last) if colon and "/" not in last else (rest, "")
    directory = Path(path).expanduser().absolute()
    if not (directory / "index.json").is_file():
        raise InvalidReferenceError(f"{image}: {directory} is no image layout; give oci:DIRECTORY:TAG of one image")
    reference = digest or tag or DEFAULT_TAG
    if isinstance(facility.store, LayoutStore):
        root = facility.store.root.absolute()
        if root in directory.parents:
            return facility.store, facility.registry, directory.relative_to(root).as_posix(), reference
    return LayoutStore(directory.parent), f"{LAYOUT_SCHEME}{directory.parent}", directory.name, reference


def _manifest(store: Store, repository: str, reference: str, image: str) -> Manifest:
    try:
        return image_manifest(store, repository, reference)
    except NotFoundError as error:
        raise NotFoundError(f"there is no image {image}") from error
