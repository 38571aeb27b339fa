"""Servers of a whole facility whose workers are jobs of a real HTCondor pool, in the name of whoever has the server.

The pool listens on the address of the engine's bridge, which servers, having networks of their own, can reach.
"""

from __future__ import annotations

import base64
import json
import random
import socket
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from builder.container.engine import EngineError, docker, docker_json
from launcher import docker as servers
from launcher.cli import main
from launcher.pools.ports import free_here, refused
from launcher.serve_checks import bridge_address
from launcher.site_config import cache_directory
from tests.testbed.condor.image import PoolError
from tests.testbed.facility import running_facility
from tests.testbed.git_repository import commit_files
from tests.testbed.git_server import running_git_server
from tests.testbed.launching import engine_answers, kernel_of, open_facility
from tests.testbed.pool import COMPLETED, REMOVED, RUNNING, running_pool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from tests.testbed.facility import RunningFacility
    from tests.testbed.pool import RunningPool

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not engine_answers(), reason="no Docker Engine answers: run scripts/bootstrap"),
]

PASSWORD = "a-password-for-tests"
WORKERS = 2
TOKEN_SECONDS = 60
TOKEN = "/run/casabinder/condor/token"
FILES = {"helper.py": "def double(number):\n    return 2 * number\n"}
COMPUTE = """
import json, os
from dask.distributed import Client
import helper
client = Client("tls://localhost:8786")
client.wait_for_workers(%d, timeout=150)
doubled = client.gather(client.map(helper.double, range(10)))
where = client.run(lambda: (os.getuid(), "_CONDOR_SCRATCH_DIR" in os.environ, os.environ["CASABINDER_ENV_ID"]))
print("RESULT", json.dumps([doubled, sorted(map(list, where.values())), client.scheduler_info()["address"]]))
client.close()
"""
# Somebody else's scheduler, with the certificates of one's own session.
INTRUDE = """
from distributed.core import rpc
from casabinder_runtime.cluster import client_security
from casabinder_runtime.session_directory import find_session_directory, wait_for_record
security = client_security(wait_for_record(find_session_directory()))
async def intrude():
    arguments = security.get_connection_args("client")
    async with rpc(%r, connection_args=arguments, timeout=10) as scheduler:
        return await scheduler.identity()
try:
    print("RESULT", await intrude())
except OSError as error:
    print("REFUSED", error)
"""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPool]:
    with running_pool(tmp_path_factory.mktemp("pool") / "pool", address=bridge_address()) as running:
        yield running


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a repository."""
    with running_git_server(tmp_path_factory.mktemp("git")) as server:
        work = tmp_path_factory.mktemp("work") / "pool"
        commit_files(work, FILES)
        server.add("pool.git", work)
        yield server.url("pool.git")


def pool_settings(pool: RunningPool) -> dict[str, Any]:
    """Return the section `pool` of a site whose containers workers reach by ports of the bridge's address."""
    return {
        "kind": "htcondor",
        "collector": pool.collector,
        "schedd": pool.schedd,
        "trust_domain": pool.trust_domain,
        "signing_key": str(pool.signing_key),
        "address": bridge_address(),
        "memory": "1GiB",
        "disk": "1GiB",
    }


@contextmanager
def facility_with(pool: RunningPool, directory: Path, *, hub: dict[str, Any], **more: object) -> Iterator[Any]:
    """Run a facility whose servers have their workers in the pool."""
    settings = {**pool_settings(pool), "maximum": 3, "token_seconds": TOKEN_SECONDS, **more}
    with running_facility(directory, site={"pool": settings, "hub": hub, "limits": {"memory": "1G"}}) as facility:
        try:
            yield facility
        finally:
            facility.remove_containers()
            with suppress(EngineError):  # which it is too if there is no job
                pool.run("condor_rm", "-all")


