"""A built image as a notebook server in Docker: what it may do, who gets in, which workers it takes, how it ends."""

from __future__ import annotations

import json
import socket
import subprocess
from typing import TYPE_CHECKING

import httpx
import pytest

from builder.container.engine import docker as engine
from builder.container.engine import docker_json
from launcher import docker
from launcher.container import LaunchOptions
from launcher.notebook_client import NotebookClient, NotebookError
from registry_sync.errors import CasabinderError
from tests.testbed.launching import build_repository, engine_answers, engine_has_gpus, kernel_of, open_facility

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.record import ImageRecord
    from launcher.context import Context
    from launcher.servers import Server

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not engine_answers(), reason="no Docker Engine answers: run scripts/bootstrap"),
]

OPTIONS = LaunchOptions(workers=1, cpus=1.0, memory="2G", environment={"MY_DATA": "somewhere"})
WRONG_IMAGE = 78  # the status with which casabinder_runtime.guard ends a worker


def notebook(*cells: str) -> dict[str, object]:
    """Return a notebook of these code cells."""
    empty: dict[str, object] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    return {
        "cells": [{**empty, "id": f"cell-{number}", "source": source} for number, source in enumerate(cells)],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


FILES = {
    "requirements.txt": "particle>=1.0\n",
    "helper.py": "def double(number):\n    return 2 * number\n",
    "good.ipynb": json.dumps(
        notebook("import os\nprint(os.environ['ASKED'])", "open('out.txt', 'w').write('ok')\n6 * 7")
    ),
    "bad.ipynb": json.dumps(notebook("print('before')", "1 / 0", "print('after')")),
}


@pytest.fixture(scope="module")
def context() -> Iterator[Context]:
    with open_facility() as context:
        yield context


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of servers of its own: nobody else's are listed or stopped."""
    directory = tmp_path_factory.mktemp("cache")
    yield directory
    docker.stop(directory, None)


@pytest.fixture(scope="module")
def record(context: Context) -> ImageRecord:
    return build_repository(context, "launch", FILES)


@pytest.fixture(scope="module")
def other_record(context: Context) -> ImageRecord:
    """Another environment; its `start` script ends before the server starts."""
    return build_repository(context, "launch-other", {"start": "#!/bin/sh\necho no licence >&2\nexit 3\n"})


@pytest.fixture(scope="module")
def server(record: ImageRecord, cache: Path) -> Server:
    return docker.launch(record, OPTIONS, cache, print)


def ask(server: Server, path: str, token: str = "") -> httpx.Response:
    """GET a path of the server."""
    headers = {"Authorization": f"token {token}"} if token else {}
    return httpx.get(f"{server.url}{path}", headers=headers, timeout=30)


def test_it_runs_without_privileges_within_its_limits(server: Server) -> None:
    status = dict(
        line.split(":\t", 1)
        for line in engine("exec", server.name, "cat", "/proc/1/status").splitlines()
        if ":\t" in line
    )
    assert status["Uid"].split() == ["1000"] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    limits = "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes"
    assert engine("exec", server.name, "sh", "-c", limits).strip() == str(2 * 2**30)
    limits = "cat /sys/fs/cgroup/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids/pids.max"
    assert engine("exec", server.name, "sh", "-c", limits).strip() == "4096"
    host = docker_json("inspect", server.name)[0]["HostConfig"]
    assert host["NanoCpus"] == 10**9
    assert [published["HostIp"] for published in host["PortBindings"]["8888/tcp"]] == ["127.0.0.1"]


def test_only_the_token_lets_in(server: Server) -> None:
    assert ask(server, "api/contents").status_code == 403
    assert ask(server, "api/contents", "wrong").status_code == 403
    assert ask(server, "casabinder/api/session").status_code == 403
    assert ask(server, "api/contents", server.token).status_code == 200
    assert httpx.get(server.address, follow_redirects=True, timeout=30).status_code == 200


def test_the_token_is_where_only_its_owner_can_read_it(server: Server, cache: Path) -> None:
    assert server.token
    told = engine("inspect", server.name) + "".join(docker.logs(cache, server.name))
    told += engine(
        "exec", server.name, "sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' '"
    )
    assert server.token not in told
    assert engine("exec", server.name, "stat", "-c", "%a %u", "/run/casabinder/token").split() == ["400", "1000"]
    assert engine("exec", server.name, "stat", "-c", "%a %u", "/run/casabinder").split() == ["700", "1000"]


def test_the_dashboard_is_behind_the_token(server: Server) -> None:
    session = ask(server, "casabinder/api/session", server.token).json()
    page = ask(server, session["dashboard"], server.token)
    assert (page.status_code, "Dask" in page.text) == (200, True)
    assert ask(server, session["dashboard"]).status_code in (302, 403)


def test_the_launcher_finds_the_kernels_icons(server: Server) -> None:
    kernels = ask(server, "api/kernelspecs", server.token).json()["kernelspecs"]
    icons = [path for kernel in kernels.values() for path in kernel["resources"].values()]
    assert icons
    assert [path for path in icons if ask(server, path.lstrip("/"), server.token).status_code != 200] == []


def test_the_page_finds_the_dask_panel_that_is_loaded_late(server: Server) -> None:
    assert ask(server, "dask/clusters", server.token).json() == []
    assert ask(server, "dask/clusters").status_code == 403


def test_a_kernel_and_the_workers_are_one_environment(server: Server, record: ImageRecord) -> None:
    code = """
import helper, json, os
from dask.distributed import Client
client = Client()
client.wait_for_workers(1, timeout=60)
def identity():
    import helper
    return json.load(open("/etc/casabinder/env.json"))["env_id"], helper.double(21)
print(client.scheduler.address.split(":")[0], identity(), set(client.run(identity).values()), os.environ["MY_DATA"])
"""
    with kernel_of(server) as kernel:
        output = kernel.run(code, seconds=120)
    assert output.error == ""
    assert output.stdout == f"tls {(record.env_id, 42)} {{{(record.env_id, 42)}}} somewhere\n"


@pytest.mark.skipif(engine_has_gpus(), reason="Docker can give containers GPUs here")
def test_the_first_use_of_cuda_says_in_one_sentence_what_is_missing(server: Server) -> None:
    with kernel_of(server) as kernel:
        output = kernel.run("from numba import cuda; cuda.current_context()")
        other = kernel.run("1 / 0")
    assert output.error.startswith("CudaSupportError")
    assert output.traceback.endswith(
        "casabinder: this notebook server has no GPU that CUDA can use, since there is no NVIDIA driver (libcuda.so.1 "
        "is not found): ask whoever runs this site for servers with GPUs, or compute on Dask workers that have them"
    )
    assert "casabinder" not in other.traceback


@pytest.mark.parametrize("told", [True, False])
def test_a_worker_of_another_image_is_refused_with_a_sentence(
    server: Server, record: ImageRecord, other_record: ImageRecord, *, told: bool
) -> None:
    """Whether its submitter told it which environment to have, and it ends by itself, or the scheduler refuses it."""
    assert other_record.env_id != record.env_id
    image = docker.pull(other_record, print)
    tls = subprocess.run(
        ["docker", "exec", server.name, "sh", "-c", "tar -C /run/casabinder/session-* -c ca.pem worker.pem worker.key"],
        capture_output=True,
        check=True,
    ).stdout
    files = "--tls-ca-file /tmp/ca.pem --tls-cert /tmp/worker.pem --tls-key /tmp/worker.key"
    name = f"stranger-{told}"
    worker = f"dask worker tls://127.0.0.1:8786 --name {name} {files} --no-nanny --preload casabinder_runtime.guard"
    command = ["docker", "run", "--rm", "--interactive", "--network", f"container:{server.name}", "--entrypoint", "sh"]
    command += ["--env", f"CASABINDER_ENV_ID={record.env_id}"] if told else []
    command += [image, "-c", f"tar -C /tmp -x && exec {worker}"]
    refused = subprocess.run(command, input=tls, capture_output=True, check=False, timeout=120)
    assert refused.returncode == WRONG_IMAGE if told else refused.returncode != 0
    with kernel_of(server) as kernel:
        output = kernel.run("from dask.distributed import Client\nclient = Client()", seconds=120)
    (sentence,) = (line for line in output.stderr.splitlines() if name in line)
    assert f"its image holds the environment {other_record.env_id}, but this notebook's is {record.env_id}" in sentence


def test_a_notebook_runs_in_the_server(server: Server) -> None:
    with NotebookClient(server.url, server.token) as client:
        client.run("good.ipynb", environment={"ASKED": "for this"})
        assert client.fetch_file("out.txt") == b"ok"
        written = json.loads(client.fetch_file("good.ipynb"))
    first, second = written["cells"]
    assert "".join(first["outputs"][0]["text"]) == "for this\n"
    assert second["outputs"][0]["data"]["text/plain"] in ("42", ["42"])
    assert second["execution_count"] == 2
    assert ask(server, "api/sessions", server.token).json() == []


def test_a_cell_that_fails_is_named_and_its_output_kept(server: Server) -> None:
    with NotebookClient(server.url, server.token) as client:
        with pytest.raises(NotebookError, match="cell 2 failed: ZeroDivisionError") as caught:
            client.run("bad.ipynb")
        written = json.loads(client.fetch_file("bad.ipynb"))
        with pytest.raises(NotebookError, match="status 404"):
            client.run("nothing.ipynb")
    assert caught.value.cell == 2
    assert "1 / 0" in caught.value.traceback
    assert [len(cell["outputs"]) for cell in written["cells"]] == [1, 1, 0]


def test_the_same_launch_again_is_the_same_server(server: Server, record: ImageRecord, cache: Path) -> None:
    said: list[str] = []
    again = docker.launch(record, OPTIONS, cache, said.append)
    assert (again.name, again.url) == (server.name, server.url)
    assert said == [f"{server.name} runs already"]


def test_a_server_that_ended_keeps_its_files_and_a_new_one_does_not_get_them(
    server: Server, record: ImageRecord, cache: Path
) -> None:
    engine("exec", server.name, "touch", "/srv/repo/mine")
    engine("stop", server.name)
    assert [one.state for one in docker.servers(cache)] == ["exited"]
    said: list[str] = []
    again = docker.launch(record, OPTIONS, cache, said.append)
    assert said == [f"starting {server.name} again, with the files it had"]
    assert again.token == server.token
    engine("exec", again.name, "test", "-e", "/srv/repo/mine")
    new = docker.launch(record, OPTIONS, cache, print, new=True)
    assert {one.name for one in docker.servers(cache)} == {again.name, new.name}
    with pytest.raises(CasabinderError):
        engine("exec", new.name, "test", "-e", "/srv/repo/mine")
    assert docker.stop(cache, [new.name]) == [new.name]


def test_a_server_that_does_not_start_leaves_nothing(other_record: ImageRecord, cache: Path, server: Server) -> None:
    with pytest.raises(CasabinderError, match=r"did not start: it ended with status 3\. Its last words: no licence"):
        docker.launch(other_record, OPTIONS, cache, print)
    assert [one.name for one in docker.servers(cache)] == [server.name]


def test_a_port_that_is_taken_is_named(record: ImageRecord, cache: Path, server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CasabinderError, match=f"port {port} of this machine is taken"):
            docker.launch(record, LaunchOptions(workers=0, port=port), cache, print)
    assert [one.name for one in docker.servers(cache)] == [server.name]


@pytest.mark.skipif(engine_has_gpus(), reason="Docker can give containers GPUs here")
def test_a_gpu_that_docker_can_not_give_is_said_in_one_sentence(record: ImageRecord, cache: Path) -> None:
    before = [one.name for one in docker.servers(cache)]
    with pytest.raises(CasabinderError, match="Docker can't give the server a GPU here: this machine needs NVIDIA's"):
        docker.launch(record, LaunchOptions(workers=0, gpus=1), cache, print)
    assert [one.name for one in docker.servers(cache)] == before


def test_a_name_that_is_not_there_lists_those_that_are(server: Server, cache: Path) -> None:
    with pytest.raises(CasabinderError, match=f"there is no server 'nobody'; there are: {server.name}"):
        docker.stop(cache, ["nobody"])
    assert docker.find(cache, server.name.removeprefix("casabinder-")).name == server.name


def test_stopping_removes_the_container_its_volume_and_its_files(server: Server, cache: Path) -> None:
    mounts = docker_json("inspect", server.name)[0]["Mounts"]
    assert docker.stop(cache, None) == [server.name]
    assert docker.servers(cache) == []
    assert engine("volume", "ls", "--quiet", "--filter", f"name={mounts[0]['Name']}") == ""
    assert [path.suffix for path in (cache / "servers").iterdir() if path.stem == server.name] == [".lock"]
    with pytest.raises(CasabinderError, match="there is no server 'x'; none was launched"):
        docker.logs(cache, "x")
