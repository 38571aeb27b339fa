"""The runtime as a user meets it: a real notebook server, kernels and Dask session, and workers that intrude."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest
from casabinder_runtime.guard import WRONG_IMAGE
from casabinder_runtime.session_directory import read_record

from tests.testbed.identity import ENV_ID, OTHER_ENV_ID, write_identity
from tests.testbed.notebook_server import RUNTIME, TOKEN, NotebookServer, running_notebook_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from casabinder_runtime.session_directory import SessionRecord

pytestmark = pytest.mark.integration

REFUSAL_SECONDS = 10


@contextmanager
def running_server(directory: Path, pool: dict[str, object] | None) -> Iterator[NotebookServer]:
    """Start a notebook server of an image with one module in its repository, and ``directory`` for its secrets."""
    repository = directory / "repo"
    repository.mkdir()
    (repository / "helper.py").write_text("def tenfold(number):\n    return 10 * number\n")
    # Called like modules of the standard library that Dask needs: neither session nor workers may stumble over them.
    (repository / "statistics.py").write_text("raise RuntimeError('imported by mistake')\n")
    secrets = directory / "secrets"
    secrets.mkdir(mode=0o700)
    environment = {"CASABINDER_SECRETS": str(secrets)}
    if pool is not None:
        environment["CASABINDER_POOL"] = json.dumps(pool)
    identity = write_identity(directory / "env.json")
    with running_notebook_server(
        directory, identity=identity, repository=repository, environment=environment
    ) as server:
        yield server


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("image")


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[NotebookServer]:
    """A server with two workers, shared by the tests that leave it as it was."""
    with running_server(directory, {"kind": "local", "workers": 2, "maximum": 3, "memory": "1GB"}) as server:
        server.wait_for_session("running", workers=2)
        yield server


@pytest.fixture
def session(server: NotebookServer, directory: Path) -> SessionRecord:
    """How to reach the session of ``server``."""
    [session_directory] = (directory / "secrets").iterdir()
    record = read_record(session_directory)
    assert record is not None
    return record


def test_the_server_tells_how_the_session_fares_but_not_to_strangers(server: NotebookServer) -> None:
    report = server.session()
    assert (report["state"], report["env_id"], report["workers"]) == ("running", ENV_ID, 2)
    assert report["dashboard"].startswith("proxy/")
    assert server.get("casabinder/api/session", token="").status_code == 403


def test_a_client_without_arguments_uses_the_session_over_tls(server: NotebookServer, session: SessionRecord) -> None:
    with server.kernel() as kernel:
        said = kernel.run(
            "from distributed import Client\n"
            "import helper\n"
            "client = Client()\n"
            "print(client.scheduler.address, client.dashboard_link, client.submit(helper.tenfold, 4).result())"
        )
    assert said.error == ""
    assert said.stderr == ""
    assert said.stdout == f"{session.address} /user/someone/proxy/{session.dashboard_port}/status 40\n"


def test_the_ecosystems_hard_coded_address_works(server: NotebookServer, session: SessionRecord) -> None:
    port = session.address.rpartition(":")[2]  # 8786, unless somebody has it already
    with server.kernel() as kernel:
        said = kernel.run(
            f"from distributed import Client\nprint(Client('tls://localhost:{port}').submit(sum, [1, 2]).result())"
        )
    assert (said.error, said.stdout) == ("", "3\n")


def test_a_local_cluster_is_still_possible(server: NotebookServer) -> None:
    with server.kernel() as kernel:
        said = kernel.run(
            "from distributed import Client, LocalCluster\n"
            "with LocalCluster(n_workers=1, dashboard_address=':0') as cluster, Client(cluster) as client:\n"
            "    print(client.submit(sum, [1, 2]).result(), cluster.scheduler_address.split(':')[0])"
        )
    assert (said.error, said.stdout) == ("", "3 tcp\n")


def test_notebook_and_workers_print_one_environment(server: NotebookServer) -> None:
    with server.kernel() as kernel:
        said = kernel.run(
            "from casabinder_runtime import FacilityCluster\n"
            "cluster = FacilityCluster()\n"
            "print(cluster.env_id, *cluster.worker_env_ids, len(cluster.workers))"
        )
    assert (said.error, said.stdout) == ("", f"{ENV_ID} {ENV_ID} 2\n")


def test_a_cluster_can_be_scaled_and_adapted_within_its_limit_and_outlives_its_handle(server: NotebookServer) -> None:
    with server.kernel() as kernel:
        said = kernel.run(
            "from casabinder_runtime import FacilityCluster\n"
            "cluster = FacilityCluster(n_workers=3)\n"
            "cluster.wait_for_workers(3, timeout=60)\n"
            "print(cluster)\n"
            "cluster"
        )
        assert said.error == ""
        assert "local pool, workers: 3 running, threads: 3" in said.stdout
        said = kernel.run("cluster.scale(4)")
        assert said.error == "PoolError: this session may have at most 3 workers, 4 were asked for"
        said = kernel.run("cluster.adapt(minimum=1)\nprint(cluster._repr_html_().count('automatic, 1 to 3 workers'))")
        assert (said.error, said.stdout) == ("", "1\n")
        said = kernel.run("print(sorted(cluster.logs()))")
        assert (said.error, said.stdout) == ("", "['0', '1', '2', 'Scheduler']\n")
        said = kernel.run("cluster.close(); print(cluster)")
        assert (said.error, said.stdout) == ("", f"FacilityCluster({ENV_ID}, closed)\n")
        server.wait_for_session("running", workers=0)
        said = kernel.run("again = FacilityCluster(); again.scale(2); again.wait_for_workers(2, timeout=60)")
        assert said.error == ""
        said = kernel.run("again.disconnect()")
        assert said.error == ""
    assert server.wait_for_session("running", workers=2)["requested"] == 2


def test_workers_that_are_scaled_down_hand_over_what_they_hold(server: NotebookServer) -> None:
    with server.kernel() as kernel:
        said = kernel.run(
            "from casabinder_runtime import FacilityCluster\n"
            "cluster = FacilityCluster(n_workers=3)\n"
            "cluster.wait_for_workers(3, timeout=60)\n"
            "client = cluster.get_client()\n"
            "kept = client.scatter(list(range(12)))\n"
            "print(sorted({len(held) for held in client.has_what().values()}))\n"
            "cluster.scale(1)\n"
            "import time\n"
            "while len(cluster.workers) > 1: time.sleep(0.1)\n"
            "print(client.gather(kept) == list(range(12)), [len(held) for held in client.has_what().values()])\n"
            "cluster.scale(2); cluster.wait_for_workers(2, timeout=60)\n"
            "client.close(); cluster.disconnect()"
        )
    assert (said.error, said.stdout) == ("", "[4]\nTrue [12]\n")
    server.wait_for_session("running", workers=2)


def test_a_separate_cluster_has_a_scheduler_and_workers_of_its_own(server: NotebookServer, directory: Path) -> None:
    [session_directory] = (directory / "secrets").iterdir()
    with server.kernel() as kernel:
        said = kernel.run(
            "from pathlib import Path\n"
            "from casabinder_runtime import FacilityCluster\n"
            "from casabinder_runtime.session_directory import read_status\n"
            "from distributed import Client\n"
            "import helper\n"
            "shared, own = FacilityCluster(), FacilityCluster(separate=True, n_workers=1)\n"
            "own.wait_for_workers(1, timeout=60)\n"
            "client = own.get_client()\n"
            "print(shared.scheduler_address == own.scheduler_address, len(shared.workers), len(own.workers))\n"
            f"most = lambda: read_status(Path({str(session_directory)!r})).maximum\n"
            "print(most())\n"
            "with Client(own) as other, Client(own.scheduler_address) as third:\n"
            "    print(*(one.submit(helper.tenfold, 4, pure=False).result() for one in (client, other, third)))"
        )
        assert (said.error, said.stdout) == ("", "False 2 1\n2\n40 40 40\n")
        for wish, most in (("own.scale(2)", 1), ("shared.scale(3)", 2)):
            assert kernel.run(wish).error.startswith(f"PoolError: this session may have at most {most} workers")
        said = kernel.run("FacilityCluster(separate=True, n_workers=1)")
        assert "at most 3 workers in all its clusters: 3 are taken, 1 more were asked for" in said.error
        said = kernel.run(
            "address = own.scheduler_address\n"
            "client.close(); own.close(); print(own, most())\n"
            "print(len(shared.workers), shared.get_client().submit(helper.tenfold, 5).result())\n"
            "import socket\n"
            "from urllib.parse import urlsplit\n"
            "try: socket.create_connection(('127.0.0.1', urlsplit(address).port), timeout=10)\n"
            "except ConnectionRefusedError: print('nobody there')\n"
            "shared.disconnect()"
        )
        assert (said.error, said.stdout) == ("", f"FacilityCluster({ENV_ID}, closed) 3\n2 50\nnobody there\n")
    assert list((session_directory / "clusters").iterdir()) == []


def test_the_page_can_scale_within_the_limit(server: NotebookServer) -> None:
    assert server.scale(3).status_code == 202
    report = server.wait_for_session("running", workers=3)
    assert (report["pool"], report["maximum"], report["requested"]) == ("local", 3, 3)
    refused = server.scale(4)
    assert refused.status_code == 409
    assert refused.json()["message"] == "this session may have at most 3 workers, 4 were asked for"
    for wrong in ("3", None, True):
        assert server.scale(wrong).status_code == 400
    assert server.scale(-1).status_code == 409
    assert server.scale(2).status_code == 202


def test_another_page_cannot_scale_with_this_ones_cookies(server: NotebookServer) -> None:
    with httpx.Client(base_url=server.url, follow_redirects=True) as browser:
        browser.get("tree", params={"token": TOKEN})
        assert browser.get("casabinder/api/session").status_code == 200
        body = {"workers": 1}
        assert browser.post("casabinder/api/session/scale", json=body).status_code == 403
        token = {"X-XSRFToken": browser.cookies["_xsrf"]}
        elsewhere = {**token, "Origin": "https://elsewhere.example"}
        assert browser.post("casabinder/api/session/scale", json=body, headers=elsewhere).status_code == 404
        assert browser.post("casabinder/api/session/scale", json={"workers": 2}, headers=token).status_code == 202


def test_idle_workers_are_given_back_unless_they_hold_results_and_come_back_with_work(tmp_path: Path) -> None:
    pool: dict[str, object] = {"kind": "local", "workers": 2, "memory": "1GB", "idle_seconds": 4}
    with running_server(tmp_path, pool) as server, server.kernel() as kernel:
        said = kernel.run("from distributed import Client\nclient = Client()\nkept = client.submit(sum, [1, 2])")
        assert said.error == ""
        assert server.wait_until_idle("kept since they hold results")["workers"] == 2
        assert kernel.run("print(kept.result())\ndel kept").stdout == "3\n"
        report = server.wait_until_idle("2 given back while idle")
        assert report["requested"] == 0
        assert report["notices"][-1]["message"].startswith("2 Dask workers were given back after 4 s without work")
        said = kernel.run("from distributed import wait\nprint(client.submit(sum, [1, 2, 3]).result())")
        assert (said.error, said.stdout) == ("", "6\n")
        assert server.wait_for_session("running", workers=2)["idle"] == ""
        server.wait_until_idle("2 given back while idle")
        said = kernel.run("[future] = client.scatter([4]); print(client.submit(abs, future).result()); del future")
        assert (said.error, said.stdout) == ("", "4\n")
        assert "2 Dask workers were given back" in said.stderr
        server.wait_until_idle("2 given back while idle")
        said = kernel.run(
            "import time\n"
            "from casabinder_runtime import FacilityCluster\n"
            "cluster = FacilityCluster()\n"
            "while cluster.workers: time.sleep(0.1)\n"
            "print(cluster)\n"
            "cluster.wait_for_workers(2, timeout=60)\n"
            "cluster.scale(0)\n"
        )
        assert said.error == ""
        assert "0 running, 2 given back while idle, asked for again with the next task" in said.stdout


def start_worker(session: SessionRecord, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a worker of another image, with the session's certificates, and return how it ended."""
    secrets = Path(session.tls_ca_file).parent
    command = [sys.executable, "-m", "distributed.cli.dask_worker", session.address, "--name", "intruder"]
    command += ["--tls-ca-file", str(secrets / "ca.pem"), "--tls-cert", str(secrets / "worker.pem")]
    command += ["--tls-key", str(secrets / "worker.key"), "--nthreads", "1", *options]
    return subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(RUNTIME), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("told", [{}, {"CASABINDER_ENV_ID": ENV_ID}], ids=["by the scheduler", "by its submitter"])
