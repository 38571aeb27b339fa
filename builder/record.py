"""The record of a build: what was made from what, in which time, and where the bytes came from.

It is what ``casabinder build --json`` prints, what is attached to the image as a referrer (one per commit that was
built), and what is kept on local disk so that a second build of the same commit has nothing to read.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from builder.attachments.attach import (
    COMMIT_ANNOTATION,
    CREATED_ANNOTATION,
    Artifact,
    document,
    newest,
    read_artifact,
)
from registry_sync.errors import CasabinderError
from registry_sync.files import write_atomically
from registry_sync.manifest import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from registry_sync.manifest import Descriptor
    from registry_sync.store import Store

RECORD_TYPE = "application/vnd.casabinder.record.v1+json"
LOCK_TYPE = "application/vnd.casabinder.lock.v1+toml"

Source = Literal["base", "mounted", "cached", "uploaded"]


@dataclass(frozen=True)
class BaseFacts:
    """The base of an image."""

    name: str
    reference: str
    digest: str
    python: str


@dataclass(frozen=True)
class LayerFacts:
    """One layer: compressed bytes, what it is, and how it came into the image's repository."""

    digest: str
    bytes: int
    what: str
    source: Source


@dataclass(frozen=True)
class ImageRecord:
    """What is known of a built image. ``seconds`` are by phase; ``cached`` says that nothing had to be made.

    ``bytes`` has ``total`` (all layers), ``new`` (layers above the base) and ``uploaded``.
    """

    image: str
    digest: str
    env_id: str
    image_id: str
    repo: str
    ref: str
    commit: str
    base: BaseFacts
    lock_sha256: str
    reproducible: bool
    created: str
    packages: Mapping[str, int]
    layers: tuple[LayerFacts, ...]
    bytes: Mapping[str, int]
    seconds: Mapping[str, float] = field(default_factory=dict)
    cached: bool = False
    subdirectory: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the record as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ImageRecord:
        """Read a record; raise :class:`CasabinderError` if it is not one."""
        try:
            fields = dict(document)
            fields["base"] = BaseFacts(**fields["base"])
            fields["layers"] = tuple(LayerFacts(**layer) for layer in fields["layers"])
            return cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            raise CasabinderError("the image's record can't be read; build it again with --rebuild") from error


class RecordShelf:
    """Records on local disk, by manifest digest and commit."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, digest: str, commit: str) -> ImageRecord | None:
        """Return the record of an image as built from a commit, if this machine built or read it before."""
        try:
            return ImageRecord.from_json(json.loads(self._path(digest, commit).read_bytes()))
        except (OSError, ValueError, CasabinderError):
            return None

    def put(self, record: ImageRecord) -> None:
        """Keep a record."""
        write_atomically(self._path(record.digest, record.commit), canonical_json(record.to_json()))

    def _path(self, digest: str, commit: str) -> Path:
        return self._directory / f"{digest.rpartition(':')[2]}-{commit[:12]}.json"


def lock_artifact(pylock: str) -> Artifact:
    """Return a lock as it is attached to an image, once."""
    return document(LOCK_TYPE, "pylock.toml", pylock.encode())


def record_artifact(record: ImageRecord) -> Artifact:
    """Return a record as it is attached to an image, once per commit that was built."""
    notes = {COMMIT_ANNOTATION: record.commit, CREATED_ANNOTATION: record.created}
    return document(RECORD_TYPE, "record.json", canonical_json(record.to_json()), notes)


def read_record(store: Store, repository: str, digest: str, commit: str) -> ImageRecord | None:
    """Return the newest record attached to an image for ``commit``, or ``None``."""
    found = newest(store.referrers(repository, digest, RECORD_TYPE), RECORD_TYPE, commit)
    return _record(store, repository, found) if found else None


def find_record(shelf: RecordShelf, store: Store, repository: str, alias: str, commit: str) -> ImageRecord | None:
    """Return the record of the image that a commit's ``alias`` names, from the shelf if it is there, or ``None``."""
    known = store.head_manifest(repository, alias)
    if known is None:
        return None
    record = shelf.get(known.digest, commit)
    if record is None:
        record = read_record(store, repository, known.digest, commit)
        if record is not None:
            shelf.put(record)
    return record


def read_records(store: Store, repository: str, digest: str) -> list[ImageRecord]:
    """Return the newest record of every commit, newest first; raise :class:`CasabinderError` if there is none."""
    referrers = store.referrers(repository, digest, RECORD_TYPE)
    commits = {referrer.annotations.get(COMMIT_ANNOTATION, "") for referrer in referrers}
    latest = [newest(referrers, RECORD_TYPE, commit) for commit in sorted(commits)]
    found = [_record(store, repository, referrer) for referrer in latest if referrer]
    if not found:
        raise CasabinderError(f"{repository}@{digest} carries no record; it was not built by casabinder")
    return sorted(found, key=lambda record: (record.created, record.commit), reverse=True)


def _record(store: Store, repository: str, referrer: Descriptor) -> ImageRecord:
    try:
        return ImageRecord.from_json(json.loads(read_artifact(store, repository, referrer)))
    except ValueError as error:
        raise CasabinderError("the image's record can't be read; build it again with --rebuild") from error


def read_lock(store: Store, repository: str, digest: str) -> str:
    """Return the ``pylock.toml`` text attached to an image; raise :class:`CasabinderError` if there is none."""
    found = store.referrers(repository, digest, LOCK_TYPE)
    if not found:
        raise CasabinderError(f"{repository}@{digest} carries no lock; it was not built by casabinder")
    return read_artifact(store, repository, found[0]).decode("utf-8")


def as_cached(record: ImageRecord, seconds: Mapping[str, float]) -> ImageRecord:
    """Return a record as it is told when nothing had to be made this time."""
    layers = tuple(layer if layer.source == "base" else replace(layer, source="cached") for layer in record.layers)
    counts = {**record.bytes, "uploaded": 0}
    return replace(record, cached=True, seconds=seconds, layers=layers, bytes=counts)
