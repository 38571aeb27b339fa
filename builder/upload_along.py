"""Uploads a layer while it is being made: a thread follows the file as it grows.

What is not finished so, because the layer is small, was there already, or the registry had a fault, is uploaded as
usual once the layer is whole. Memory does not grow: what is sent is read from the file.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

from registry_sync.client import RegistryClient

if TYPE_CHECKING:
    from pathlib import Path

    from registry_sync.manifest import Descriptor
    from registry_sync.store import Store
    from registry_sync.upload import GrowingUpload


class UploadAlong:
    """The upload of one layer to one repository; a context manager that leaves nothing half done behind.

    On a store that is no registry it does nothing: there, a layer is put in its place in no time.
    """

    def __init__(self, store: Store, repository: str) -> None:
        self._registry = store if isinstance(store, RegistryClient) else None
        self._repository = repository
        self._stack = ExitStack()
        self._upload: GrowingUpload | None = None

    def __enter__(self) -> UploadAlong:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def follow(self, file: Path, size: int) -> None:
        """Send, in the background, what of ``file`` is not sent yet up to ``size`` bytes."""
        if self._registry is None:
            return
        if self._upload is None:
            self._upload = self._stack.enter_context(self._registry.upload_growing(self._repository, file.open("rb")))
            self._pool = self._stack.enter_context(ThreadPoolExecutor(1))
        self._pool.submit(self._upload.send, size)

    def finish(self, layer: Descriptor) -> bool:
        """Return whether the layer, which is whole now, is in the repository."""
        return self._upload is not None and self._pool.submit(self._upload.commit, layer).result()
