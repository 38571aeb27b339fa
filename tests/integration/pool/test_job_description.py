"""What a worker's job may ask of a real pool: a network of its own, GPUs, images that are there before it.

The pool is at the address of Docker's bridge, which containers with a network of their own reach as well as this machine.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from builder.container.engine import docker
from tests.testbed.launching import build_repository, engine_answers, open_facility
from tests.testbed.pool import running_pool
from tests.testbed.pool_session import running_pool_session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.record import ImageRecord
    from tests.testbed.pool import RunningPool

pytestmark = [pytest.mark.integration, pytest.mark.skipif(not engine_answers(), reason="there is no Docker Engine")]

KNOWABLE_SECONDS = 10
JOIN_SECONDS = 90

EXCHANGE = """
import json
import dask.array
client.wait_for_workers(2, timeout=%d)
numbers = dask.array.random.random((2000, 2000), chunks=(500, 500)).persist()
doubled = (numbers + numbers.T).persist()
error = abs((doubled - doubled.T).sum().compute())
moved = list(client.run(lambda dask_worker: len(dask_worker.transfer_incoming_log)).values())
inside = client.run(lambda dask_worker: dask_worker.listener.listen_address)
print(json.dumps([error, moved, inside]))
"""


@pytest.fixture(scope="module")
def image() -> Iterator[ImageRecord]:
    """The notebook's image."""
    with open_facility() as context:
        yield build_repository(context, "pool-session", {"helper.py": "def tenfold(number):\n    return 10 * number\n"})


@pytest.fixture(scope="module")
def bridge() -> str:
    """The address of this machine on Docker's default network."""
    [config] = json.loads(docker("network", "inspect", "bridge", "--format", "{{json .IPAM.Config}}"))
    gateway: str = config.get("Gateway") or f"{config['Subnet'].rpartition('.')[0]}.1"
    return gateway


@pytest.fixture(scope="module")
def pool(bridge: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPool]:
    with running_pool(tmp_path_factory.mktemp("pool") / "pool", address=bridge) as running:
        yield running


def jobs(pool: RunningPool) -> list[dict[str, Any]]:
    """Return the workers' jobs that are idle, running or held."""
    return pool.queue("CasabinderWorker =!= undefined && JobStatus != 3 && JobStatus != 4")


def test_workers_behind_forwarded_ports_exchange_data(
    pool: RunningPool, bridge: str, image: ImageRecord, tmp_path: Path
) -> None:
    options = {"address": bridge, "network": "nat", "workers": 2}
    with running_pool_session(tmp_path, pool, image.image, **options) as session:
        error, moved, inside = json.loads(session.run(EXCHANGE % JOIN_SECONDS))
        assert error < 1e-6
        assert all(moved), "each worker has fetched blocks of the other"
        assert len(inside) == 2
        for contact, listening in inside.items():
            assert contact.startswith(f"tls://{bridge}:")
            assert listening == "tls://0.0.0.0:8788"
        forwarded = {f"tls://{bridge}:{ad['dask_HostPort']}" for ad in jobs(pool) if "dask_HostPort" in ad}
        assert forwarded <= set(inside)


def test_no_slot_with_a_gpu_is_said(pool: RunningPool, bridge: str, image: ImageRecord, tmp_path: Path) -> None:
    options = {"address": bridge, "workers": 1, "gpus": 1, "cuda_driver": "12.4"}
    with running_pool_session(tmp_path, pool, image.image, **options) as session:
        message = session.wait_for("no free slot has a GPU", 3 * KNOWABLE_SECONDS)
        [ad] = jobs(pool)
    assert (
        "1 idle in the queue: no free slot has a GPU whose driver supports CUDA 12.4 with 1 core, 1.00 GiB" in message
    )
    assert ad["RequestGPUs"] == 1
    assert ad["GPUsMinRuntime"] == 12040
    assert "countMatches(MY.RequireGPUs,TARGET.AvailableGPUs) >= RequestGPUs" in ad["Requirements"]
    assert "MaxSupportedVersion >= GPUsMinRuntime" in ad["RequireGPUs"]
