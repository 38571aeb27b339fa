"""The registry client against docker-registry: without a login, with passwords, with tokens."""

import base64
import io
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry_sync.client import RegistryClient, fallback_tag
from registry_sync.credentials import Credentials
from registry_sync.errors import DigestMismatchError, NotFoundError, RegistryAuthError, RegistryError
from registry_sync.manifest import (
    DOCKER_MANIFEST,
    EMPTY_JSON,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_LAYER_GZIP,
    Descriptor,
    Manifest,
    canonical_json,
    sha256_digest,
)
from tests.testbed.registry import (
    Registry,
    TokenServer,
    registry_is_installed,
    running_registry,
    running_token_server,
)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not registry_is_installed(), reason="needs docker-registry (and htpasswd)"),
]

LAYER = random.Random(7).randbytes(3_000_000)
CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
EMPTY = Descriptor(OCI_EMPTY, sha256_digest(EMPTY_JSON), len(EMPTY_JSON))


def describe(data: bytes, media_type: str = OCI_LAYER_GZIP) -> Descriptor:
    return Descriptor(media_type, sha256_digest(data), len(data))


def put(client: RegistryClient, repository: str, data: bytes, media_type: str = OCI_LAYER_GZIP) -> Descriptor:
    descriptor = describe(data, media_type)
    client.put_blob(repository, descriptor, lambda: io.BytesIO(data))
    return descriptor


def push(client: RegistryClient, repository: str, tag: str) -> Manifest:
    manifest = Manifest.image(put(client, repository, CONFIG, OCI_CONFIG), [put(client, repository, LAYER)])
    client.put_manifest(repository, tag, manifest)
    return manifest


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def client(registry: Registry) -> Iterator[RegistryClient]:
    with RegistryClient(registry.address, credentials=None) as connected:
        yield connected


def test_push_and_pull(client: RegistryClient) -> None:
    client.ping()
    manifest = push(client, "push/nested/name", "v1")
    assert client.head_manifest("push/nested/name", "v1") == manifest.descriptor()
    assert client.get_manifest("push/nested/name", "v1") == manifest
    assert client.get_manifest("push/nested/name", manifest.digest).raw == manifest.raw
    assert client.read_blob("push/nested/name", manifest.layers[0].digest) == LAYER
    assert client.head_blob("push/nested/name", manifest.layers[0].digest) == len(LAYER)


def test_docker_manifests_and_indexes_are_stored_as_they_are(client: RegistryClient) -> None:
    child = push(client, "docker", "child")
    raw = canonical_json({**child.document, "mediaType": DOCKER_MANIFEST})
    client.put_manifest("docker", "v2", Manifest(raw, DOCKER_MANIFEST))
    assert client.get_manifest("docker", "v2") == Manifest(raw, DOCKER_MANIFEST)
    index = Manifest.index([child.descriptor()])
    client.put_manifest("docker", index.digest, index)
    assert client.get_manifest("docker", index.digest) == index


def test_what_is_not_there(client: RegistryClient) -> None:
    unknown = sha256_digest(b"unknown")
    assert client.head_manifest("nothing", "v1") is None
    assert client.head_blob("nothing", unknown) is None
    assert client.tags("nothing") == []
    assert client.referrers("nothing", unknown) == []
    with pytest.raises(NotFoundError, match="MANIFEST_UNKNOWN"):
        client.get_manifest("nothing", "v1")
    with pytest.raises(NotFoundError):
        client.read_blob("nothing", unknown)


