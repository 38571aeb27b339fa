"""What goes with an image, on a real registry (which has no referrers API) and the real base."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from builder.attachments.attach import attach, document
from builder.attachments.difference import compare_images
from builder.attachments.inspection import inspect, read_document
from builder.attachments.location import locate
from builder.base import INTERPRETER_TYPE, INVENTORY_TYPE, attach_inventory, load_base
from builder.build import build
from builder.facility import BaseChoice, Bases
from builder.image import ImageSettings, Parent, make_image
from builder.layers.cache import LayerCache
from builder.layers.layer import Entry
from builder.publish import Part, put_image, put_parts
from builder.rebase import rebase
from builder.repository.spec import RepoSpec
from builder.verify import verify
from registry_sync.client import RegistryClient
from tests.testbed.git_repository import commit_files
from tests.testbed.registry import registry_is_installed

if TYPE_CHECKING:
    from pathlib import Path

    from builder.facility import Facility

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not registry_is_installed(), reason="needs docker-registry"),
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
]


class Counting(httpx.HTTPTransport):
    """Counts the requests that go through it and the bytes that come back and go out."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[str] = []
        self.sent = 0
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            self.requests.append(f"{request.method} {request.url.path}")
            self.sent += int(request.headers.get("content-length", "0"))
        return super().handle_request(request)


def test_two_builders_at_once_lose_none_of_each_others_documents(facility: Facility) -> None:
    image = make_image(Parent(), [], ImageSettings(), {})
    put_image(facility.store, "race/image", image, ["tag"])
    subject = image.manifest.descriptor()
    together = threading.Barrier(2, timeout=60)

    def builder(name: str) -> set[str]:
        made = set()
        with RegistryClient(facility.registry, credentials=None) as client:
            for turn in range(15):
                together.wait()
                artifacts = [
                    document(f"test/{kind}", kind, f"{name} {turn} {kind}".encode()) for kind in ("a", "b", "c")
                ]
                made |= {one.digest for one in attach(client, "race/image", subject, artifacts)}
        return made

    with ThreadPoolExecutor(2) as pool:
        made = set().union(*pool.map(builder, ("one", "two")))
    assert {one.digest for one in facility.store.referrers("race/image", subject.digest)} == made


def patched(facility: Facility, real_base: BaseChoice, directory: Path, name: str = "patched") -> BaseChoice:
    """Push the real base with a security patch: one layer more."""
    old = load_base(facility.store, facility.registry, real_base.repository, real_base.reference, facility.cache)
    cache = LayerCache(directory)
    layer = cache.build("f" * 64, "patch", lambda: [Entry("etc/patched", "file", directory.name.encode())])
    image = make_image(Parent(old.manifest.layers, old.config), [layer], ImageSettings(), {})
    repository = f"{real_base.repository}-{directory.name}"
    parts = [Part(each, mounts=(old.repository,)) for each in old.manifest.layers]
    put_parts(facility.store, repository, [*parts, Part(layer.descriptor, blob=layer.blob)])
    put_image(facility.store, repository, image, ["current"])
    inventory = replace(old.inventory, name=name)
    (referrer,) = facility.store.referrers(old.repository, old.digest, INVENTORY_TYPE)
    artifact = facility.store.get_manifest(old.repository, referrer.digest)
    blobs = [layer.digest for layer in artifact.layers if layer.media_type == INTERPRETER_TYPE]
    interpreter = b"".join(gzip.decompress(facility.store.read_blob(old.repository, blob)) for blob in blobs)
    attach_inventory(facility.store, repository, image.manifest, inventory, old.files, {}, interpreter)
    return BaseChoice(facility.registry, repository, "current")


def test_an_image_is_looked_at_verified_and_rebased(facility: Facility, real_base: BaseChoice, tmp_path: Path) -> None:
    directory = tmp_path / "repository"
    commit_files(directory, {"requirements.txt": "particle\n", "a.py": "import particle\n"})
    spec = RepoSpec(str(directory))
    record = build(spec, Bases.only(real_base), facility)
    with locate(record.image, facility) as location:
        before = inspect(location, facility.cache)
        sbom = read_document(location, "sbom")
        report = json.loads(read_document(location, "report"))
    assert report
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom.decode()) is None
    assert any(one.environment == "system" and one.name == "libc6" for one in before.contents.components)
    choice = patched(facility, real_base, tmp_path / "layers")
    counting = Counting()
    with RegistryClient(facility.registry, credentials=None, transport=counting) as store:
        moved = rebase(record.image, choice, replace(facility, store=store))
    sys.stdout.write(f"rebase: {len(counting.requests)} requests, {counting.sent} bytes sent, {moved.seconds}\n")
    assert len(counting.requests) < 90
    assert counting.sent < 2_000_000
    with locate(moved.image, facility) as location:
        after = inspect(location, facility.cache)
    difference = compare_images(before, after)
    assert difference.packages == ()
    assert difference.base is not None
    assert difference.tree is None
    found = verify(moved.image, facility, tmp_path / "scratch")
    assert found.passed
    assert found.reproduced
    built = build(spec, Bases.only(choice), facility, rebuild=True)
    assert built.digest == moved.digest
