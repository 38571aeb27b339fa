"""Manifests and descriptors: bytes are kept, JSON is canonical, nonsense is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_sync.errors import RegistryError
from registry_sync.manifest import (
    DOCKER_MANIFEST,
    EMPTY_JSON,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    canonical_json,
    sha256_digest,
)

CONFIG = Descriptor(OCI_CONFIG, sha256_digest(b"config"), 6)
LAYER = Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", sha256_digest(b"layer"), 5)

descriptors = st.builds(
    Descriptor,
    media_type=st.sampled_from([OCI_MANIFEST, OCI_CONFIG]),
    digest=st.binary(max_size=4).map(sha256_digest),
    size=st.integers(0, 2**40),
    annotations=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
    artifact_type=st.none() | st.just("application/x"),
    platform=st.none() | st.just({"os": "linux", "architecture": "amd64"}),
)


@given(descriptors)
def test_a_descriptor_survives_json(descriptor: Descriptor) -> None:
    assert Descriptor.from_json(json.loads(canonical_json(descriptor.to_json()))) == descriptor


def test_the_bytes_of_a_manifest_are_kept() -> None:
    raw = json.dumps(Manifest.image(CONFIG, [LAYER]).document, indent=3).encode()
    manifest = Manifest.parse(raw)
    assert manifest.raw == raw
    assert manifest.digest == sha256_digest(raw)
    assert manifest.layers == (LAYER,)
    assert manifest.config == CONFIG
    assert manifest.artifact_type == OCI_CONFIG


def test_making_a_manifest_twice_gives_the_same_bytes() -> None:
    first = Manifest.image(CONFIG, [LAYER], annotations={"b": "1", "a": "2"})
    second = Manifest.image(CONFIG, [LAYER], annotations={"a": "2", "b": "1"})
    assert first.raw == second.raw
    assert first.annotations == {"a": "2", "b": "1"}


def test_media_types() -> None:
    image, index = Manifest.image(CONFIG, []), Manifest.index([])
    assert Manifest.parse(image.raw, DOCKER_MANIFEST).media_type == DOCKER_MANIFEST
    assert Manifest.parse(image.raw, "text/plain").media_type == OCI_MANIFEST
    assert Manifest.parse(b'{"manifests":[]}').media_type == OCI_INDEX
    assert index.is_index
    assert not image.is_index
    assert index.artifact_type is None


def test_an_artifact_has_a_subject() -> None:
    image = Manifest.image(CONFIG, [LAYER])
    empty = Descriptor(OCI_EMPTY, sha256_digest(EMPTY_JSON), 2)
    artifact = Manifest.image(empty, [empty], subject=image.descriptor(), artifact_type="application/x")
    assert artifact.subject == image.descriptor()
    assert artifact.artifact_type == "application/x"
    assert image.subject is None


@pytest.mark.parametrize("raw", [b"", b"<html>", b"[]", b'"text"'])
def test_what_is_not_a_manifest_is_refused(raw: bytes) -> None:
    with pytest.raises(RegistryError, match="manifest"):
        Manifest.parse(raw)


def test_a_broken_descriptor_is_refused() -> None:
    with pytest.raises(RegistryError, match="digest"):
        Manifest.parse(b'{"layers":[{"mediaType":"x"}]}').layers  # noqa: B018 - reading it is the test
