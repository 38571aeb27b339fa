"""Records of builds: on disk, in the registry, and told again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from builder.attachments.attach import attach
from builder.image import ImageSettings, Parent, make_image
from builder.publish import put_image
from builder.record import (
    LOCK_TYPE,
    BaseFacts,
    ImageRecord,
    LayerFacts,
    RecordShelf,
    as_cached,
    lock_artifact,
    read_lock,
    read_record,
    read_records,
    record_artifact,
)
from registry_sync.errors import CasabinderError
from registry_sync.layout import LayoutStore

if TYPE_CHECKING:
    from pathlib import Path

    from registry_sync.manifest import Descriptor

IMAGE = make_image(Parent(), [], ImageSettings(), {})
RECORD = ImageRecord(
    image="host/name:tag",
    digest=IMAGE.digest,
    env_id="e" * 16,
    image_id="1" * 16,
    repo="https://host/repo",
    ref="main",
    commit="c" * 40,
    base=BaseFacts("tiny", "host/bases/tiny:current", "sha256:" + "b" * 64, "3.13"),
    lock_sha256="0" * 64,
    reproducible=True,
    created="2024-01-01T00:00:00Z",
    packages={"from_base": 1, "added": 2, "replaced": 3},
    layers=(LayerFacts("sha256:0", 10, "base", "base"), LayerFacts("sha256:1", 5, "one", "uploaded")),
    bytes={"total": 15, "new": 5, "uploaded": 5},
    seconds={"total": 1.0},
)


@pytest.fixture
def subject(tmp_path: Path) -> tuple[LayoutStore, Descriptor]:
    store = LayoutStore(tmp_path / "store")
    put_image(store, "name", IMAGE, ["tag"])
    return store, IMAGE.manifest.descriptor()


def test_a_record_is_json() -> None:
    assert ImageRecord.from_json(json.loads(json.dumps(RECORD.to_json()))) == RECORD
    for damaged in ({}, {**RECORD.to_json(), "base": {}}, {**RECORD.to_json(), "layers": [1]}):
        with pytest.raises(CasabinderError, match="record can't be read; build it again with --rebuild"):
            ImageRecord.from_json(damaged)


def test_the_shelf_forgets_what_it_cannot_read(tmp_path: Path) -> None:
    shelf = RecordShelf(tmp_path)
    assert shelf.get(RECORD.digest, RECORD.commit) is None
    shelf.put(RECORD)
    assert shelf.get(RECORD.digest, RECORD.commit) == RECORD
    assert shelf.get(RECORD.digest, "d" * 40) is None
    (path,) = tmp_path.iterdir()
    path.write_text("{")
    assert shelf.get(RECORD.digest, RECORD.commit) is None


def test_records_by_commit_and_one_lock(subject: tuple[LayoutStore, Descriptor]) -> None:
    store, descriptor = subject
    other = replace(RECORD, commit="d" * 40)
    newer = replace(RECORD, created="2025-01-01T00:00:00Z")
    attach(store, "name", descriptor, [lock_artifact("the lock"), record_artifact(newer)])
    attach(store, "name", descriptor, [record_artifact(RECORD), record_artifact(other)])
    assert len(store.referrers("name", RECORD.digest, LOCK_TYPE)) == 1
    assert read_lock(store, "name", RECORD.digest) == "the lock"
    assert read_record(store, "name", RECORD.digest, RECORD.commit) == newer
    assert read_record(store, "name", RECORD.digest, other.commit) == other
    assert read_record(store, "name", RECORD.digest, "f" * 40) is None
    assert read_records(store, "name", RECORD.digest)[0] == newer


def test_an_image_with_nothing_attached(subject: tuple[LayoutStore, Descriptor]) -> None:
    store, _ = subject
    with pytest.raises(CasabinderError, match="carries no lock; it was not built by casabinder"):
        read_lock(store, "name", RECORD.digest)
    with pytest.raises(CasabinderError, match="carries no record; it was not built by casabinder"):
        read_records(store, "name", RECORD.digest)


def test_told_again_nothing_was_made() -> None:
    again = as_cached(RECORD, {"total": 0.1})
    assert again.cached
    assert (again.seconds, again.bytes["uploaded"], again.bytes["new"]) == ({"total": 0.1}, 0, 5)
    assert [layer.source for layer in again.layers] == ["base", "cached"]
