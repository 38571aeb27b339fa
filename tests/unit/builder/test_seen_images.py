"""What is remembered of a registry saves requests, and is put right when the registry has lost something."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from builder.build import build
from builder.facility import Bases
from builder.image import Image
from builder.publish import LostBlobError, Part, put_image, put_part
from builder.repository.spec import RepoSpec
from builder.seen_images import NOTHING, SeenImages
from registry_sync.faults import RegistryFaultError
from registry_sync.layout import LayoutStore

if TYPE_CHECKING:
    from builder.record import ImageRecord
    from registry_sync.manifest import Manifest
    from tests.unit.builder.conftest import Workbench

FILES = {"requirements.txt": "extra==1.0\ncore<2\n", "analysis.py": "import core\n"}


def repository_of(record: ImageRecord) -> str:
    return record.image.partition("/")[2].rpartition(":")[0]


def blobs_of(workbench: Workbench, record: ImageRecord) -> set[str]:
    manifest = workbench.store.get_manifest(repository_of(record), record.digest)
    return {manifest.config.digest, *(layer.digest for layer in manifest.layers)}


def test_the_blobs_of_an_image_are_known_while_it_is_there(workbench: Workbench) -> None:
    seen = workbench.facility.seen_images
    record = workbench.run(FILES)
    repository = repository_of(record)
    assert seen.blobs(repository) == blobs_of(workbench, record)
    assert seen.blobs("another/repository") == NOTHING
    elsewhere = SeenImages(workbench.store, "another.registry", workbench.facility.cache / "seen-images")
    assert elsewhere.blobs(repository) == NOTHING
    workbench.store.delete_manifest(repository, record.digest)
    assert seen.blobs(repository) == NOTHING


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"manifest": "x", "blobs": []}', b'{"manifest": 1}'])
def test_a_damaged_memory_is_none(workbench: Workbench, damage: bytes) -> None:
    record = workbench.run(FILES)
    for file in (workbench.facility.cache / "seen-images").iterdir():
        file.write_bytes(damage)
    assert workbench.facility.seen_images.blobs(repository_of(record)) == NOTHING


def test_a_registry_that_was_set_up_anew_gets_everything_again(workbench: Workbench) -> None:
    first = workbench.run(FILES)
    layers = workbench.facility.cache / "layers" / "blobs"
    shutil.rmtree(layers)
    layers.mkdir()
    for repository in ("fac/layers", repository_of(first)):
        shutil.rmtree(workbench.store.root / repository)
    workbench = replace(workbench, facility=replace(workbench.facility))
    again = workbench.run()
    assert again.digest == first.digest
    assert not again.cached
    for digest in blobs_of(workbench, again):
        assert workbench.store.head_blob(repository_of(again), digest) is not None


def test_a_manifest_without_its_blobs_is_lost(workbench: Workbench) -> None:
    class Registry(LayoutStore):
        """Refuses a manifest as a registry does."""

        def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> None:
            if any(self.head_blob(repository, layer.digest) is None for layer in manifest.layers):
                raise RegistryFaultError("unknown blob", status=400, codes=("MANIFEST_BLOB_UNKNOWN",))
            super().put_manifest(repository, reference, manifest)

    first = workbench.run(FILES)
    repository, store = repository_of(first), Registry(workbench.store.root)
    lost = workbench.store.get_manifest(repository, first.digest).layers[2]
    store.delete_blob(repository, lost.digest)
    workbench = replace(workbench, facility=replace(workbench.facility, store=store))
    second = workbench.run({"analysis.py": "import core, extra\n"})
    assert store.head_blob(repository, lost.digest) == lost.size
    assert second.env_id == first.env_id

    image = _image_of(store, repository, second)
    store.delete_blob(repository, lost.digest)
    with pytest.raises(LostBlobError, match="unknown blob"):
        put_image(store, repository, image, ["tag"])
    with pytest.raises(LostBlobError, match="neither in the registry nor in the cache"):
        put_part(store, repository, Part(lost))


def test_another_repository_of_the_facility_asks_for_no_layer(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    workbench.run(FILES)
    other = workbench.directory / "other"
    shutil.copytree(workbench.repository, other)
    asked: list[str] = []
    read = workbench.store.get_manifest

    def get_manifest(repository: str, reference: str) -> Manifest:
        asked.append(repository)
        return read(repository, reference)

    monkeypatch.setattr(workbench.store, "get_manifest", get_manifest)
    assert RepoSpec(str(other)).slug != RepoSpec(str(workbench.repository)).slug
    build(RepoSpec(str(other)), Bases.only(workbench.choice), workbench.facility)
    assert "fac/layers" not in asked


def _image_of(store: LayoutStore, repository: str, record: ImageRecord) -> Image:
    manifest = store.get_manifest(repository, record.digest)
    return Image(manifest, store.read_blob(repository, manifest.config.digest))
