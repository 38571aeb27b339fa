"""What the channels and dated tags of bases name: asked of the registry, and remembered on disk.

A channel's answer is good for a minute, so that a click on an image that is built costs one HEAD request and a new
release is taken up soon after it was made. A dated tag is never moved, so its answer is good for ever.
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING

from launcher.bases.history import CHANNELS, is_release_tag
from registry_sync.files import write_atomically
from registry_sync.manifest import canonical_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from registry_sync.store import Store

FRESH_SECONDS = 60


class ChannelMemory:
    """The answers of one registry (``registry`` is its name), below the cache; ``clock`` gives seconds since 1970."""

    def __init__(self, store: Store, registry: str, cache: Path, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._registry = registry
        self._directory = cache / "channels"
        self._clock = clock

    def digest(self, repository: str, tag: str) -> str:
        """Return the digest that a channel or a dated tag names, ``""`` if there is none.

        Raises what the store raises: a registry that is silent is never taken for one that has no release.
        """
        file, now = self._file(repository, tag), self._clock()
        try:
            known = json.loads(file.read_bytes())
            if 0 <= now - known["at"] < FRESH_SECONDS or (known["digest"] and is_release_tag(tag)):
                return str(known["digest"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        there = self._store.head_manifest(repository, tag)
        digest = there.digest if there else ""
        if digest or tag in CHANNELS:  # of the tags that there are not, anybody may ask for any number
            write_atomically(file, canonical_json({"at": now, "digest": digest}))
        return digest

    def forget(self, repository: str) -> None:
        """Ask the registry again of a base's channels."""
        for channel in CHANNELS:
            self._file(repository, channel).unlink(missing_ok=True)

    def _file(self, repository: str, tag: str) -> Path:
        name = hashlib.sha256(f"{self._registry}/{repository}:{tag}".encode()).hexdigest()[:32]
        return self._directory / f"{name}.json"
