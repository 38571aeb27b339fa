"""What a worker's job may ask of a real pool: a network of its own, GPUs, images that are there before it.

The pool is at the address of Docker's bridge, which this machine and containers with a network of their own reach.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from casabinder_runtime.pools.submission import PoolSite, WorkerIdentity, WorkerShape, describe

from builder.container.engine import docker
from launcher.cli import main
from launcher.pools.doctor import examine_pool
from launcher.pools.prepull import Prepulls, Tally, prepull
from launcher.pools.site_pool import BatchPool
from launcher.site_config import load_site
from tests.testbed.launching import build_repository, engine_answers, open_facility
from tests.testbed.pool import IDLE, running_pool
from tests.testbed.pool_session import running_pool_session
from tests.testbed.pool_site import write_pool_site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.record import ImageRecord
    from tests.testbed.pool import RunningPool
    from tests.testbed.pool_session import PoolSession

pytestmark = [pytest.mark.integration, pytest.mark.skipif(not engine_answers(), reason="there is no Docker Engine")]

KNOWABLE_SECONDS = 10
JOIN_SECONDS = 90

EXCHANGE = """
import json
import dask.array
while set(cluster.workers) != set(%s): time.sleep(0.1)
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


def forwarded(pool: RunningPool, bridge: str, before: set[str]) -> set[str]:
    """Return where two workers are reached, as soon as HTCondor says so of other runs than those at ``before``."""
    deadline = time.monotonic() + JOIN_SECONDS
    while True:
        ads = jobs(pool)
        found = {f"tls://{bridge}:{ad['dask_HostPort']}" for ad in ads if isinstance(ad.get("dask_HostPort"), int)}
        if len(found) == 2 and not found & before:
            return found
        assert time.monotonic() < deadline, f"{before}, {found}\n{ads}\n{pool.logs()}"
        time.sleep(0.2)


def test_workers_behind_forwarded_ports_exchange_data(
    pool: RunningPool, bridge: str, image: ImageRecord, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"address": bridge, "network": "nat", "workers": 2}
    with running_pool_session(tmp_path, pool, image.image, **options) as session:
        reached = forwarded(pool, bridge, set())
        exchange(session, reached)
        pool.lose_shadows()  # HTCondor starts the same jobs again, whose ads have the ports of these runs
        exchange(session, forwarded(pool, bridge, reached))
        assert all(ad["NumJobStarts"] > 1 for ad in jobs(pool))


def exchange(session: PoolSession, reached: set[str]) -> None:
    """Have two workers fetch blocks of each other, when they are the ones at these addresses."""
    error, moved, inside = json.loads(session.run(EXCHANGE % sorted(reached)))
    assert error < 1e-6
    assert len(moved) == 2
    assert all(moved), "each worker has fetched blocks of the other"
    assert inside == dict.fromkeys(reached, "tls://0.0.0.0:8788")


def test_no_slot_with_a_gpu_is_said(pool: RunningPool, bridge: str, image: ImageRecord, tmp_path: Path) -> None:
    options: dict[str, Any] = {"address": bridge, "workers": 1, "gpus": 1, "cuda_driver": "12.4"}
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


NOWHERE = 'FileSystemDomain == "nowhere"'
NAME = "registry.example.org/casabinder/x:0123456789abcdef"
DIRECTIVES = {"MY.Project": '"cms"', "concurrency_limits": "casabinder"}
IN_DOCKER = PoolSite(NAME, requirements=NOWHERE)
IN_APPTAINER = PoolSite("/cvmfs/unpacked.example.org/" + NAME, universe="container", requirements=NOWHERE)
TAKEN: dict[str, tuple[PoolSite, dict[str, object], str]] = {
    "host": (IN_DOCKER, {"DockerImage": NAME, "DockerNetworkType": "host", "KeepClaimIdle": 600}, "TARGET.HasDocker"),
    "nat": (
        replace(IN_DOCKER, network="nat"),
        {"DockerNetworkType": "nat", "ContainerServiceNames": "dask", "dask_ContainerPort": 8788},
        "TARGET.HasDocker",
    ),
    "account": (
        replace(IN_DOCKER, accounting_group="cms.alice", keep_claim_seconds=60, directives=DIRECTIVES),
        {"AcctGroup": "cms.alice", "KeepClaimIdle": 60, "Project": "cms", "ConcurrencyLimits": "casabinder"},
        NOWHERE,
    ),
    "unpacked": (
        IN_APPTAINER,
        {"ContainerImage": IN_APPTAINER.image, "TransferContainer": False, "WantSandboxImage": True},
        "TARGET.HasSandboxImage",
    ),
    "SIF": (
        replace(IN_APPTAINER, image="/shared/sif/x.sif"),
        {"TransferContainer": False, "WantSIF": True},
        "TARGET.HasSIF",
    ),
    "fetched": (replace(IN_APPTAINER, image="osdf:///site/x.sif"), {"WantSIF": True}, '"osdf"'),
    "registry": (
        replace(IN_APPTAINER, image=f"docker://{NAME}"),
        {"ContainerImage": f"docker://{NAME}", "WantDockerImage": True},
        "TARGET.HasDockerURL",
    ),
}