def test_a_worker_of_another_image_ends_and_the_notebook_says_why(
    server: NotebookServer, session: SessionRecord, tmp_path: Path, told: dict[str, str]
) -> None:
    other = write_identity(tmp_path / "other.json", OTHER_ENV_ID)
    sentence = f"its image holds the environment {OTHER_ENV_ID}, but this notebook's is {ENV_ID}."
    with server.kernel() as kernel:
        assert kernel.run("from distributed import Client\nclient = Client()").error == ""
        start = time.monotonic()
        guard = ("--preload", "casabinder_runtime.guard", "--identity", str(other))
        ended = start_worker(session, "--no-nanny", *guard, **told)
        assert time.monotonic() - start < REFUSAL_SECONDS
        said = kernel.run("import time; time.sleep(0.5); print(len(client.scheduler_info()['workers']))")
    assert ended.returncode == WRONG_IMAGE
    assert sentence in ended.stderr
    assert said.stderr.count(sentence) == 1
    assert "Dask worker intruder on" in said.stderr
    assert said.stdout == "2\n"
    with server.kernel() as kernel:
        said = kernel.run("from distributed import Client\nclient = Client()")
    assert sentence in said.stderr, "a notebook that connects afterwards is told as well"


def test_a_worker_that_hides_its_environment_is_not_registered(server: NotebookServer, session: SessionRecord) -> None:
    start = time.monotonic()
    ended = start_worker(session, "--no-nanny")
    assert time.monotonic() - start < REFUSAL_SECONDS
    assert ended.returncode == 1
    assert "it does not say which environment its image holds" in ended.stderr
    assert server.session()["workers"] == 2