def log_in(facility: RunningFacility, name: str) -> tuple[httpx.Client, str]:
    """Return the browser of somebody who has logged in, and a token for their servers."""
    browser = facility.visitor(follow_redirects=True)
    form = browser.get("/servers")
    xsrf = browser.cookies.get("_xsrf", path="/hub/")
    browser.post(form.url, data={"username": name, "password": PASSWORD, "_xsrf": xsrf}).raise_for_status()
    browser.get("/hub/token")
    answer = browser.post(
        f"/hub/api/users/{name}/tokens",
        json={"scopes": ["access:servers!user"], "note": "test"},
        headers={"X-XSRFToken": browser.cookies.get("_xsrf", path="/hub/") or ""},
    )
    return browser, str(answer.raise_for_status().json()["token"])


def container_of(facility: RunningFacility, path: str) -> dict[str, Any]:
    """Return the container of the server at this path, ``/user/<name>/<server>/``."""
    found = {}
    for name in facility.containers():
        container = docker_json("inspect", name)[0]
        labels = container["Config"]["Labels"]
        found[f"/user/{labels['org.casabinder.user']}/{labels['org.casabinder.server']}/"] = container
    return dict(found[path])


def pool_token(container: dict[str, Any]) -> str:
    return docker("exec", container["Id"], "cat", TOKEN).strip()


def subject(token: str) -> str:
    part = token.split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["sub"])


def contact(container: dict[str, Any]) -> str:
    environment = dict(entry.split("=", 1) for entry in container["Config"]["Env"])
    return str(json.loads(environment["CASABINDER_POOL"])["contact"])


def active(pool: RunningPool, owner: str) -> list[int]:
    """Return the states of somebody's jobs that wait or run."""
    jobs = pool.queue(f"JobStatus != {REMOVED} && JobStatus != {COMPLETED}")
    return [job["JobStatus"] for job in jobs if job["Owner"] == owner]


def two_free_ports() -> tuple[int, int]:
    """Return two ports in a row, below those that connections of this machine take, that nobody has on the bridge."""
    while True:
        port = random.randrange(29_000, 32_000)
        if free_here(bridge_address(), port) and free_here(bridge_address(), port + 1):
            return port, port + 1


def wait_until_in_queue(pool: RunningPool, owner: str, number: int, seconds: float = 60) -> None:
    """A server is ready before its session is."""
    deadline = time.monotonic() + seconds
    while len(there := active(pool, owner)) != number:
        assert time.monotonic() < deadline, there
        time.sleep(0.2)


