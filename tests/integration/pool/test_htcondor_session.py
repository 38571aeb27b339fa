"""A session whose workers are jobs of a real HTCondor pool, in the session's own image."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import pytest

from tests.testbed.condor.unpacked import sif, unpacked
from tests.testbed.launching import engine_answers, engine_has_gpus
from tests.testbed.pool import HELD, SPOOLING
from tests.testbed.pool_session import JOIN_SECONDS, PoolSession, running_pool_session, session_jobs

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from builder.record import ImageRecord
    from tests.testbed.pool import RunningPool

pytestmark = [pytest.mark.integration, pytest.mark.skipif(not engine_answers(), reason="there is no Docker Engine")]

KNOWABLE_SECONDS = 10
WRONG_IMAGE = 78


@pytest.fixture(scope="module")
def pool(session_pool: RunningPool) -> RunningPool:
    """The pool of the session."""
    return session_pool


def test_two_workers_in_the_notebooks_image_have_one_environment(
    session: PoolSession, pool: RunningPool, images: tuple[ImageRecord, ImageRecord]
) -> None:
    said = session.run(
        "import helper, json\n"
        "names = sorted(worker['name'] for worker in cluster.workers.values())\n"
        "result = client.gather(client.map(helper.tenfold, range(4)))\n"
        "print(json.dumps([cluster.env_id, *cluster.worker_env_ids, names, result, sorted(cluster.workers)]))\n"
        "print(cluster)"
    )
    own, *found, names, result, addresses = json.loads(said.splitlines()[0])
    assert own == images[0].env_id
    assert found == [own]
    assert all(re.fullmatch(r"casabinder-htcondor-\d+", name) for name in names)
    assert result == [0, 10, 20, 30]
    assert all(address.startswith("tls://") for address in addresses)
    assert "htcondor pool, workers: 2 running, threads: 2" in said
    ads = session_jobs(pool)
    assert {ad["DockerImage"] for ad in ads} == {images[0].image}
    assert {ad["CasabinderEnvId"] for ad in ads} == {own}
    assert {ad["Owner"] for ad in ads} == {"alice"}
    # Another session of this machine may have the usual port.
    assert session.status()["message"].partition(" is taken,")[0] in ("", "port 8786")


def test_secrets_are_encrypted_files_and_nowhere_else(session: PoolSession, pool: RunningPool) -> None:
    said = session.run(
        "def look():\n"
        "    import os\n"
        "    mode = lambda name: oct(os.stat(name).st_mode & 0o777)\n"
        "    return [mode(name) for name in ('ca.pem', 'worker.pem', 'worker.key')], sorted(os.listdir())\n"
        "import json; print(json.dumps(list(client.run(look).values())))"
    )
    for modes, names in json.loads(said):
        assert modes == ["0o400"] * 3
        assert not {"client.key", "scheduler.key", "token"} & set(names)
    for ad in session_jobs(pool):
        assert ad["EncryptInputFiles"].count("worker.key") == 1
        assert "PRIVATE KEY" not in json.dumps(ad)
        assert (session.secrets / "condor" / "token").read_text() not in json.dumps(ad)


def test_a_worker_has_a_home_of_its_own_and_the_repository(session: PoolSession) -> None:
    said = session.run(
        "def look():\n"
        "    import os, sys, tempfile, pathlib\n"
        "    (pathlib.Path.home() / 'written').write_text('')\n"
        "    scratch = os.environ['_CONDOR_SCRATCH_DIR']\n"
        "    with tempfile.NamedTemporaryFile() as file: temporary = file.name.startswith(scratch)\n"
        "    return temporary, str(pathlib.Path.home()).startswith(scratch), sys.path[0], sys.executable\n"
        "import json; print(json.dumps(list(client.run(look).values())))"
    )
    assert json.loads(said) == [[True, True, "/srv/repo", "/srv/env/bin/python"]] * 2


def test_workers_empty_openssls_queue_of_errors(session: PoolSession) -> None:
    code = "print(client.run(lambda: __import__('tornado.iostream').iostream.SSLIOStream.read_from_fd.__name__))"
    assert session.run(code).count("'operate'") == 2


@pytest.mark.skipif(engine_has_gpus(), reason="Docker can give containers GPUs here")
def test_a_task_that_finds_no_gpu_is_told_of_with_its_worker(session: PoolSession) -> None:
    said = session.run(
        "def first_use():\n"
        "    from numba import cuda\n"
        "    cuda.current_context()\n"
        "try: client.submit(first_use).result()\n"
        "except ImportError as error: print(type(error).__name__)\n"
        "hear('has no GPU')\n"
        "print(sys.stderr.text)"
    )
    assert said.startswith("CudaSupportError\n")
    assert re.search(
        r"casabinder: Dask worker casabinder-htcondor-\d+ on \S+ has no GPU that CUDA can use, since", said
    )
    assert said.count("there is no NVIDIA driver (libcuda.so.1 is not found)") == 1


def test_the_cluster_scales_up_and_down(session: PoolSession, pool: RunningPool) -> None:
    session.run(f"cluster.scale(3); client.wait_for_workers(3, timeout={JOIN_SECONDS})")
    assert len(session_jobs(pool)) == 3
    session.run("import time\ncluster.scale(2)\nwhile len(cluster.workers) > 2: time.sleep(0.2)")
    deadline = time.monotonic() + JOIN_SECONDS
    while len(session_jobs(pool)) > 2:
        assert time.monotonic() < deadline, session.log()
        time.sleep(0.5)
    assert "at most 4 workers, 5 were asked for" in session.run(
        "try: cluster.scale(5)\nexcept Exception as error: print(error)"
    )


def test_the_cluster_adapts_up_and_down(session: PoolSession) -> None:
    said = session.run(
        "import time\n"
        "cluster.adapt(minimum=1, maximum=3)\n"
        "futures = client.map(lambda number: time.sleep(1), range(90), pure=False)\n"
        "most = 0\n"
        "while not futures[-1].done() and most < 3: most = max(most, len(cluster.workers)); time.sleep(0.2)\n"
        "client.cancel(futures)\n"
        "del futures\n"
        "while len(cluster.workers) > 1: time.sleep(0.2)\n"
        "print(most)\n"
        f"cluster.scale(2); client.wait_for_workers(2, timeout={JOIN_SECONDS})"
    )
    assert said == "3\n"


def test_a_separate_cluster_has_jobs_of_its_own(session: PoolSession, pool: RunningPool) -> None:
    said = session.run(
        "with FacilityCluster(separate=True, n_workers=1) as own:\n"
        f"    own.wait_for_workers(1, timeout={JOIN_SECONDS})\n"
        "    names = [worker['name'] for worker in own.workers.values()]\n"
        "    print(own.get_client().submit(sum, [1, 2]).result(), *names, len(cluster.workers))\n"
    )
    three, name, two = said.split()
    assert (three, two) == ("3", "2")
    assert re.fullmatch(r"casabinder-htcondor-c\d+-0", name)
    assert name not in {ad["CasabinderWorker"] for ad in session_jobs(pool)}


def test_a_worker_that_is_told_to_go_hands_over_its_results_and_is_replaced(session: PoolSession) -> None:
    said = session.run(
        "import os, random, signal, time\n"
        "victim = sorted(cluster.workers)[0]\n"
        "future = client.submit(random.random, workers=[victim], pure=False)\n"
        "result = future.result()\n"
        "client.run(lambda: os.kill(os.getpid(), signal.SIGTERM), workers=[victim])\n"
        "while victim in cluster.workers: time.sleep(0.1)\n"
        "print(future.result() == result)\n"  # computed again it would be another number
        f"client.wait_for_workers(2, timeout={JOIN_SECONDS})"
    )
    assert said == "True\n"


def test_a_job_that_is_held_and_one_that_is_removed(session: PoolSession, pool: RunningPool) -> None:
    one, other = (f"{ad['ClusterId']}.0" for ad in session_jobs(pool))
    pool.run("condor_rm", one)
    session.run(
        f"import time\nwhile 'tls' in str(cluster) and len(cluster.workers) == 2: time.sleep(0.1)\n"
        f"client.wait_for_workers(2, timeout={JOIN_SECONDS})"
    )
    pool.run("condor_hold", "-reason", "the disk is full", other)
    assert "1 held: the disk is full" in session.wait_for("held", KNOWABLE_SECONDS)
    assert "1 running, 1 held: the disk is full" in session.run("print(cluster)")
    pool.run("condor_release", other)
    session.run(f"client.wait_for_workers(2, timeout={JOIN_SECONDS})")


def test_a_worker_of_another_image_is_held_and_the_notebook_says_why(
    pool: RunningPool, images: tuple[ImageRecord, ImageRecord], tmp_path: Path
) -> None:
    own, other = images
    others = job_ids(pool)
    with running_pool_session(tmp_path, pool, own.image, workers=1, image=other.image) as session:
        [job] = wait_for_jobs(pool, 1, but=others)
        ad = pool.wait_for(job, HELD)
        session.wait_for(f"1 held: {ad['HoldReason']}", KNOWABLE_SECONDS)
        said, shown = session.start("print(cluster)\nprint(*cluster.logs().values())").communicate(timeout=60)
    assert ad["HoldReasonSubCode"] == WRONG_IMAGE
    assert f"does not hold the environment {own.env_id}" in ad["HoldReason"]
    assert f"0 running, 1 held: {ad['HoldReason']}" in said
    assert f"casabinder: Dask worker {ad['CasabinderWorker']} on " in said  # what its guard wrote
    assert f"its image holds the environment {other.env_id}, but this notebook's is {own.env_id}." in shown
    assert f"casabinder: Dask workers in the HTCondor pool: 1 held: {ad['HoldReason']}" in shown


@pytest.mark.parametrize("form", [unpacked, sif])
def test_in_the_container_universe_apptainer_runs_the_same_image(
    form: Callable[[ImageRecord], str], pool: RunningPool, images: tuple[ImageRecord, ImageRecord], tmp_path: Path
) -> None:
    where = {"universe": "container", "image": form(images[0])}
    with running_pool_session(tmp_path, pool, images[0].image, workers=1, **where) as session:
        said = session.run(
            "import helper, os\n"
            f"client.wait_for_workers(1, timeout={2 * JOIN_SECONDS})\n"
            "print(client.submit(helper.tenfold, 4).result(), cluster.env_id, *cluster.worker_env_ids)\n"
            "print(*client.run(os.path.exists, '/.singularity.d').values())",
            seconds=3 * JOIN_SECONDS,
        )
    assert said.split() == ["40", images[0].env_id, images[0].env_id, "True"]


def test_no_free_slot_is_said_and_workers_that_never_join_are_not_tried_for_ever(
    pool: RunningPool, images: tuple[ImageRecord, ImageRecord], tmp_path: Path
) -> None:
    others = job_ids(pool)
    with running_pool_session(tmp_path, pool, images[0].image, workers=1, memory="1TiB") as session:
        sentence = "1 idle in the queue: no free slot has 1 core, 1.00 TiB of memory and 20.00 MiB of disk ("
        session.wait_for(sentence, 3 * KNOWABLE_SECONDS)
        assert f"0 running, {sentence}" in session.run("print(cluster)")
        for _ in range(3):
            [job] = wait_for_jobs(pool, 1, but=others)
            pool.run("condor_rm", job)
        session.wait_for("3 ended before they joined: the last one is lost (its job is gone", KNOWABLE_SECONDS)
        assert job_ids(pool) == others


def test_an_expired_token_is_said(pool: RunningPool, images: tuple[ImageRecord, ImageRecord], tmp_path: Path) -> None:
    token = pool.token(lifetime=1)
    time.sleep(2)
    with running_pool_session(tmp_path, pool, images[0].image, workers=1, token=token) as session:
        session.wait_for("1 not submitted: the HTCondor token of this session expired at ", KNOWABLE_SECONDS)
        said, shown = session.start("print(cluster)").communicate(timeout=60)
    assert "0 running, 1 not submitted: the HTCondor token of this session expired at " in said
    assert shown.count("expired at") == 1


def test_a_token_of_another_pool_is_said(
    pool: RunningPool, images: tuple[ImageRecord, ImageRecord], tmp_path: Path
) -> None:
    head, claims, signature = pool.token().split(".")
    forged = f"{head}.{claims}.{signature[::-1]}"
    with running_pool_session(tmp_path, pool, images[0].image, workers=1, token=forged) as session:
        session.wait_for("does not accept this session's token", KNOWABLE_SECONDS)


def job_ids(pool: RunningPool) -> set[str]:
    """Return the ids of the workers' jobs that are idle, running or held, and whose files are there."""
    return {f"{ad['ClusterId']}.0" for ad in session_jobs(pool) if ad.get("HoldReasonCode") != SPOOLING}


def wait_for_jobs(pool: RunningPool, number: int, but: AbstractSet[str]) -> list[str]:
    """Return the ids of the workers' jobs once there are so many, not counting those in ``but``."""
    deadline = time.monotonic() + JOIN_SECONDS
    while len(found := sorted(job_ids(pool) - but)) != number:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found
