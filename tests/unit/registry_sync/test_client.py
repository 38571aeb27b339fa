"""The registry client against a registry with faults: manifests, blobs, listings, login, retries."""

import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from registry_sync.client import RegistryClient, fallback_tag
from registry_sync.credentials import Credentials
from registry_sync.errors import (
    DigestMismatchError,
    InvalidReferenceError,
    NotFoundError,
    RegistryAuthError,
    RegistryError,
)
from registry_sync.faults import RegistryFaultError
from registry_sync.manifest import EMPTY_JSON, OCI_CONFIG, OCI_EMPTY, Descriptor, Manifest, sha256_digest
from tests.testbed.fault_registry import FaultRegistry, running_fault_registry

EMPTY = Descriptor(OCI_EMPTY, sha256_digest(EMPTY_JSON), len(EMPTY_JSON))
DATA = bytes(range(256)) * 1000
UNKNOWN = sha256_digest(b"unknown")


def image(number: int = 1) -> Manifest:
    return Manifest.image(Descriptor(OCI_CONFIG, sha256_digest(b"%d" % number), 1), [])


def artifact(subject: Manifest, kind: str) -> Manifest:
    return Manifest.image(EMPTY, [], subject=subject.descriptor(), artifact_type=kind, annotations={"kind": kind})


# Manifests


def test_manifests(client: RegistryClient, registry: FaultRegistry) -> None:
    client.ping()
    manifest = image()
    client.put_manifest("team/a", "v1", manifest)
    assert client.head_manifest("team/a", "v1") == manifest.descriptor()
    assert client.get_manifest("team/a", "v1") == manifest
    assert client.get_manifest("team/a", manifest.digest).raw == manifest.raw
    assert client.head_manifest("team/a", "v2") is None
    with pytest.raises(NotFoundError, match="team/a v2"):
        client.get_manifest("team/a", "v2")
    accepted = registry.seen("HEAD", "manifests")[0].headers["Accept"]
    assert accepted.count("application/vnd.") == 4
    assert registry.seen("GET", "manifests")[0].headers["User-Agent"].startswith("casabinder")
    client.delete_manifest("team/a", "v1")
    assert client.head_manifest("team/a", "v1") is None
    client.delete_manifest("team/a", manifest.digest)
    with pytest.raises(NotFoundError):
        client.delete_manifest("team/a", manifest.digest)


def test_a_manifest_with_other_bytes_is_refused(client: RegistryClient, registry: FaultRegistry) -> None:
    manifest = image()
    client.put_manifest("a", "v1", manifest)
    registry.faults.wrong_bytes = True
    for reference in ("v1", manifest.digest):
        with pytest.raises(DigestMismatchError):
            client.get_manifest("a", reference)
    with pytest.raises(DigestMismatchError):
        client.put_manifest("a", UNKNOWN, manifest)


def test_a_manifest_whose_blobs_others_bring_at_the_same_time_is_put_again(
    client: RegistryClient, registry: FaultRegistry, pauses: list[float]
) -> None:
    registry.faults.deny_blobs = 2
    client.put_manifest("a", "tag", image())
    assert client.get_manifest("a", "tag") == image()
    assert len(pauses) == 2
    registry.faults.deny_blobs = 100
    with pytest.raises(RegistryFaultError, match="MANIFEST_BLOB_UNKNOWN"):
        client.put_manifest("a", "tag", image())
    assert sum(pauses) < 10


def test_a_head_without_headers_falls_back_to_get(client: RegistryClient, registry: FaultRegistry) -> None:
    client.put_manifest("a", "v1", image())
    registry.faults.without_head_headers = True
    assert client.head_manifest("a", "v1") == image().descriptor()


@pytest.mark.parametrize("name", ["../a", "A", "a?b", "a/../b"])
def test_names_are_checked_before_they_become_a_path(
    client: RegistryClient, registry: FaultRegistry, name: str
) -> None:
    with pytest.raises(InvalidReferenceError):
        client.head_manifest(name, "v1")
    with pytest.raises(InvalidReferenceError):
        client.head_manifest("a", f"{name}/x")
    with pytest.raises(InvalidReferenceError):
        client.mount_blob("a", UNKNOWN, name)
    assert registry.requests == []


# Blobs


