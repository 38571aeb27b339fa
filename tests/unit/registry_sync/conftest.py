"""A registry with switchable faults, and a client for it that does not wait."""

from collections.abc import Iterator

import pytest

from registry_sync.client import RegistryClient
from tests.testbed.fault_registry import FaultRegistry, running_fault_registry


@pytest.fixture
def registry() -> Iterator[FaultRegistry]:
    with running_fault_registry() as running:
        yield running


@pytest.fixture
def pauses() -> list[float]:
    """The seconds the client would have slept."""
    return []


@pytest.fixture
def client(registry: FaultRegistry, pauses: list[float]) -> Iterator[RegistryClient]:
    """Uploads up to 100 bytes whole, and more in chunks of 40 bytes."""
    with RegistryClient(
        registry.address,
        credentials=None,
        insecure=True,
        timeout=10,
        sleep=pauses.append,
        chunk_bytes=40,
        whole_bytes_max=100,
    ) as connected:
        yield connected
