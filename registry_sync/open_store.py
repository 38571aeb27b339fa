"""Opens the store that a location names: a registry or a directory of OCI layouts."""

from __future__ import annotations

from pathlib import Path

from registry_sync.client import RegistryClient
from registry_sync.errors import InvalidReferenceError
from registry_sync.layout import LayoutStore
from registry_sync.reference import validate_registry, validate_repository

LAYOUT_SCHEME = "oci:"


def open_store(
    location: str, *, ca_bundle: Path | None = None, insecure: bool | None = None
) -> tuple[RegistryClient | LayoutStore, str]:
    """Return the store for ``location`` and the prefix of its repositories' names ("" for none).

    ``HOST[:PORT]/PREFIX`` or ``HOST[:PORT]`` is a registry; ``oci:DIRECTORY[:PREFIX]`` is a directory of
    OCI layouts. ``ca_bundle`` and ``insecure`` are for registries. Close the store when done, or use it as a context
    manager. Raises :class:`InvalidReferenceError` saying which part is wrong.

        >>> open_store("oci:/srv/images:team")[1]
        'team'
    """
    if location.startswith(LAYOUT_SCHEME):
        directory, _, prefix = location.removeprefix(LAYOUT_SCHEME).partition(":")
        if not directory:
            raise InvalidReferenceError(f"{location!r} names no directory: give oci:DIRECTORY or oci:DIRECTORY:PREFIX")
        return LayoutStore(Path(directory)), _checked(location, prefix)
    if "://" in location:
        raise InvalidReferenceError(f"{location!r} is a URL: give HOST[:PORT]/PREFIX, without the part up to '//'")
    registry, _, prefix = location.partition("/")
    try:
        validate_registry(registry)
    except InvalidReferenceError as error:
        raise InvalidReferenceError(
            f"{location!r} is no store: give HOST[:PORT]/PREFIX for a registry or oci:DIRECTORY for image layouts"
        ) from error
    prefix = _checked(location, prefix)
    return RegistryClient(registry, ca_bundle=ca_bundle, insecure=insecure), prefix


def _checked(location: str, prefix: str) -> str:
    prefix = prefix.strip("/")
    if prefix:
        try:
            validate_repository(prefix)
        except InvalidReferenceError as error:
            raise InvalidReferenceError(f"the prefix in {location!r} cannot be used: {error}") from error
    return prefix