def test_blobs(client: RegistryClient, registry: FaultRegistry) -> None:
    digest = registry.add_blob("a", DATA)
    assert client.head_blob("a", digest) == len(DATA)
    assert client.read_blob("a", digest) == DATA
    assert client.head_blob("b", digest) is None
    with pytest.raises(NotFoundError):
        client.read_blob("b", digest)
    with pytest.raises(RegistryError, match="more than 10 bytes"):
        client.read_blob("a", digest, limit=10)
    client.delete_blob("a", digest)
    with pytest.raises(NotFoundError):
        client.delete_blob("a", digest)


@pytest.mark.parametrize("ignore_range", [False, True])
def test_a_download_goes_on_where_it_broke(
    client: RegistryClient, registry: FaultRegistry, pauses: list[float], ignore_range: bool
) -> None:
    digest = registry.add_blob("a", DATA)
    registry.faults.truncate_blobs = 3
    registry.faults.ignore_range = ignore_range
    assert client.read_blob("a", digest) == DATA
    assert len(pauses) == 3


def test_a_download_that_stays_broken_is_a_fault(client: RegistryClient, registry: FaultRegistry) -> None:
    digest = registry.add_blob("a", DATA)
    registry.faults.truncate_blobs = 1000
    with pytest.raises(RegistryError, match="no connection"):
        client.read_blob("a", digest)


def test_other_bytes_than_the_digest_says(client: RegistryClient, registry: FaultRegistry) -> None:
    digest = registry.add_blob("a", DATA)
    registry.faults.wrong_bytes = True
    with pytest.raises(DigestMismatchError, match=digest), client.open_blob("a", digest) as chunks:
        for _ in chunks:
            pass


def test_a_redirect_takes_no_login_along(client: RegistryClient, registry: FaultRegistry) -> None:
    digest = registry.add_blob("a", DATA)
    registry.faults.basic = ("anna", "s3cret")
    with running_fault_registry() as other:
        other.add_blob("a", DATA)
        registry.faults.redirect_blobs_to = f"http://{other.address}"
        with RegistryClient(registry.address, credentials=Credentials("anna", "s3cret"), insecure=True) as anna:
            assert anna.read_blob("a", digest) == DATA
        assert other.requests
        assert all(request.authorization is None for request in other.requests)
        other.faults.basic = ("anna", "s3cret")  # nor is it given when asked for
        with (
            RegistryClient(registry.address, credentials=Credentials("anna", "s3cret"), insecure=True) as anna,
            pytest.raises(RegistryAuthError) as refused,
        ):
            anna.read_blob("a", digest)
        assert all(request.authorization is None for request in other.requests)
        assert "signature" not in str(refused.value)


def test_redirects_end(client: RegistryClient, registry: FaultRegistry) -> None:
    digest = registry.add_blob("a", DATA)
    registry.faults.redirect_blobs_to = f"http://{registry.address}"
    with pytest.raises(RegistryError, match="redirects more than"):
        client.read_blob("a", digest)


# Mounts


def test_mount(client: RegistryClient, registry: FaultRegistry) -> None:
    digest = registry.add_blob("base", DATA)
    assert client.mount_blob("a", digest, "base")
    assert client.head_blob("a", digest) == len(DATA)


def test_a_202_is_no_mount_and_its_session_is_cancelled(client: RegistryClient, registry: FaultRegistry) -> None:
    digest = registry.add_blob("base", DATA)
    registry.faults.mount_answers_202 = True
    assert not client.mount_blob("a", digest, "base")
    assert len(registry.cancelled) == 1
    assert registry.sessions == {}


@pytest.mark.parametrize("status", [400, 403, 404, 405])
def test_a_refused_mount_is_no_mount(client: RegistryClient, registry: FaultRegistry, status: int) -> None:
    registry.faults.mount_status = status
    assert not client.mount_blob("a", UNKNOWN, "base")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_fault_at_a_mount_is_a_fault(client: RegistryClient, registry: FaultRegistry, status: int) -> None:
    registry.faults.mount_status = status
    with pytest.raises(RegistryError, match=str(status)):
        client.mount_blob("a", UNKNOWN, "base")


# Listings and referrers


def test_tags_on_many_pages(client: RegistryClient, registry: FaultRegistry) -> None:
    assert client.tags("a") == []
    registry.repository("a")
    assert client.tags("a") == []
    for tag in ("v3", "v1", "v2", "V0", "w"):
        client.put_manifest("a", tag, image())
    registry.faults.page_size = 2
    assert client.tags("a") == ["V0", "v1", "v2", "v3", "w"]
    assert len(registry.seen("GET", "tags/list")) == 5


