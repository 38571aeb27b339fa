"""Puts documents beside an image as OCI referrers, and reads them again.

Each document is one artifact (a manifest with a ``subject`` and an ``artifactType``), since that is what oras, cosign
and skopeo look for. All documents of one build go in together: blobs and manifests in parallel, and where a registry
has no referrers API the index that stands in for it is changed once. Source: image-spec manifest.md, "artifactType";
distribution-spec, "Listing Referrers".
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING

from registry_sync.errors import CasabinderError
from registry_sync.manifest import EMPTY_JSON, OCI_EMPTY, Descriptor, Manifest, sha256_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from registry_sync.store import Store

TITLE = "org.opencontainers.image.title"
COMMIT_ANNOTATION = "org.casabinder.commit"
CREATED_ANNOTATION = "org.opencontainers.image.created"

_WORKERS = 6
_WORTH_ASKING = 16 * 1024  # bytes; a smaller blob is sent sooner than asked for
_EMPTY = Descriptor(OCI_EMPTY, sha256_digest(EMPTY_JSON), len(EMPTY_JSON))


@dataclass(frozen=True)
class Blob:
    """One file of an artifact."""

    media_type: str
    data: bytes
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def descriptor(self) -> Descriptor:
        """The file's descriptor in the artifact's manifest."""
        return Descriptor(self.media_type, sha256_digest(self.data), len(self.data), annotations=self.annotations)


@dataclass(frozen=True)
class Artifact:
    """What is attached: its type, its files, its annotations; ``tag`` where tools look for one beside the subject."""

    artifact_type: str
    blobs: tuple[Blob, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    tag: str = ""


def document(media_type: str, title: str, data: bytes, annotations: Mapping[str, str] | None = None) -> Artifact:
    """Return the artifact of one file, whose type is the file's."""
    return Artifact(media_type, (Blob(media_type, data, {TITLE: title}),), annotations or {})


def attach(store: Store, repository: str, subject: Descriptor, artifacts: Sequence[Artifact]) -> list[Manifest]:
    """Store ``artifacts`` as referrers of ``subject`` and return their manifests, in order."""
    blobs = {sha256_digest(EMPTY_JSON): (_EMPTY, EMPTY_JSON)}
    blobs |= {blob.descriptor.digest: (blob.descriptor, blob.data) for one in artifacts for blob in one.blobs}

    def put(pair: tuple[Descriptor, bytes]) -> None:
        descriptor, data = pair
        asked = descriptor is _EMPTY or descriptor.size >= _WORTH_ASKING
        if not asked or store.head_blob(repository, descriptor.digest) is None:
            store.put_blob(repository, descriptor, lambda: BytesIO(data))

    with ThreadPoolExecutor(_WORKERS) as pool:
        list(pool.map(put, blobs.values()))
    manifests = [
        Manifest.image(
            _EMPTY,
            [blob.descriptor for blob in one.blobs],
            subject=subject,
            artifact_type=one.artifact_type,
            annotations=one.annotations,
        )
        for one in artifacts
    ]
    store.put_referrers(
        repository,
        [(one.tag or manifest.digest, manifest) for one, manifest in zip(artifacts, manifests, strict=True)],
    )
    return manifests


def read_artifact(store: Store, repository: str, referrer: Descriptor) -> bytes:
    """Return the first file of an artifact."""
    artifact = store.get_manifest(repository, referrer.digest)
    if not artifact.layers:
        raise CasabinderError(f"{repository}@{referrer.digest} is attached to an image and has no content")
    return store.read_blob(repository, artifact.layers[0].digest)


def newest(referrers: Sequence[Descriptor], artifact_type: str, commit: str = "") -> Descriptor | None:
    """Return the newest of one type (of one commit, if stated), by what its annotations say of when it was made."""
    found = [
        one
        for one in referrers
        if one.artifact_type == artifact_type and commit in ("", one.annotations.get(COMMIT_ANNOTATION))
    ]
    return max(found, key=lambda one: (one.annotations.get(CREATED_ANNOTATION, ""), one.digest), default=None)
