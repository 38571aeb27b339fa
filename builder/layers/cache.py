"""Keeps finished layers on disk, found by their keys, for any number of processes at once.

::

    <directory>/keys/<key>.json      what a layer is: digest, size, diff_id, a text for people
    <directory>/blobs/<hex>          its bytes, named by their sha256
    <directory>/blobs/<random>.part  a layer being written

A key is a hash over all that decides a layer, so an entry is never wrong and never changes. Files appear by being
renamed, so nobody sees half of one, and two processes that build the same layer write the same bytes. Pruning takes
blobs only: what a key stands for remains known, and the registry may still have the bytes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from builder.bounded import GRACE_SECONDS, bound_files
from builder.layers.archive import write_layer
from builder.layers.layer import MEDIA_TYPES, Compression, Layer
from registry_sync.errors import CasabinderError
from registry_sync.manifest import canonical_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from builder.layers.layer import Entry

_LOG = logging.getLogger(__name__)
_KEY = re.compile(r"[0-9a-f]{64}")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FIELDS = ("what", "digest", "size", "diff_id", "media_type")
_ABANDONED = 24 * 3600.0
_STEP = 8 * 1024 * 1024


class LayerCache:
    """A directory of layers. It is made if it does not exist."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._keys = directory / "keys"
        self._blobs = directory / "blobs"
        with self._disk():
            self._keys.mkdir(parents=True, exist_ok=True)
            self._blobs.mkdir(parents=True, exist_ok=True)

    def get(self, key: str) -> Layer | None:
        """Return the layer of ``key``, or ``None`` if it was never seen here.

        Its ``blob`` is ``None`` when the bytes are not here; otherwise it counts as used now (see :meth:`prune`).
        """
        try:
            document = json.loads(self._metadata(key).read_bytes())
            layer = Layer(key=key, **{name: document[name] for name in _FIELDS})
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            _LOG.warning("the layer cache entry %s cannot be read and is ignored", key)
            return None
        blob = self._blob(layer.digest)
        with contextlib.suppress(OSError):
            if blob.stat().st_size == layer.size:
                os.utime(blob)
                return replace(layer, blob=blob)
        return layer

    def remember(self, layer: Layer) -> None:
        """Note what the layer's key stands for; ``layer.blob`` is not looked at."""
        document = {name: getattr(layer, name) for name in _FIELDS}
        with self._disk(), self._new_file(self._keys) as temporary:
            temporary.write_bytes(canonical_json(document))
            temporary.replace(self._metadata(layer.key))

    def build(
        self,
        key: str,
        what: str,
        entries: Callable[[], Iterable[Entry]],
        compression: Compression = "gzip",
        written_to: Callable[[Path, int], None] | None = None,
    ) -> Layer:
        """Return the layer of ``key`` with its blob: from the cache, or written from what ``entries()`` returns.

        ``compression`` is a part of what ``key`` stands for: see :func:`~builder.layers.layer.compressed_key`.
        ``written_to`` is told, every few megabytes, how much of which file is written.

        Raises:
            LayerError: the entries cannot be made into a layer.
            CasabinderError: the directory is full or cannot be written. No part of the layer is left behind.
        """
        known = self.get(key)
        if known and known.blob:
            return replace(known, what=what)
        made = entries()
        with self._disk(), self._new_file(self._blobs) as temporary:
            with temporary.open("wb") as sink:
                told = _Told(sink, lambda size: written_to(temporary, size)) if written_to else sink
                written = write_layer(made, cast("BinaryIO", told), compression)
            blob = self._blob(written.digest)
            temporary.replace(blob)
        if known and known.digest != written.digest:
            _LOG.warning("the layer %s (%s) was %s and is %s now", key, what, known.digest, written.digest)
        media_type = MEDIA_TYPES[compression]
        layer = Layer(key, what, written.digest, written.size, written.diff_id, media_type, blob)
        self.remember(layer)
        return layer

    def prune(self, limit_bytes: int, grace: float = GRACE_SECONDS) -> int:
        """Delete the least recently used blobs until the rest has at most ``limit_bytes``; return the bytes freed.

        Blobs used within the last ``grace`` seconds stay, since a build may be about to upload them. Parts of layers
        whose writer has died are deleted too. What is known of a layer stays: a registry may have it.
        """
        abandoned = time.time() - _ABANDONED
        for part in self._blobs.glob("*.part"):
            with contextlib.suppress(FileNotFoundError):  # another process prunes, too
                if part.stat().st_mtime < abandoned:
                    part.unlink()
        return bound_files((path for path in self._blobs.iterdir() if path.suffix != ".part"), limit_bytes, grace)

    def _metadata(self, key: str) -> Path:
        name = key if _KEY.fullmatch(key) else hashlib.sha256(key.encode()).hexdigest()
        return self._keys / f"{name}.json"

    def _blob(self, digest: str) -> Path:
        hexadecimal = digest.removeprefix("sha256:")
        if not _KEY.fullmatch(hexadecimal):
            raise CasabinderError(f"{digest!r} is not the sha256 digest of a layer")
        return self._blobs / hexadecimal

    @contextlib.contextmanager
    def _new_file(self, directory: Path) -> Iterator[Path]:
        """A file of a new name in ``directory``, deleted at the end unless it was renamed."""
        handle, name = tempfile.mkstemp(suffix=".part", dir=directory)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        """Turn the faults of the disk into a sentence."""
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                free = shutil.disk_usage(self.directory).free / 1e6
                raise CasabinderError(
                    f"there is no space left for layers in {self.directory} ({free:.0f} MB free); "
                    "make room, lower layers.cache_bytes in site.yaml, or set CASABINDER_CACHE to another disk"
                ) from error
            place = Path(str(error.filename))
            if place == self.directory or self.directory in place.parents or place in self.directory.parents:
                raise CasabinderError(f"the layer cache {self.directory} cannot be used: {error.strerror}") from error
            raise


class _Told:
    """A file that says how much of it is written, each time that another few megabytes are."""

    def __init__(self, file: BinaryIO, tell: Callable[[int], None]) -> None:
        self._file = file
        self._tell = tell
        self._size = self._told = 0

    def write(self, data: bytes) -> int:
        self._size += len(data)
        written = self._file.write(data)
        if self._size - self._told >= _STEP:
            self._file.flush()
            self._told = self._size
            self._tell(self._size)
        return written
