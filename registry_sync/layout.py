"""OCI image layouts on disk as a :class:`~registry_sync.store.Store`: one layout per repository.

::

    root/
      team/analysis/            a repository: what `skopeo inspect oci:root/team/analysis:v1` reads
        oci-layout
        index.json              one descriptor per tag (annotation org.opencontainers.image.ref.name),
        blobs/sha256/<hex>      and one without it per manifest that has no tag

Files appear whole (written aside, then renamed) and blobs are shared between repositories by hard links. ``index.json``
is changed under a lock on the repository's directory, so threads and processes can share a root.
Source: https://github.com/opencontainers/image-spec/blob/main/image-layout.md.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from registry_sync.errors import DigestMismatchError, InvalidReferenceError, NotFoundError, RegistryError
from registry_sync.manifest import Descriptor, Manifest
from registry_sync.reference import is_digest, validate_digest, validate_repository, validate_tag
from registry_sync.verify import digest_of, verified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

REF_NAME = "org.opencontainers.image.ref.name"
READ_BYTES = 2**20
MANIFEST_BYTES_MAX = 32 * 2**20

_MARKER = b'{"imageLayoutVersion":"1.0.0"}'
_RESERVED = frozenset({"blobs", "index.json", "oci-layout"})


class LayoutStore:
    """The repositories below ``root``, which is created when something is put there. Safe to share."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __enter__(self) -> LayoutStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing: no files are held open between calls."""

    def head_manifest(self, repository: str, reference: str) -> Descriptor | None:
        """Return what ``reference`` points at, or ``None`` if there is no such manifest."""
        manifest = self._find(repository, reference)
        return None if manifest is None else manifest.descriptor()

    def get_manifest(self, repository: str, reference: str) -> Manifest:
        """Return the manifest, its digest checked."""
        manifest = self._find(repository, reference)
        if manifest is None:
            raise NotFoundError(f"{self._directory(repository)} has no manifest {reference}")
        return manifest

    def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> None:
        """Store the manifest under a tag or its digest; what had the tag before stays, without it."""
        digest = reference if is_digest(reference) else manifest.digest
        if digest_of(manifest.raw, like=digest) != digest:
            raise DigestMismatchError(f"a manifest with digest {manifest.digest} cannot be stored as {reference}")
        tag = None if is_digest(reference) else validate_tag(reference)
        self._create(repository)
        _write(self._blob(repository, digest), [manifest.raw])
        entry = Descriptor(
            media_type=manifest.media_type,
            digest=digest,
            size=len(manifest.raw),
            annotations={} if tag is None else {REF_NAME: tag},
            artifact_type=manifest.document.get("artifactType"),
        )
        with self._locked(repository):
            entries = self._entries(repository)
            if tag is not None:
                entries = _untag(entries, tag)
                entries = [old for old in entries if old.digest != digest or REF_NAME in old.annotations]
            elif any(old.digest == digest for old in entries):
                return
            self._write_index(repository, [*entries, entry])

    def put_referrers(self, repository: str, manifests: Sequence[tuple[str, Manifest]]) -> None:
        """Store several manifests, each under its tag or digest."""
        for reference, manifest in manifests:
            self.put_manifest(repository, reference, manifest)

    def delete_manifest(self, repository: str, reference: str) -> None:
        """Delete a tag, or a manifest with all its tags; :class:`NotFoundError` if there is none."""
        if self._find(repository, reference) is None:
            raise NotFoundError(f"{self._directory(repository)} has no manifest {reference}")
        with self._locked(repository):
            entries = self._entries(repository)
            if is_digest(reference):
                self._write_index(repository, [entry for entry in entries if entry.digest != reference])
                self._blob(repository, reference).unlink(missing_ok=True)
            else:
                self._write_index(repository, _untag(entries, reference))

    def head_blob(self, repository: str, digest: str) -> int | None:
        """Return the blob's size in bytes, or ``None`` if this repository does not have it."""
        try:
            return self._blob(repository, digest).stat().st_size
        except FileNotFoundError:
            return None

    @contextmanager
    def open_blob(self, repository: str, digest: str) -> Iterator[Iterator[bytes]]:
        """Stream the blob; the last chunk is followed by a check of its digest."""
        try:
            file = self._blob(repository, digest).open("rb")
        except FileNotFoundError as error:
            raise NotFoundError(f"{self._directory(repository)} has no blob {digest}") from error
        with file:
            yield verified(_read(file), digest, where=str(self._directory(repository)))

    def read_blob(self, repository: str, digest: str, limit: int = 64 * 2**20) -> bytes:
        """Return a small blob whole; more than ``limit`` bytes are refused."""
        size = self.head_blob(repository, digest)
        if size is not None and size > limit:
            raise RegistryError(f"{digest} in {self._directory(repository)} has more than {limit} bytes")
        with self.open_blob(repository, digest) as chunks:
            return b"".join(chunks)

    def put_blob(
        self,
        repository: str,
        descriptor: Descriptor,
        source: Callable[[], BinaryIO],
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Store ``descriptor.size`` bytes read from ``source()``; ``progress`` gets the number of bytes written."""
        target = self._blob(repository, descriptor.digest)
        self._create(repository)
        with source() as file:
            chunks = _read(file, progress)
            where = f"{self._directory(repository)} was not changed"
            _write(target, verified(chunks, descriptor.digest, descriptor.size, where=where))

    def mount_blob(self, repository: str, digest: str, source_repository: str) -> bool:
        """Make another repository's blob part of this one by a hard link; ``False`` if it can't be."""
        source, target = self._blob(source_repository, digest), self._blob(repository, digest)
        if not source.exists():
            return False
        self._create(repository)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, target)
        except FileExistsError:
            return True
        except OSError:  # another file system, or one without hard links
            return False
        return True

    def delete_blob(self, repository: str, digest: str) -> None:
        """Delete a blob from a repository; :class:`NotFoundError` if it is not there."""
        try:
            self._blob(repository, digest).unlink()
        except FileNotFoundError as error:
            raise NotFoundError(f"{self._directory(repository)} has no blob {digest}") from error

    def tags(self, repository: str) -> list[str]:
        """Return all tags of a repository, in lexical order; an unknown repository has none."""
        return sorted({tag for entry in self._entries(repository) if (tag := entry.annotations.get(REF_NAME))})

    def repositories(self) -> list[str]:
        """Return the names of all repositories, in lexical order."""
        return sorted(str(marker.parent.relative_to(self.root)) for marker in self.root.rglob("oci-layout"))

    def referrers(self, repository: str, digest: str, artifact_type: str | None = None) -> list[Descriptor]:
        """Return the descriptors of the manifests attached to ``digest``, of one artifact type or of all."""
        validate_digest(digest)
        found: dict[str, Descriptor] = {}
        for entry in self._entries(repository):
            manifest = self._find(repository, entry.digest) if entry.digest not in found else None
            if manifest is None or manifest.subject is None or manifest.subject.digest != digest:
                continue
            kind = manifest.artifact_type
            if artifact_type is None or kind == artifact_type:
                found[entry.digest] = replace(entry, annotations=manifest.annotations, artifact_type=kind)
        return list(found.values())

    def _directory(self, repository: str) -> Path:
        if _RESERVED & set(validate_repository(repository).split("/")):
            raise InvalidReferenceError(f"{repository!r} cannot be a layout: its name has one of {sorted(_RESERVED)}")
        return self.root / repository

    def _blob(self, repository: str, digest: str) -> Path:
        algorithm, _, encoded = validate_digest(digest).partition(":")
        return self._directory(repository) / "blobs" / algorithm / encoded

    def _find(self, repository: str, reference: str) -> Manifest | None:
        """Return a manifest by tag, or by digest even if ``index.json`` lists only an index that has it."""
        digest, media_type = reference, None
        if not is_digest(reference):
            validate_tag(reference)
            tagged = [entry for entry in self._entries(repository) if entry.annotations.get(REF_NAME) == reference]
            if not tagged:
                return None
            digest, media_type = tagged[-1].digest, tagged[-1].media_type
        size = self.head_blob(repository, digest)
        if size is None or size > MANIFEST_BYTES_MAX:
            return None
        raw = self.read_blob(repository, digest)
        try:
            document = json.loads(raw)
        except ValueError:
            return None
        if not isinstance(document, dict) or document.get("schemaVersion") != 2:
            return None  # a configuration or another JSON blob
        return Manifest.parse(raw, media_type)

    def _entries(self, repository: str) -> list[Descriptor]:
        path = self._directory(repository) / "index.json"
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            return []
        except ValueError as error:
            raise RegistryError(f"{path} is not JSON: the layout is damaged") from error
        if not isinstance(document, dict):
            raise RegistryError(f"{path} is not a JSON object: the layout is damaged")
        return [Descriptor.from_json(entry) for entry in document.get("manifests") or ()]

    def _write_index(self, repository: str, entries: Iterable[Descriptor]) -> None:
        index = Manifest.index(entries)
        _write(self._directory(repository) / "index.json", [index.raw])

    def _create(self, repository: str) -> None:
        directory = self._directory(repository)
        if (directory / "oci-layout").exists():
            return
        (directory / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        with self._locked(repository):
            if not (directory / "index.json").exists():
                self._write_index(repository, [])
            _write(directory / "oci-layout", [_MARKER])

    @contextmanager
    def _locked(self, repository: str) -> Iterator[None]:
        """Hold the lock for ``index.json``: on the directory, since the file itself is replaced."""
        descriptor = os.open(self._directory(repository), os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _untag(entries: list[Descriptor], tag: str) -> list[Descriptor]:
    """Return the entries without ``tag``; a manifest that had no other name stays, without a name."""
    kept = [entry for entry in entries if entry.annotations.get(REF_NAME) != tag]
    for entry in entries:
        if entry.annotations.get(REF_NAME) == tag and all(other.digest != entry.digest for other in kept):
            annotations = {key: value for key, value in entry.annotations.items() if key != REF_NAME}
            kept.append(replace(entry, annotations=annotations))
    return kept


def _read(file: BinaryIO, progress: Callable[[int], None] | None = None) -> Iterator[bytes]:
    while chunk := file.read(READ_BYTES):
        yield chunk
        if progress is not None:
            progress(len(chunk))


def _write(path: Path, chunks: Iterable[bytes]) -> None:
    """Make ``path`` a file of ``chunks``, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
        temporary.chmod(0o644)  # mkstemp makes files for one user only
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