@pytest.mark.parametrize("size", [0, 1, 65536, 2_999_999])
def test_chunked_uploads(registry: Registry, size: int) -> None:
    data = LAYER[:size]
    reports: list[int] = []
    with RegistryClient(registry.address, credentials=None, chunk_bytes=65536, whole_bytes_max=-1) as client:
        client.put_blob("chunked", describe(data), lambda: io.BytesIO(data), reports.append)
        assert client.read_blob("chunked", sha256_digest(data)) == data
    assert sum(reports) == size
    assert len(reports) == -(-size // 65536)


def test_uploads_in_parallel(client: RegistryClient) -> None:
    blobs = [b"%d" % number * 1000 for number in range(32)]
    with ThreadPoolExecutor(8) as pool:
        descriptors = list(pool.map(lambda data: put(client, "parallel", data), blobs))
    assert [client.read_blob("parallel", each.digest) for each in descriptors] == blobs


def test_wrong_bytes_are_refused(client: RegistryClient) -> None:
    with pytest.raises(DigestMismatchError, match="DIGEST_INVALID"):
        client.put_blob("wrong", describe(b"right"), lambda: io.BytesIO(b"wrong"))
    with pytest.raises(DigestMismatchError, match="only 3 bytes of 5"):
        client.put_blob("wrong", describe(b"right"), lambda: io.BytesIO(b"rig"))


def test_mount(client: RegistryClient) -> None:
    digest = push(client, "mount/base", "v1").layers[0].digest
    assert client.head_blob("mount/target", digest) is None
    assert client.mount_blob("mount/target", digest, "mount/base")
    assert client.head_blob("mount/target", digest) == len(LAYER)
    assert not client.mount_blob("mount/target", sha256_digest(b"unknown"), "mount/base")


def test_tags_and_deletion(client: RegistryClient) -> None:
    for tag in ("v2", "v10", "v1"):
        manifest = push(client, "deletion", tag)
    assert client.tags("deletion") == ["v1", "v10", "v2"]
    client.delete_manifest("deletion", manifest.digest)
    assert client.head_manifest("deletion", "v1") is None
    digest = manifest.layers[0].digest
    client.delete_blob("deletion", digest)
    with pytest.raises(NotFoundError):
        client.delete_blob("deletion", digest)


def test_referrers_go_under_a_tag(client: RegistryClient) -> None:
    subject = push(client, "referrers", "v1")
    put(client, "referrers", EMPTY_JSON)
    for kind in ("application/x", "application/y"):
        artifact = Manifest.image(EMPTY, [EMPTY], subject=subject.descriptor(), artifact_type=kind)
        client.put_manifest("referrers", artifact.digest, artifact)
    assert fallback_tag(subject.digest) in client.tags("referrers")
    assert len(client.referrers("referrers", subject.digest)) == 2
    (found,) = client.referrers("referrers", subject.digest, "application/y")
    assert found.digest == artifact.digest
    client.delete_manifest("referrers", artifact.digest)
    assert client.referrers("referrers", subject.digest, "application/y") == []


def test_a_registry_that_is_restarted(tmp_path: Path) -> None:
    with running_registry(tmp_path) as first, RegistryClient(first.address, credentials=None) as client:
        push(client, "kept", "v1")
    with running_registry(tmp_path) as second, RegistryClient(second.address, credentials=None) as client:
        assert client.tags("kept") == ["v1"]


# With passwords


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("private"), users={"anna": "s3cret"}) as running:
        yield running