def test_a_nanny_does_not_try_again(session: SessionRecord, tmp_path: Path) -> None:
    other = write_identity(tmp_path / "other.json", OTHER_ENV_ID)
    ended = start_worker(session, "--nanny", "--preload", "casabinder_runtime.guard", "--identity", str(other))
    assert ended.returncode != 0
    assert ended.stderr.count("casabinder: Dask worker intruder") == 1
    ended = start_worker(session, "--nanny", "--preload-nanny", "casabinder_runtime.guard")
    assert ended.returncode == WRONG_IMAGE
    assert "/etc/casabinder/env.json does not exist" in ended.stderr


def test_plaintext_is_refused(server: NotebookServer, session: SessionRecord) -> None:
    address = session.address.replace("tls://", "tcp://")
    with server.kernel() as kernel:
        said = kernel.run(f"from distributed import Client\nClient('{address}', timeout=5)")
    assert said.error != ""
    assert server.session()["workers"] == 2


def test_the_session_ends_with_the_server_and_leaves_nothing(tmp_path: Path) -> None:
    with running_server(tmp_path, {"kind": "local", "workers": 1}) as server:
        server.wait_for_session("running", workers=1)
        family = psutil.Process(server.process.pid).children(recursive=True)
        server.stop()
        gone, alive = psutil.wait_procs(family, timeout=10)
    assert gone
    assert not alive
    assert list((tmp_path / "secrets").iterdir()) == []