def test_repositories_on_many_pages(client: RegistryClient, registry: FaultRegistry) -> None:
    assert client.repositories() == []
    for name in ("team/b", "a", "team/a"):
        registry.repository(name)
    registry.faults.page_size = 2
    assert client.repositories() == ["a", "team/a", "team/b"]
    registry.faults.without_catalogue = True
    with pytest.raises(RegistryError, match="does not list its repositories; name them"):
        client.repositories()


def test_requests_and_bytes_are_counted(client: RegistryClient, registry: FaultRegistry) -> None:
    before = client.traffic
    stored = image()
    client.put_manifest("a", "v1", stored)
    client.tags("a")
    assert client.traffic.requests - before.requests >= len(registry.seen("PUT")) + len(registry.seen("GET", "tags"))
    assert client.traffic.sent - before.sent == len(stored.raw)


@pytest.mark.parametrize("without_filter", [False, True])
def test_referrers(client: RegistryClient, registry: FaultRegistry, without_filter: bool) -> None:
    registry.faults.without_filter = without_filter
    registry.faults.page_size = 1
    subject = image()
    attached = [artifact(subject, f"application/{kind}") for kind in "xyz"]
    for manifest in attached:
        client.put_manifest("a", manifest.digest, manifest)
    assert {entry.digest for entry in client.referrers("a", subject.digest)} == {each.digest for each in attached}
    assert [entry.digest for entry in client.referrers("a", subject.digest, "application/y")] == [attached[1].digest]
    assert registry.repository("a").tags == {}


def test_referrers_without_the_api_are_kept_under_a_tag(client: RegistryClient, registry: FaultRegistry) -> None:
    registry.faults.without_subject = True
    subject = image()
    assert client.referrers("a", subject.digest) == []
    one, two = artifact(subject, "application/x"), artifact(subject, "application/y")
    for manifest in (one, two, one):
        client.put_manifest("a", manifest.digest, manifest)
    assert client.tags("a") == [fallback_tag(subject.digest)]
    assert [entry.digest for entry in client.referrers("a", subject.digest)] == [one.digest, two.digest]
    (found,) = client.referrers("a", subject.digest, "application/y")
    assert (found.digest, found.annotations) == (two.digest, {"kind": "application/y"})
    client.delete_manifest("a", one.digest)
    assert [entry.digest for entry in client.referrers("a", subject.digest)] == [two.digest]


def test_a_fault_is_never_an_empty_list(client: RegistryClient, registry: FaultRegistry) -> None:
    for call in (
        lambda: client.referrers("a", UNKNOWN),
        lambda: client.tags("a"),
        lambda: client.head_blob("a", UNKNOWN),
    ):
        registry.faults.fail_next = [(method, 503, {}) for method in ("GET", "HEAD") for _ in range(6)]
        with pytest.raises(RegistryError, match="503"):
            call()


def test_deletion_disabled(client: RegistryClient, registry: FaultRegistry) -> None:
    client.put_manifest("a", "v1", image())
    digest = registry.add_blob("a", DATA)
    registry.faults.deletion_disabled = True
    with pytest.raises(RegistryError, match="deletion is disabled"):
        client.delete_manifest("a", "v1")
    with pytest.raises(RegistryError, match="deletion is disabled"):
        client.delete_blob("a", digest)


# Retries


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_fault_that_passes(client: RegistryClient, registry: FaultRegistry, pauses: list[float], status: int) -> None:
    registry.faults.fail_next = [("GET", status, {})] * 3
    client.ping()
    assert len(pauses) == 3
    assert 0.25 <= pauses[0] <= 0.5 <= pauses[1] <= 1.0 <= pauses[2] <= 2.0


def test_retry_after_is_honoured_within_reason(
    client: RegistryClient, registry: FaultRegistry, pauses: list[float]
) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    registry.faults.fail_next = [("GET", 429, {"Retry-After": value}) for value in ("7", date, "100000", "soon")]
    client.ping()
    assert pauses[0] == 7
    assert 25 <= pauses[1] <= 30
    assert pauses[2] == 120
    assert pauses[3] < 10


def test_a_broken_connection_is_tried_again(
    client: RegistryClient, registry: FaultRegistry, pauses: list[float]
) -> None:
    registry.faults.break_next = ["GET", "GET"]
    client.ping()
    assert len(pauses) == 2


