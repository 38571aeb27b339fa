"""Image layouts on disk as a store."""

import io
import json
import threading
from pathlib import Path

import pytest

from registry_sync.errors import DigestMismatchError, InvalidReferenceError, NotFoundError, RegistryError
from registry_sync.layout import LayoutStore
from registry_sync.manifest import EMPTY_JSON, OCI_CONFIG, OCI_EMPTY, Descriptor, Manifest, sha256_digest

EMPTY = Descriptor(OCI_EMPTY, sha256_digest(EMPTY_JSON), len(EMPTY_JSON))


def describe(data: bytes, media_type: str = OCI_CONFIG) -> Descriptor:
    return Descriptor(media_type, sha256_digest(data), len(data))


def put(store: LayoutStore, repository: str, data: bytes) -> Descriptor:
    descriptor = describe(data)
    store.put_blob(repository, descriptor, lambda: io.BytesIO(data))
    return descriptor


def image(number: int) -> Manifest:
    return Manifest.image(describe(b"%d" % number), [])


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_blobs(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path)
    sizes: list[int] = []
    descriptor = describe(b"some bytes")
    store.put_blob("team/a", descriptor, lambda: io.BytesIO(b"some bytes"), sizes.append)
    assert sum(sizes) == 10
    assert store.head_blob("team/a", descriptor.digest) == 10
    assert store.read_blob("team/a", descriptor.digest) == b"some bytes"
    with pytest.raises(RegistryError, match="more than 3 bytes"):
        store.read_blob("team/a", descriptor.digest, limit=3)
    assert store.head_blob("team/b", descriptor.digest) is None
    store.delete_blob("team/a", descriptor.digest)
    with pytest.raises(NotFoundError):
        store.read_blob("team/a", descriptor.digest)
    with pytest.raises(NotFoundError):
        store.delete_blob("team/a", descriptor.digest)


def test_repositories(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path / "root")
    assert store.repositories() == []
    for name in ("team/b", "a", "team/a"):
        put(store, name, b"bytes")
    assert store.repositories() == ["a", "team/a", "team/b"]


@pytest.mark.parametrize("data", [b"other bytes", b"less", b"some bytez"])
def test_wrong_bytes_leave_nothing(tmp_path: Path, data: bytes) -> None:
    store, descriptor = LayoutStore(tmp_path), describe(b"some bytes")
    with pytest.raises(DigestMismatchError):
        store.put_blob("a", descriptor, lambda: io.BytesIO(data))
    assert files(tmp_path) == {"a/oci-layout", "a/index.json"}


def test_damage_on_disk_is_found(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path)
    descriptor = put(store, "a", b"some bytes")
    (tmp_path / "a/blobs" / descriptor.digest.replace(":", "/")).write_bytes(b"some bytez")
    with pytest.raises(DigestMismatchError):
        store.read_blob("a", descriptor.digest)
    (tmp_path / "a/index.json").write_text("{")
    with pytest.raises(RegistryError, match="damaged"):
        store.tags("a")


def test_a_mount_is_a_hard_link(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path)
    digest = put(store, "a", b"some bytes").digest
    assert store.mount_blob("b/c", digest, "a")
    assert store.mount_blob("b/c", digest, "a")
    one, two = (tmp_path / name / "blobs" / digest.replace(":", "/") for name in ("a", "b/c"))
    assert one.samefile(two)
    assert not store.mount_blob("b", sha256_digest(b"unknown"), "a")
    store.delete_blob("a", digest)
    assert store.read_blob("b/c", digest) == b"some bytes"


def test_tags_move_and_manifests_stay(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path)
    first, second = image(1), image(2)
    store.put_manifest("a", "v1", first)
    store.put_manifest("a", "also", first)
    store.put_manifest("a", "v1", second)
    store.put_manifest("a", second.digest, second)
    assert store.tags("a") == ["also", "v1"]
    assert store.get_manifest("a", "v1") == second
    store.delete_manifest("a", "also")
    assert store.head_manifest("a", first.digest) == first.descriptor()
    assert store.head_manifest("a", "also") is None
    store.delete_manifest("a", second.digest)
    assert store.tags("a") == []
    with pytest.raises(NotFoundError):
        store.get_manifest("a", "v1")
    with pytest.raises(NotFoundError):
        store.delete_manifest("a", "v1")
    assert [entry["digest"] for entry in json.loads((tmp_path / "a/index.json").read_bytes())["manifests"]] == [
        first.digest
    ]


def test_a_manifest_of_an_index_is_found_by_digest(tmp_path: Path) -> None:
    store, child = LayoutStore(tmp_path), image(1)
    put(store, "a", child.raw)  # as skopeo leaves it: a blob that only the index names
    store.put_manifest("a", "v1", Manifest.index([child.descriptor()]))
    assert store.get_manifest("a", child.digest) == child
    assert store.get_manifest("a", "v1").is_index
    assert store.head_manifest("a", put(store, "a", b"no manifest").digest) is None
    assert store.head_manifest("a", put(store, "a", b"{}").digest) is None


def test_referrers(tmp_path: Path) -> None:
    store, subject = LayoutStore(tmp_path), image(1)
    store.put_manifest("a", "v1", subject)
    for kind in ("application/x", "application/y"):
        artifact = Manifest.image(
            EMPTY, [], subject=subject.descriptor(), artifact_type=kind, annotations={"kind": kind}
        )
        store.put_manifest("a", artifact.digest, artifact)
    assert {entry.artifact_type for entry in store.referrers("a", subject.digest)} == {"application/x", "application/y"}
    (only,) = store.referrers("a", subject.digest, "application/y")
    assert only.annotations == {"kind": "application/y"}
    assert store.referrers("b", subject.digest) == []


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "A", "", "blobs", "a/index.json", "a/blobs/sha256"])
def test_names_stay_in_the_root(tmp_path: Path, name: str) -> None:
    store = LayoutStore(tmp_path)
    with pytest.raises(InvalidReferenceError):
        store.put_manifest(name, "v1", image(1))
    with pytest.raises(InvalidReferenceError):
        store.tags(name)
    assert files(tmp_path) == set()


@pytest.mark.parametrize("reference", ["../../x", "sha256:../../x", "sha256:" + "A" * 64, "-x", ""])
def test_references_stay_in_the_root(tmp_path: Path, reference: str) -> None:
    store = LayoutStore(tmp_path)
    with pytest.raises(InvalidReferenceError):
        store.put_manifest("a", reference, image(1))
    with pytest.raises(InvalidReferenceError):
        store.head_manifest("a", reference)
    with pytest.raises(InvalidReferenceError):
        store.head_blob("a", reference)


def test_threads_do_not_lose_each_other_s_tags(tmp_path: Path) -> None:
    def push(start: int) -> None:
        store = LayoutStore(tmp_path)
        for number in range(start, start + 10):
            store.put_manifest("a", f"v{number}", image(number))

    threads = [threading.Thread(target=push, args=(start,)) for start in range(0, 80, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(LayoutStore(tmp_path).tags("a")) == 80
    assert not [name for name in files(tmp_path) if ".new-" in name]


def test_the_wrong_digest_for_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DigestMismatchError):
        LayoutStore(tmp_path).put_manifest("a", sha256_digest(b"x"), image(1))
