"""The one interface to where images live: a registry (``client.py``) or an OCI layout on disk (``layout.py``).

Code that copies, builds or verifies images is written against :class:`Store`, so that it works the same with either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from registry_sync.manifest import Descriptor, Manifest


class Store(Protocol):
    """Manifests and blobs by repository. ``reference`` is a tag or a digest; sizes are bytes.

    Every method raises :class:`~registry_sync.errors.RegistryError` on a fault (after retries where the fault can
    pass); :class:`~registry_sync.errors.NotFoundError`, or ``None`` where the return type says so, means a clear "no".
    """

    def close(self) -> None:
        """Give connections back; the store is not used afterwards."""

    def head_manifest(self, repository: str, reference: str) -> Descriptor | None:
        """Return what ``reference`` points at, or ``None`` if there is no such manifest."""

    def get_manifest(self, repository: str, reference: str) -> Manifest:
        """Return the manifest; its digest is checked when ``reference`` is one."""

    def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> None:
        """Store the manifest under a tag or its digest; a manifest with a subject becomes its referrer."""

    def put_referrers(self, repository: str, manifests: Sequence[tuple[str, Manifest]]) -> None:
        """Store several manifests, each under its tag or digest, as :meth:`put_manifest` does, with fewer requests."""

    def delete_manifest(self, repository: str, reference: str) -> None:
        """Delete a tag or a manifest."""

    def head_blob(self, repository: str, digest: str) -> int | None:
        """Return the blob's size, or ``None`` if this repository does not have it."""

    def open_blob(self, repository: str, digest: str) -> AbstractContextManager[Iterator[bytes]]:
        """Stream the blob; the last chunk is followed by a check of its digest."""

    def read_blob(self, repository: str, digest: str, limit: int = 64 * 2**20) -> bytes:
        """Return a small blob whole; more than ``limit`` bytes are refused."""

    def put_blob(
        self,
        repository: str,
        descriptor: Descriptor,
        source: Callable[[], BinaryIO],
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Store ``descriptor.size`` bytes read from ``source()`` (called again when an upload must start over).

        ``progress`` is called with the number of bytes that the store has accepted since its last call.
        """

    def mount_blob(self, repository: str, digest: str, source_repository: str) -> bool:
        """Make another repository's blob part of this one without moving bytes; ``False`` if it can't be."""

    def delete_blob(self, repository: str, digest: str) -> None:
        """Delete a blob from a repository."""

    def tags(self, repository: str) -> list[str]:
        """Return all tags of a repository, in lexical order; an unknown repository has none."""

    def repositories(self) -> list[str]:
        """Return the names of all repositories, in lexical order."""

    def referrers(self, repository: str, digest: str, artifact_type: str | None = None) -> list[Descriptor]:
        """Return the descriptors of the manifests attached to ``digest``, of one artifact type or of all."""
