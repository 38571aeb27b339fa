"""Other tools read the layouts that ``LayoutStore`` writes, and the other way round."""

import gzip
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from registry_sync.layout import LayoutStore
from registry_sync.manifest import OCI_CONFIG, OCI_LAYER_GZIP, Descriptor, Manifest, canonical_json, sha256_digest

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not (shutil.which("skopeo") and shutil.which("umoci")), reason="needs skopeo and umoci"),
]


def layer() -> tuple[bytes, str]:
    """Return a gzipped layer with one file, and its diff_id."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("hello.txt")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"hello"))
    return gzip.compress(buffer.getvalue(), mtime=0), sha256_digest(buffer.getvalue())


def put(store: LayoutStore, repository: str, data: bytes, media_type: str) -> Descriptor:
    descriptor = Descriptor(media_type, sha256_digest(data), len(data))
    store.put_blob(repository, descriptor, lambda: io.BytesIO(data))
    return descriptor


def push(store: LayoutStore, repository: str, tag: str) -> Manifest:
    data, diff_id = layer()
    rootfs = {"type": "layers", "diff_ids": [diff_id]}
    config = canonical_json({"architecture": "amd64", "os": "linux", "rootfs": rootfs, "config": {}})
    manifest = Manifest.image(
        put(store, repository, config, OCI_CONFIG), [put(store, repository, data, OCI_LAYER_GZIP)]
    )
    store.put_manifest(repository, tag, manifest)
    return manifest


def run(*command: str) -> bytes:
    return subprocess.run(command, check=True, capture_output=True).stdout


def test_skopeo_reads_it(tmp_path: Path) -> None:
    manifest = push(LayoutStore(tmp_path), "team/image", "v1")
    inspected = json.loads(run("skopeo", "inspect", f"oci:{tmp_path}/team/image:v1"))
    assert inspected["Digest"] == manifest.digest
    assert inspected["Layers"] == [manifest.layers[0].digest]


def test_umoci_unpacks_it(tmp_path: Path) -> None:
    push(LayoutStore(tmp_path / "root"), "image", "v1")
    assert run("umoci", "ls", "--layout", str(tmp_path / "root/image")).split() == [b"v1"]
    bundle = tmp_path / "bundle"
    run("umoci", "unpack", "--rootless", "--image", f"{tmp_path}/root/image:v1", str(bundle))
    assert (bundle / "rootfs/hello.txt").read_text() == "hello"


def test_what_skopeo_wrote_is_read(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path)
    manifest = push(store, "image", "v1")
    run("skopeo", "copy", f"oci:{tmp_path}/image:v1", f"oci:{tmp_path}/copy:v2")
    assert store.tags("copy") == ["v2"]
    assert store.get_manifest("copy", "v2").layers == manifest.layers
    store.put_manifest("copy", "v3", store.get_manifest("copy", "v2"))
    assert store.tags("copy") == ["v2", "v3"]