def wait_until_empty(pool: RunningPool, owner: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while left := active(pool, owner):
        assert time.monotonic() < deadline, left
        time.sleep(0.5)


def compute(facility: RunningFacility, ready: dict[str, Any]) -> list[Any]:
    """Have a kernel of the server compute on its workers; return where they are, and the scheduler's address."""
    with facility.kernel(ready) as kernel:
        said = kernel.run(COMPUTE % WORKERS, seconds=200)
    assert said.error == "", (said, facility.log())
    doubled, where, address = json.loads(said.stdout.split("RESULT ", 1)[1].splitlines()[0])
    assert doubled == [2 * number for number in range(10)]
    assert len(where) == WORKERS
    assert all(uid != 0 and in_job for uid, in_job, _ in where)
    return [{env_id for *_, env_id in where}, address]


def check_secrecy(facility: RunningFacility, pool: RunningPool, container: dict[str, Any]) -> None:
    """The token is where only the server's user reads it, and nowhere else."""
    listed = docker("exec", container["Id"], "stat", "-c", "%a %u", TOKEN).split()
    assert listed == ["400", "1000"]
    signature = pool_token(container).rpartition(".")[2]
    running = docker(
        "exec", container["Id"], "sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null; :"
    )
    for place in (json.dumps(container), docker("logs", container["Id"]), facility.log(), running):
        assert signature not in place
    assert signature not in json.dumps(pool.queue())
    key = str(pool.signing_key)
    assert key not in json.dumps(container) + running


def test_people_have_workers_in_their_own_name(pool: RunningPool, repository: str, tmp_path: Path) -> None:
    settings = {
        "SharedPasswordAuthenticator": {"user_password": PASSWORD},
        "VouchedDockerSpawner": {"poll_interval": 2},
    }
    hub = {"mode": "login", "settings": settings}
    first_port, last_port = two_free_ports()
    with facility_with(pool, tmp_path / "login", hub=hub, ports=f"{first_port}-{last_port}") as facility:
        assert "WARNING: with `hub.authenticator: shared-password` whoever knows" in facility.said()
        alice, hers = log_in(facility, "alice")
        bob, his = log_in(facility, "bob")
        job = facility.build(repository, client=alice)
        mine = facility.launch(job["id"], client=alice, workers=WORKERS)
        other = facility.launch(facility.build(repository, client=bob)["id"], client=bob, workers=1)

        container, others = (container_of(facility, one["server"]) for one in (mine, other))
        first = pool_token(container)
        ports = {first_port, last_port}
        assert {contact(container), contact(others)} == {f"tls://{bridge_address()}:{port}" for port in ports}
        env_ids, _ = compute(facility, {**mine, "token": hers})
        assert env_ids == {container["Config"]["Labels"]["org.casabinder.env-id"]}
        assert active(pool, "alice") == [RUNNING] * WORKERS
        wait_until_in_queue(pool, "bob", 1)
        assert (subject(pool_token(container)), subject(pool_token(others))) == ("alice@testbed", "bob@testbed")
        check_secrecy(facility, pool, container)

        # Bob's server reaches alice's scheduler no further than its TLS, and his token submits nothing of hers.
        with facility.kernel({**other, "token": his}) as kernel:
            said = kernel.run(INTRUDE % contact(container), seconds=60)
            assert "REFUSED" in said.stdout, said
            said = kernel.run(INTRUDE % contact(others), seconds=60)
            assert "RESULT" in said.stdout, said
        check_no_submission_as_alice(pool, pool_token(others), tmp_path / "job")

        # No port is left for a third, and a name that no account can have gets no workers.
        answer = alice.post("/api/launches", json={"build": job["id"], "workers": 1})
        failed = [event for _, event in facility.events(answer.json()["events"], client=alice)][-1]
        assert f"all ports from {first_port} to {last_port}" in failed["message"]
        nobody, _ = log_in(facility, "7th")
        build = facility.build(repository, client=nobody)["id"]
        answer = nobody.post("/api/launches", json={"build": build, "workers": 1})
        assert (answer.status_code, "'7th' can't be a user of the HTCondor pool" in answer.text) == (400, True)
        answer = alice.post("/api/launches", json={"build": job["id"], "workers": 4})
        assert (answer.status_code, "this site gives up to 3" in answer.text) == (400, True)

        deadline = time.monotonic() + 2 * TOKEN_SECONDS
        while pool_token(container) == first:
            assert time.monotonic() < deadline, facility.log()
            time.sleep(1)
        check_secrecy(facility, pool, container)

        renewed = pool_token(container)
        alice.delete(f"/api/servers/{mine['launch']}").raise_for_status()
        wait_until_empty(pool, "alice")
        check_taken_port(facility, job["id"], alice, container)
        again = facility.launch(job["id"], client=alice, workers=WORKERS)
        assert container_of(facility, again["server"])["Id"] == container["Id"]
        assert subject(pool_token(container)) == "alice@testbed"
        assert pool_token(container) != renewed
        compute(facility, {**again, "token": hers})
        assert alice.delete(f"/api/servers/{again['launch']}").status_code == 204
        wait_until_empty(pool, "alice")


def check_taken_port(facility: RunningFacility, build: str, client: httpx.Client, container: dict[str, Any]) -> None:
    """A stopped server whose port another program has taken says so, and stays as it is."""
    with socket.socket() as program:
        program.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        program.bind((bridge_address(), int(contact(container).rpartition(":")[2])))
        program.listen()
        answer = client.post("/api/launches", json={"build": build, "workers": WORKERS})
        *_, (_, last) = facility.events(answer.json()["events"], client=client)
        assert "by which workers reach this server, is taken: wait until what has it" in last["message"]


def check_no_submission_as_alice(pool: RunningPool, token: str, directory: Path) -> None:
    directory.mkdir()
    description = {
        "universe": "vanilla",
        "executable": "/bin/true",
        "transfer_executable": "False",
        "requirements": "False",
        "MY.Owner": '"alice"',
        "MY.User": '"alice@testbed"',
    }
    before = len(active(pool, "alice"))
    with suppress(PoolError):  # refused, or his own all the same
        pool.ask({"do": "submit", "description": description}, directory=directory, token=token)
    assert len(active(pool, "alice")) == before


def test_temporary_servers_have_workers_in_the_name_of_the_facility(
    pool: RunningPool, repository: str, tmp_path: Path
) -> None:
    with facility_with(pool, tmp_path / "anonymous", hub={"mode": "anonymous"}, user="bob") as facility:
        page = facility.client.get("/").text
        assert f"Jobs of the HTCondor pool {pool.collector}, to begin with. Up to 3 here" in page
        ready = facility.launch(facility.build(repository)["id"], workers=WORKERS)
        (name,) = facility.containers()
        container = docker_json("inspect", name)[0]
        env_ids, _ = compute(facility, ready)
        assert env_ids == {container["Config"]["Labels"]["org.casabinder.env-id"]}
        assert active(pool, "bob") == [RUNNING] * WORKERS
        assert subject(pool_token(container)) == "bob@testbed"
        check_secrecy(facility, pool, container)
        assert not [entry for entry in container["Config"]["Env"] if entry.startswith("JUPYTERHUB")]
        facility.client.delete(f"/api/servers/{ready['launch']}").raise_for_status()
        wait_until_empty(pool, "bob")
        assert facility.containers() == []


def test_a_launch_from_the_command_line_has_a_port_too(
    pool: RunningPool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_facility() as context:
        registry = context.site.registry
    port, _ = two_free_ports()
    commit_files(tmp_path / "repository", FILES)
    file = tmp_path / "site.yaml"
    own = {**pool_settings(pool), "user": "bob", "ports": str(port)}
    file.write_text(json.dumps({"registry": registry, "pool": own}))  # JSON is YAML
    command = ["launch", str(tmp_path / "repository"), "--workers", str(WORKERS), "--memory", "1G", "--json"]
    assert main([*command, "--site", str(file)]) == 0
    server = servers.find(cache_directory(), json.loads(capsys.readouterr().out)["server"]["name"])
    try:
        container = docker_json("inspect", server.name)[0]
        assert container["HostConfig"]["NetworkMode"] in ("default", "bridge")
        assert contact(container) == f"tls://{bridge_address()}:{port}"
        with kernel_of(server) as kernel:
            said = kernel.run(COMPUTE % WORKERS, seconds=200)
        assert json.loads(said.stdout.split("RESULT ", 1)[1].splitlines()[0])[0][-1] == 18, said
        assert active(pool, "bob") == [RUNNING] * WORKERS
        # The engine's own words, should two launches choose a port at once.
        with pytest.raises(EngineError) as caught:
            docker("run", "--rm", "--publish", f"{bridge_address()}:{port}:8786", container["Image"], "true")
        assert refused(caught.value.detail, bridge_address(), port)
        assert main([*command, "--new", "--site", str(file)]) == 1
        assert f"all ports from {port} to {port}" in capsys.readouterr().err
    finally:
        servers.stop(cache_directory(), [server.name])
    wait_until_empty(pool, "bob")