@pytest.mark.parametrize(("site", "attributes", "required"), TAKEN.values(), ids=TAKEN)
def test_the_schedd_takes_a_description_for_what_it_is(
    pool: RunningPool, tmp_path: Path, site: PoolSite, attributes: dict[str, object], required: str
) -> None:
    secret = tmp_path / "worker.key"
    secret.touch()
    worker = WorkerIdentity("w-0", "a1b2c3", "5ca1ab1e5ca1ab1e")
    description = describe(worker, site, WorkerShape(1, 2**28, 2**20), "true", [secret])
    job = pool.submit(description, directory=tmp_path)
    try:
        ad = pool.wait_for(job, IDLE)
    finally:
        pool.remove(job)
    assert {name: ad.get(name) for name in attributes} == attributes
    assert required in ad["Requirements"]
    assert "TARGET.HasPerFileEncryption" in ad["Requirements"]
    assert (ad["EncryptInputFiles"], ad["TransferExecutable"]) == (str(secret), False)


@pytest.fixture
def site_file(pool: RunningPool, tmp_path: Path) -> Path:
    """Write a site with the pool, whose images are brought to nodes after they were built."""
    stated = {
        "address": pool.collector.partition(":")[0],
        "network": "nat",
        "prepull": {"nodes": 5, "seconds": 300, "user": "bob"},
    }
    return write_pool_site(tmp_path, pool, stated)


def engine_has(image: str) -> bool:
    return docker("image", "ls", "--quiet", image).strip() != ""


@pytest.fixture
def unpulled() -> Iterator[str]:
    """An image that the engine of the nodes does not have by its name; it gets a new one in every run."""
    with open_facility() as context:
        once = secrets.token_hex(8)
        image = build_repository(context, f"prepull-{once}", {"once.py": f"ONCE = {once!r}\n"}).image
        shutil.rmtree(context.facility.cache / "test-repositories" / f"prepull-{once}")
    assert not engine_has(image)
    try:
        yield image
    finally:
        if engine_has(image):
            docker("rmi", image)


def test_an_image_is_brought_to_all_nodes(
    pool: RunningPool, site_file: Path, unpulled: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["prepull", unpulled, "--site", str(site_file)])
    out = capsys.readouterr()
    assert (status, out.out) == (0, f"2 of 2 nodes have {unpulled}\n"), out.err
    assert engine_has(unpulled)
    assert pool.queue("CasabinderPrepull =?= True && JobStatus != 3") == []


def test_what_a_build_made_is_brought_once(pool: RunningPool, site_file: Path, unpulled: str) -> None:
    tallies: list[Tally] = []
    prepulls = Prepulls(load_site(site_file), tallies.append)
    thread = prepulls.begin(unpulled)
    assert thread is not None
    assert prepulls.begin(unpulled) is None
    thread.join(timeout=300)
    assert [(tally.nodes, tally.brought, tally.failed) for tally in tallies] == [(2, 2, {})]
    assert engine_has(unpulled)
    assert pool.queue("CasabinderPrepull =?= True && JobStatus != 3") == []


def test_an_image_that_is_not_there_is_said_for_each_node(pool: RunningPool, site_file: Path) -> None:
    image = "127.0.0.1:5000/casabinder/none:none"
    tally = prepull(BatchPool.of_site(load_site(site_file)), image, 1)
    assert (tally.nodes, tally.brought) == (1, 0)
    [why] = tally.failed.values()
    assert "image" in why
    assert pool.queue("CasabinderPrepull =?= True && JobStatus != 3") == []


def test_the_doctor_has_a_line_for_each_option(site_file: Path) -> None:
    pool = BatchPool.of_site(load_site(site_file))
    findings = {finding.check: finding for finding in examine_pool(pool)}
    assert {check: finding.state for check, finding in findings.items()} == {
        **dict.fromkeys(("collector", "schedd", "token", "write", "address", "universe", "network", "prepull"), "ok"),
    }
    assert findings["prepull"].sentence == "images that were built are brought to 2 nodes of 2 as bob"
    site = yaml.safe_load(site_file.read_text())
    site["pool"] |= {"gpus": 1, "prepull": {"nodes": 5, "user": "mallory"}}
    site_file.write_text(yaml.safe_dump(site))
    findings = {finding.check: finding for finding in examine_pool(BatchPool.of_site(load_site(site_file)))}
    assert findings["gpus"].sentence == "workers may ask for 1 GPU, but of 2 slots none has any: correct `pool.gpus`"
    assert findings["prepull"].state == "failed"
    assert findings["prepull"].sentence.startswith("mallory can't bring images to nodes: ")
