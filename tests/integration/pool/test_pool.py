"""The pool that other tests use: jobs in images of casabinder, who may submit, and what can befall it.

Both execute nodes run their jobs in the one engine of this machine.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from builder.container.engine import docker
from tests.testbed.condor.unpacked import sif, unpacked
from tests.testbed.launching import engine_answers
from tests.testbed.pool import COMPLETED, HELD, RUNNING, PoolError, running_pool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.record import ImageRecord
    from tests.testbed.pool import RunningPool

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not engine_answers(), reason="no Docker Engine answers: run scripts/bootstrap"),
]

ALICE = 1001
JOB = {
    "executable": "/bin/sh",
    "transfer_executable": "False",
    "should_transfer_files": "YES",
    "when_to_transfer_output": "ON_EXIT",
    "output": "output",
    "error": "error",
    "request_cpus": "1",
    "request_memory": "128MB",
    "request_disk": "64MB",
}
WHO_AM_I = {"arguments": "\"-c 'cat /etc/casabinder/env.json; echo; id -u'\""}
WHERE_AM_I = {"arguments": "\"-c 'grep FileSystemDomain $_CONDOR_MACHINE_AD'\""}
SLEEP = {"arguments": "\"-c 'exec sleep 600'\""}


@pytest.fixture(scope="module")
def image(images: tuple[ImageRecord, ImageRecord]) -> ImageRecord:
    """The image that other modules run too: to unpack another one takes a minute."""
    return images[0]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPool]:
    """A pool with two nodes."""
    with running_pool(tmp_path_factory.mktemp("pool")) as running:
        yield running


@pytest.fixture
def sleeper(pool: RunningPool, image: ImageRecord, tmp_path: Path) -> Iterator[str]:
    """A job of alice that runs for as long as the test wants."""
    job = pool.submit(in_docker(image) | SLEEP, directory=tmp_path / "sleeper")
    try:
        pool.wait_for(job, RUNNING, starts=1)
        yield job
    finally:
        pool.remove(job)


def in_docker(image: ImageRecord) -> dict[str, str]:
    """Return what a job in the docker universe has in common with others."""
    return {**JOB, "universe": "docker", "docker_image": image.image, "docker_network_type": "host"}


def in_apptainer(path: str) -> dict[str, str]:
    """Return the same for a job in the container universe, whose image is a path on the nodes."""
    return {**JOB, "universe": "container", "container_image": path, "transfer_container": "False"}


def containers_of(label: str) -> str:
    """Return the containers with a label, whether they run or not."""
    return docker("ps", "-aq", "--filter", f"label={label}")


@pytest.fixture(scope="module")
def jobs(pool: RunningPool, image: ImageRecord, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Jobs that say where they are, submitted at once with the bindings from outside, by an IDTOKEN."""
    wanted = {
        "docker": in_docker(image) | WHO_AM_I,
        "unpacked directory": in_apptainer(unpacked(image)) | WHO_AM_I,
        "SIF": in_apptainer(sif(image)) | WHO_AM_I,
    }
    for number in pool.nodes:
        there = {"requirements": f'FileSystemDomain == "node{number}"'}
        wanted[f"node{number}"] = in_docker(image) | WHERE_AM_I | there
    return {what: pool.submit(job, directory=tmp_path_factory.mktemp("job")) for what, job in wanted.items()}


@pytest.mark.parametrize("source", ["docker", "unpacked directory", "SIF"])
def test_a_job_runs_in_the_image_as_its_user(
    pool: RunningPool, jobs: dict[str, str], image: ImageRecord, source: str
) -> None:
    ended = pool.wait_for(jobs[source], COMPLETED, HELD)
    assert ended["JobStatus"] == COMPLETED, ended.get("HoldReason")
    baked, user = (pool.retrieve(jobs[source]) / "output").read_text().splitlines()
    assert json.loads(baked)["env_id"] == image.env_id
    assert int(user) == ALICE
    assert ended["Owner"] == "alice"


@pytest.mark.parametrize("node", ["node1", "node2"])
def test_jobs_run_on_each_node(pool: RunningPool, jobs: dict[str, str], node: str) -> None:
    assert pool.wait_for(jobs[node], COMPLETED, HELD)["JobStatus"] == COMPLETED
    assert f'"{node}"' in (pool.retrieve(jobs[node]) / "output").read_text()


def test_nobody_submits_without_a_token(pool: RunningPool, image: ImageRecord, tmp_path: Path) -> None:
    request = {"do": "submit", "description": in_docker(image) | WHO_AM_I}
    before = [job["ClusterId"] for job in pool.queue()]
    with pytest.raises(PoolError, match="AUTHENTICATE"):
        pool.ask(request, directory=tmp_path, token="")
    with pytest.raises(PoolError, match=r"DENIED|authoriz"):
        pool.ask(request, directory=tmp_path, token=pool.token(authorizations=("READ",)))
    assert [job["ClusterId"] for job in pool.queue()] == before


def test_a_user_does_not_touch_the_jobs_of_another(pool: RunningPool, sleeper: str, tmp_path: Path) -> None:
    cluster = sleeper.partition(".")[0]
    request = {"do": "act", "action": "Remove", "constraint": f"ClusterId == {cluster}"}
    assert pool.ask(request, directory=tmp_path, token=pool.token("bob")) == {"changed": 0}
    assert pool.job(sleeper)["JobStatus"] == RUNNING
    assert pool.ask(request, directory=tmp_path, token=pool.token("alice")) == {"changed": 1}


def test_a_vacated_job_goes_back_to_the_queue_and_runs_again(pool: RunningPool, sleeper: str) -> None:
    pool.vacate(sleeper)
    pool.wait_for(sleeper, RUNNING, starts=2)


def test_a_job_outlives_a_restart_of_the_schedd(pool: RunningPool, sleeper: str) -> None:
    with pool.restarting_schedd():
        pass
    pool.wait_for(sleeper, RUNNING)
    assert pool.job(sleeper)["Owner"] == "alice"


def test_a_job_of_a_lost_node_runs_on_another(pool: RunningPool, sleeper: str) -> None:
    lost = pool.job(sleeper)["RemoteHost"].rpartition("node")[2].partition("@")[0]
    pool.stop_node(int(lost))
    try:
        again = pool.wait_for(sleeper, RUNNING, starts=2, seconds=180)
        assert f"node{lost}@" not in again["RemoteHost"]
    finally:
        pool.start_node(int(lost))


def test_two_pools_side_by_side_have_nothing_in_common(pool: RunningPool, image: ImageRecord, tmp_path: Path) -> None:
    with running_pool(tmp_path / "pool", nodes=1) as other:
        job = other.submit(in_docker(image) | SLEEP, directory=tmp_path / "job")
        other.wait_for(job, RUNNING, starts=1)
        assert pool.queue(f"ClusterId == {job.partition('.')[0]}") == []
        request = {"do": "submit", "description": in_docker(image) | WHO_AM_I}
        with pytest.raises(PoolError, match="AUTHENTICATE"):
            other.ask(request, directory=tmp_path, token=pool.token())
        label = f"casabinder.test-pool={other.name}"
        assert len(containers_of(label).split()) == 3  # the manager, its node, and the job that runs
    assert containers_of(label) == ""
    assert docker("volume", "ls", "--quiet", "--filter", f"label={label}") == ""
    assert other.name not in subprocess.run(["mount"], capture_output=True, text=True, check=True).stdout
    assert len(pool.slots()) >= len(pool.nodes)