def test_the_session_ends_with_a_server_that_is_killed(tmp_path: Path) -> None:
    with running_server(tmp_path, {"kind": "local", "workers": 1}) as server:
        server.wait_for_session("running", workers=1)
        family = psutil.Process(server.process.pid).children(recursive=True)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        gone, alive = psutil.wait_procs(family, timeout=30)
    assert gone
    assert not alive
    assert not list((tmp_path / "secrets").rglob("*.key"))


def test_without_workers_nothing_is_started(tmp_path: Path) -> None:
    with running_server(tmp_path, None) as server, server.kernel() as kernel:
        assert server.session()["state"] == "off"
        said = kernel.run("from casabinder_runtime import FacilityCluster\nFacilityCluster()")
        assert said.error.startswith("SessionError: this notebook was launched without Dask workers")
    assert list((tmp_path / "secrets").iterdir()) == []


def test_a_session_that_fails_says_why_to_the_page_and_to_the_notebook(tmp_path: Path) -> None:
    with running_server(tmp_path, {"kind": "htcondor", "workers": 1}) as server, server.kernel() as kernel:
        report = server.wait_for_session("failed")
        said = kernel.run("from distributed import Client\nClient()")
    assert report["message"].startswith("an HTCondor pool needs image, collector, schedd")
    assert report["message"] in said.error