def test_a_fault_that_stays_is_one_clear_sentence(client: RegistryClient, registry: FaultRegistry) -> None:
    registry.faults.fail_next = [("GET", 503, {})] * 6
    with pytest.raises(RegistryError) as fault:
        client.get_manifest("a", "v1")
    assert str(fault.value) == (
        f"{registry.address} could not read the manifest a v1: it answered 503 Service Unavailable (tried 6 times)"
    )


def test_nobody_there(pauses: list[float]) -> None:
    with running_fault_registry() as gone:
        address = gone.address
    for insecure in (True, None):
        with (
            RegistryClient(address, credentials=None, insecure=insecure, sleep=pauses.append) as client,
            pytest.raises(RegistryError, match=f"no connection to {address} .*Connection refused.*tried 3 times"),
        ):
            client.head_manifest("a", "v1")
    assert len(pauses) == 4, "a registry that never answered is given up sooner than one that did"


def test_what_is_no_registry(client: RegistryClient, registry: FaultRegistry) -> None:
    registry.faults.fail_next = [("GET", 404, {})]
    with pytest.raises(RegistryError, match="not a registry"):
        client.ping()
    registry.faults.fail_next = [("GET", 200, {})]
    with pytest.raises(RegistryError, match="not JSON"):
        client.tags("a")


def test_a_loopback_registry_without_tls_is_found(registry: FaultRegistry) -> None:
    with RegistryClient(registry.address, credentials=None) as client:
        client.ping()
    with (
        RegistryClient(registry.address, credentials=None, insecure=False, sleep=lambda _: None) as client,
        pytest.raises(RegistryError, match="no connection"),
    ):
        client.ping()


# Login


def test_basic(client: RegistryClient, registry: FaultRegistry) -> None:
    registry.faults.basic = ("anna", "s3cret")
    with pytest.raises(RegistryAuthError, match=f"docker login {registry.address}"):
        client.ping()
    asked: list[str] = []

    def lookup(host: str) -> Credentials:
        asked.append(host)
        return Credentials("anna", "s3cret")

    with RegistryClient(registry.address, credentials=lookup, insecure=True) as anna:
        anna.ping()
        anna.tags("a")
    assert asked == [registry.address]
    with (
        RegistryClient(registry.address, credentials=Credentials("anna", "wr0ng"), insecure=True) as anna,
        pytest.raises(RegistryAuthError, match="user 'anna'") as refused,
    ):
        anna.ping()
    assert "wr0ng" not in str(refused.value)
    assert "YW5uYT" not in str(refused.value)


def test_a_token_is_taken_once_and_again_when_it_is_used_up(client: RegistryClient, registry: FaultRegistry) -> None:
    registry.faults.token_requests = 3
    digest = registry.add_blob("a", DATA)
    for _ in range(6):
        assert client.head_blob("a", digest) == len(DATA)
    assert len(registry.token_scopes) == 2
    assert "repository:a:pull" in registry.token_scopes[0]


def test_a_mount_asks_for_both_repositories(client: RegistryClient, registry: FaultRegistry) -> None:
    registry.faults.token_requests = 3
    digest = registry.add_blob("base", DATA)
    assert client.mount_blob("a", digest, "base")
    assert {"repository:base:pull", "repository:a:pull,push"} <= set(registry.token_scopes[0])


def test_threads_share_a_client(client: RegistryClient, registry: FaultRegistry) -> None:
    registry.faults.token_requests = 1000
    digests = [registry.add_blob("a", b"%d" % number) for number in range(40)]
    sizes: list[int | None] = []
    threads = [
        threading.Thread(target=lambda part=part: sizes.extend(client.head_blob("a", digest) for digest in part))
        for part in (digests[start::8] for start in range(8))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sizes) == 40
    assert None not in sizes


def test_signed_urls_are_not_logged(
    client: RegistryClient, registry: FaultRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    digest = registry.add_blob("a", DATA)
    with running_fault_registry() as other, caplog.at_level("INFO"):
        other.add_blob("a", DATA)
        other.faults.truncate_blobs = 1
        registry.faults.redirect_blobs_to = f"http://{other.address}"
        assert client.read_blob("a", digest) == DATA
    assert "going on at byte" in caplog.text
    assert "signature" not in caplog.text