def test_passwords(private: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RegistryClient(private.address, credentials=Credentials("anna", "s3cret")) as client:
        manifest = push(client, "team/a", "v1")
        assert client.mount_blob("team/b", manifest.layers[0].digest, "team/a")
    auth = base64.b64encode(b"anna:s3cret").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {private.address: {"auth": auth}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with RegistryClient(private.address) as client:
        assert client.tags("team/a") == ["v1"]


def test_a_wrong_password(private: Registry) -> None:
    with (
        RegistryClient(private.address, credentials=Credentials("anna", "wr0ng")) as client,
        pytest.raises(RegistryAuthError) as refused,
    ):
        client.head_manifest("team/a", "v1")
    assert "wr0ng" not in str(refused.value)
    assert str(refused.value).startswith(
        f"{private.address} did not let us look up team/a v1 as user 'anna': "
        "check the password or token, and the permissions"
    )


def test_no_password(private: Registry) -> None:
    with (
        RegistryClient(private.address, credentials=None) as client,
        pytest.raises(RegistryAuthError, match="wants a login and no credentials for it were found"),
    ):
        client.tags("team/a")


# With tokens


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    server = TokenServer(
        users={"anna": "s3cret", "ben": "s3cret"},
        grants={"": {"base": {"pull"}}, "ben": {"ben/image": {"pull", "push"}}},
        refresh_tokens={"refresh": "anna"},
    )
    with running_token_server(server):
        yield server


@pytest.fixture
def guarded(tmp_path: Path, tokens: TokenServer) -> Iterator[Registry]:
    with running_registry(tmp_path, tokens=tokens) as running:
        yield running


def test_tokens(guarded: Registry, tokens: TokenServer) -> None:
    with RegistryClient(guarded.address, credentials=Credentials("anna", "s3cret")) as client:
        client.ping()
        manifest = push(client, "base", "v1")
        digest = manifest.layers[0].digest
        assert client.mount_blob("team/image", digest, "base")
        assert {"repository:base:pull", "repository:team/image:pull,push"} <= set(tokens.asked[-1])
        assert client.head_blob("team/image", digest) == len(LAYER)
        asked = len(tokens.asked)
        push(client, "base", "v2")
        assert len(tokens.asked) == asked  # the tokens of the first push still serve
        client.delete_manifest("base", manifest.digest)
        assert client.tags("base") == []


def test_an_identity_token(guarded: Registry) -> None:
    with RegistryClient(guarded.address, credentials=Credentials(identity_token="refresh")) as client:
        push(client, "base", "v1")
    with (
        RegistryClient(guarded.address, credentials=Credentials(identity_token="wr0ng")) as client,
        pytest.raises(RegistryAuthError, match="refused the credentials of the configured token"),
    ):
        push(client, "base", "v1")


def test_permissions(guarded: Registry) -> None:
    with RegistryClient(guarded.address, credentials=Credentials("anna", "s3cret")) as anna:
        digest = push(anna, "base", "v1").layers[0].digest
    with RegistryClient(guarded.address, credentials=None) as anonymous:
        assert anonymous.tags("base") == ["v1"]
        with pytest.raises(RegistryAuthError, match=r"did not let us store .* as anyone without a login.*docker login"):
            push(anonymous, "base", "v2")
    with RegistryClient(guarded.address, credentials=Credentials("ben", "s3cret")) as ben:
        assert not ben.mount_blob("ben/image", digest, "base")  # ben may not pull from there
        push(ben, "ben/image", "v1")
        with pytest.raises(RegistryAuthError, match=r"as user 'ben'.*permissions"):
            push(ben, "base", "v2")
    with (
        RegistryClient(guarded.address, credentials=Credentials("anna", "wr0ng")) as wrong,
        pytest.raises(RegistryAuthError, match="refused the credentials of user 'anna'") as refused,
    ):
        wrong.tags("base")
    assert "wr0ng" not in str(refused.value)


# With TLS


def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_registry(tmp_path, tls=True) as secure:
        with (
            RegistryClient(secure.address, credentials=None) as client,
            pytest.raises(RegistryError, match=r"certificate of .* is not trusted"),
        ):
            client.ping()
        with RegistryClient(secure.address, credentials=None, ca_bundle=secure.ca_bundle) as client:
            push(client, "team/image", "v1")
        monkeypatch.setenv("SSL_CERT_FILE", str(secure.ca_bundle))
        with RegistryClient(secure.address, credentials=None, insecure=False) as client:
            assert client.tags("team/image") == ["v1"]


# Last, since it is about what docker-registry 2.8 cannot do


def test_deletion_by_tag_is_refused_clearly(client: RegistryClient) -> None:
    push(client, "by-tag", "v1")
    with pytest.raises(RegistryError, match="not supported for this"):
        client.delete_manifest("by-tag", "v1")
