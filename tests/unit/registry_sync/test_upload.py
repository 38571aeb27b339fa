"""Uploads against a registry with faults: whole and chunked, going on, starting over, giving up."""

import io
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry_sync.client import RegistryClient
from registry_sync.errors import DigestMismatchError, RegistryAuthError, RegistryError
from registry_sync.manifest import Descriptor, sha256_digest
from tests.testbed.fault_registry import FaultRegistry

SMALL = b"a" * 99
LARGE = bytes(range(250))  # seven chunks of 40 bytes


class Pipe(io.BytesIO):
    """Bytes that can only be read from the start to the end."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: object) -> int:
        raise io.UnsupportedOperation


def describe(data: bytes) -> Descriptor:
    return Descriptor("application/octet-stream", sha256_digest(data), len(data))


def put(client: RegistryClient, data: bytes, kind: type[io.BytesIO] = io.BytesIO) -> list[int]:
    """Upload ``data`` to repository ``a``; return the progress reports."""
    reports: list[int] = []
    opened: list[BinaryIO] = []

    def source() -> BinaryIO:
        opened.append(kind(data))
        return opened[-1]

    client.put_blob("a", describe(data), source, reports.append)
    assert all(file.closed for file in opened)
    return reports


def stored(registry: FaultRegistry, data: bytes) -> bool:
    return registry.repository("a").blobs.get(sha256_digest(data)) == data and not registry.sessions


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("data", [b"", b"x", SMALL, LARGE])
def test_upload(client: RegistryClient, registry: FaultRegistry, data: bytes, absolute: bool) -> None:
    registry.faults.absolute_location = absolute
    assert sum(put(client, data)) == len(data)
    assert stored(registry, data)
    assert len(registry.seen("PATCH")) == (7 if data == LARGE else 0)


def test_the_registry_s_least_chunk_is_respected(client: RegistryClient, registry: FaultRegistry) -> None:
    registry.faults.chunk_min_length = 90
    put(client, LARGE)
    assert [request.body_bytes for request in registry.seen("PATCH")] == [90, 90, 70]


@pytest.mark.parametrize("kind", [io.BytesIO, Pipe])
@pytest.mark.parametrize("fault", ["lose_chunks", "partial_chunks"])
def test_an_upload_goes_on_where_the_registry_is(
    client: RegistryClient, registry: FaultRegistry, fault: str, kind: type[io.BytesIO]
) -> None:
    setattr(registry.faults, fault, 2)
    assert sum(put(client, LARGE, kind)) == len(LARGE)
    assert stored(registry, LARGE)
    assert len(registry.seen("POST")) == 1


@pytest.mark.parametrize("kind", [io.BytesIO, Pipe])
def test_a_broken_connection_costs_at_most_a_chunk(
    client: RegistryClient, registry: FaultRegistry, kind: type[io.BytesIO]
) -> None:
    registry.faults.break_next = ["PATCH", "PATCH"]
    assert sum(put(client, LARGE, kind)) == len(LARGE)
    assert stored(registry, LARGE)
    assert len(registry.seen("POST")) == 1
    assert sum(request.body_bytes for request in registry.seen("PATCH")) == len(LARGE)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_refused_chunk_is_sent_again(
    client: RegistryClient, registry: FaultRegistry, pauses: list[float], status: int
) -> None:
    registry.faults.fail_next = [("PATCH", status, {"Retry-After": "9"})]
    put(client, LARGE)
    assert stored(registry, LARGE)
    assert pauses == [9]


def test_a_token_that_expires_on_the_way_is_renewed(client: RegistryClient, registry: FaultRegistry) -> None:
    registry.faults.token_requests = 3
    assert sum(put(client, LARGE)) == len(LARGE)
    assert stored(registry, LARGE)
    assert len(registry.token_scopes) == 3
    assert len(registry.seen("POST")) == 2  # the first one is refused


def test_a_lost_session_starts_over(client: RegistryClient, registry: FaultRegistry) -> None:
    registry.faults.lose_sessions = 2
    assert sum(put(client, LARGE)) == len(LARGE)
    assert stored(registry, LARGE)
    assert len(registry.seen("POST")) == 3


def test_sessions_are_not_lost_forever(client: RegistryClient, registry: FaultRegistry) -> None:
    registry.faults.lose_sessions = 1000
    with pytest.raises(RegistryError, match=r"broke off the upload .* 4 times"):
        put(client, LARGE)


@pytest.mark.parametrize("fault", ["break", "503", "404"])
def test_a_whole_upload_that_broke_goes_on_in_chunks(
    client: RegistryClient, registry: FaultRegistry, fault: str
) -> None:
    if fault == "break":
        registry.faults.break_next = ["PUT"]
    else:
        registry.faults.fail_next = [("PUT", int(fault), {})]
    assert put(client, SMALL) == [40, 40, 19]
    assert stored(registry, SMALL)
    assert len(registry.cancelled) == 1


def test_a_blob_whose_answer_was_lost_is_not_sent_again(client: RegistryClient, registry: FaultRegistry) -> None:
    registry.faults.fail_next = [("PUT", 504, {})]
    registry.add_blob("a", SMALL)  # what the registry did before its proxy gave up
    assert sum(put(client, SMALL)) == len(SMALL)
    assert registry.seen("PATCH") == []


@pytest.mark.parametrize("data", [SMALL, LARGE])
def test_an_upload_without_permission_is_cancelled(
    client: RegistryClient, registry: FaultRegistry, data: bytes
) -> None:
    registry.faults.fail_next = [("PUT", 403, {}), ("PATCH", 403, {})]
    with pytest.raises(RegistryAuthError, match="did not let us store"):
        put(client, data)
    assert len(registry.cancelled) == 1
    assert registry.sessions == {}


@pytest.mark.parametrize("size", [99, 250])
@pytest.mark.parametrize("found", [b"", b"b" * 98, b"b" * 251, b"b" * 99, b"b" * 250])
def test_a_source_with_other_bytes_is_refused(
    client: RegistryClient, registry: FaultRegistry, size: int, found: bytes
) -> None:
    with pytest.raises(DigestMismatchError):
        client.put_blob("a", describe(b"a" * size), lambda: io.BytesIO(found))
    assert registry.sessions == {}
    assert registry.repository("a").blobs == {}


def test_an_upload_given_up_by_the_user_is_cancelled(client: RegistryClient, registry: FaultRegistry) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.put_blob("a", describe(LARGE), lambda: io.BytesIO(LARGE), interrupt)
    assert len(registry.cancelled) == 1


faults = st.lists(st.sampled_from(["break", "503", "416", "lost", "partial", "token"]), max_size=4)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(0, 300), chosen=faults, sequential=st.booleans())
def test_whatever_passes_the_blob_arrives_and_each_byte_is_reported_once(
    client: RegistryClient, registry: FaultRegistry, size: int, chosen: list[str], sequential: bool
) -> None:
    registry.repositories.clear()
    registry.sessions.clear()
    registry.tokens.clear()
    registry.faults.break_next = ["PATCH"] * chosen.count("break")
    registry.faults.fail_next = [("PATCH", 503, {})] * chosen.count("503")
    registry.faults.lose_chunks = chosen.count("416")
    registry.faults.lose_sessions = min(3, chosen.count("lost"))
    registry.faults.partial_chunks = chosen.count("partial")
    registry.faults.token_requests = 3 if "token" in chosen else None
    data = bytes(number % 251 for number in range(size))
    assert sum(put(client, data, Pipe if sequential else io.BytesIO)) == size
    assert registry.repository("a").blobs == {sha256_digest(data): data}


class TestGrowing:
    """A file that is uploaded while it is written."""

    def test_in_pieces(self, client: RegistryClient, registry: FaultRegistry) -> None:
        file = io.BytesIO(LARGE)
        with client.upload_growing("a", file) as upload:
            for end in (40, 40, 100, 90):
                upload.send(end)
            assert upload.commit(describe(LARGE))
        assert stored(registry, LARGE)
        assert [request.body_bytes for request in registry.seen("PATCH")] == [40, 60, 150]
        assert file.closed

    def test_nothing_is_sent_before_there_is_something(self, client: RegistryClient, registry: FaultRegistry) -> None:
        with client.upload_growing("a", io.BytesIO(SMALL)):
            pass
        assert not registry.requests

    @pytest.mark.parametrize(
        ("fault", "value"),
        [("lose_chunks", 1), ("partial_chunks", 1), ("lose_sessions", 1), ("break_next", ["PATCH"])],
    )
    def test_a_fault_ends_it_and_leaves_no_session(
        self, client: RegistryClient, registry: FaultRegistry, fault: str, value: object
    ) -> None:
        setattr(registry.faults, fault, value)
        with client.upload_growing("a", io.BytesIO(LARGE)) as upload:
            upload.send(100)
            upload.send(200)
            assert not upload.commit(describe(LARGE))
        assert not registry.sessions
        assert not stored(registry, LARGE)
        put(client, LARGE)
        assert stored(registry, LARGE)

    def test_a_wrong_digest_is_not_taken(self, client: RegistryClient, registry: FaultRegistry) -> None:
        with client.upload_growing("a", io.BytesIO(LARGE)) as upload:
            upload.send(100)
            assert not upload.commit(Descriptor("application/octet-stream", sha256_digest(SMALL), len(LARGE)))
        assert not registry.sessions

    def test_a_layer_that_fails_is_cancelled(self, client: RegistryClient, registry: FaultRegistry) -> None:
        def fails() -> None:
            with client.upload_growing("a", io.BytesIO(LARGE)) as upload:
                upload.send(100)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fails()
        assert not registry.sessions
        assert not registry.repository("a").blobs
