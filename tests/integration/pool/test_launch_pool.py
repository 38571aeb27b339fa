"""A launch whose workers are jobs of a real HTCondor pool, and what the doctor finds in good and in broken ones."""

from __future__ import annotations

import base64
import hmac
import json
import os
import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from builder.container.engine import docker as engine
from builder.container.engine import docker_json
from launcher import docker
from launcher.cli import main
from launcher.pools.doctor import examine_pool
from launcher.pools.site_pool import BatchPool
from launcher.security.idtokens import SigningKey
from launcher.site_config import cache_directory, load_site
from tests.testbed.condor.image import PoolError
from tests.testbed.git_repository import commit_files
from tests.testbed.launching import engine_answers, kernel_of, open_facility
from tests.testbed.pool import COMPLETED, REMOVED, RUNNING, running_pool
from tests.testbed.pool_site import write_pool_site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from launcher.pools.finding import Finding
    from launcher.servers import Server
    from tests.testbed.pool import RunningPool

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not engine_answers(), reason="no Docker Engine answers: run scripts/bootstrap"),
]

WORKERS = 2
FILES = {"requirements.txt": "particle>=1.0\n", "helper.py": "def double(number):\n    return 2 * number\n"}
COMPUTE = """
import os
from dask.distributed import Client
import helper
client = Client()
client.wait_for_workers(%d, timeout=120)
doubled = client.gather(client.map(helper.double, range(10)))
where = client.run(lambda: (os.getuid(), "_CONDOR_SCRATCH_DIR" in os.environ, os.environ["CASABINDER_ENV_ID"]))
print("RESULT", __import__("json").dumps([doubled, sorted(map(list, where.values()))]))
client.close()
"""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPool]:
    with running_pool(tmp_path_factory.mktemp("pool") / "pool", nodes=2) as running:
        yield running


@pytest.fixture
def site_file(pool: RunningPool, tmp_path: Path) -> Callable[..., Path]:
    """Write a site with the pool, with some entries replaced."""

    def write(**replaced: object) -> Path:
        return write_pool_site(tmp_path, pool, {"memory": "1GiB", "disk": "1GiB", **replaced})

    return write


def examine(file: Path, clock: Callable[[], float] = time.time) -> dict[str, Finding]:
    """Return what the doctor finds about the pool of a site."""
    return {finding.check: finding for finding in examine_pool(BatchPool.of_site(load_site(file)), clock)}


def states(findings: dict[str, Finding]) -> dict[str, str]:
    return {check: finding.state for check, finding in findings.items()}


def test_a_good_pool(site_file: Callable[..., Path], pool: RunningPool, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--json", "--site", str(site_file())])
    report = json.loads(capsys.readouterr().out)
    findings = {finding["check"]: finding for finding in report["findings"]}
    assert (status, report["ok"]) == (0, True), report
    assert list(findings) == ["collector", "schedd", "token", "write", "address", "universe", "images"]
    assert findings["collector"]["sentence"] == f"the collector {pool.collector} answers; it knows 2 nodes"
    assert "queues jobs of alice@testbed as theirs, and lets them do no more" in findings["write"]["sentence"]
    assert findings["universe"]["sentence"].startswith("2 of 2 slots run the docker universe: 8 cores on 2 nodes")
    assert pool.queue() == []


def test_a_site_without_a_pool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "site.yaml").write_text("registry: 127.0.0.1:9/none\n")
    assert main(["doctor", "--site", str(tmp_path / "site.yaml")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["ok", "engine"], ["FAILED", "images"]]


def test_the_container_universe(site_file: Callable[..., Path]) -> None:
    assert examine(site_file(universe="container"))["universe"].state == "ok"


def test_lines_and_status_without_a_collector(
    site_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--site", str(site_file(collector="127.0.0.1:9"))]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["FAILED", "collector"],
        ["skipped", "schedd"],
        ["ok", "token"],
        ["skipped", "write"],
        ["ok", "address"],
        ["skipped", "universe"],
        ["ok", "images"],
    ]
    assert "the collector 127.0.0.1:9 does not answer" in lines[0]


def test_no_such_schedd(site_file: Callable[..., Path]) -> None:
    findings = examine(site_file(schedd="other@testbed"))
    assert states(findings) | {"token": "", "universe": "", "address": ""} == {
        "collector": "ok",
        "schedd": "failed",
        "token": "",
        "write": "skipped",
        "universe": "",
        "address": "",
    }
    assert "knows no schedd other@testbed" in findings["schedd"].sentence


def test_the_wrong_key(site_file: Callable[..., Path]) -> None:
    file = site_file()
    (file.parent / "POOL").write_bytes(os.urandom(64))
    findings = examine(file)
    assert states(findings) == {
        "collector": "ok",
        "schedd": "ok",
        "token": "ok",
        "write": "failed",
        "address": "ok",
        "universe": "ok",
    }
    assert "refuses the token of alice@testbed: `pool.signing_key` must be the pool's key" in findings["write"].sentence


def test_a_key_that_others_can_read(site_file: Callable[..., Path]) -> None:
    file = site_file()
    (file.parent / "POOL").chmod(0o644)
    findings = examine(file)
    assert states(findings) | {"universe": "", "address": ""} == {
        "collector": "ok",
        "schedd": "ok",
        "token": "failed",
        "write": "skipped",
        "universe": "",
        "address": "",
    }
    assert "run `chmod 600" in findings["token"].sentence


def test_an_expired_token(site_file: Callable[..., Path]) -> None:
    two_days_ago = time.time() - 2 * 86_400
    findings = examine(site_file(), lambda: two_days_ago)
    assert findings["write"].state == "failed"
    assert "the clocks must agree" in findings["write"].sentence


def test_a_user_whom_the_pool_does_not_know(site_file: Callable[..., Path]) -> None:
    findings = examine(site_file(user="mallory"))
    assert findings["token"].state == "ok"
    assert findings["write"].state == "failed"
    assert "the schedd queues no job of mallory@testbed: " in findings["write"].sentence


def test_the_pools_own_identity_is_not_given_away(site_file: Callable[..., Path]) -> None:
    findings = examine(site_file(user="condor"))
    assert findings["token"].state == "failed"
    assert "'condor' can't be a user" in findings["token"].sentence


def test_tokens_are_signed_as_the_pool_signs_its_own(pool: RunningPool) -> None:
    text, _, signature = pool.token("alice").rpartition(".")
    key = SigningKey.load(pool.signing_key, "POOL")
    ours = base64.urlsafe_b64encode(hmac.digest(key.derived, text.encode(), "sha256")).decode().rstrip("=")
    assert signature == ours


def test_a_key_of_the_facilitys_own(site_file: Callable[..., Path], pool: RunningPool) -> None:
    file = site_file(signing_key="own", signing_key_id="casabinder")
    key = file.parent / "own"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(64))
    assert examine(file)["write"].state == "failed"
    engine("cp", str(key), f"{pool.name}:/etc/condor/passwords.d/casabinder")
    pool.run("chown", "root:root", "/etc/condor/passwords.d/casabinder")
    pool.run("condor_reconfig")
    deadline = time.monotonic() + 30
    while (finding := examine(file)["write"]).state != "ok":
        assert time.monotonic() < deadline, finding
        time.sleep(1)


def test_a_token_is_for_its_users_jobs_only(site_file: Callable[..., Path], pool: RunningPool, tmp_path: Path) -> None:
    site = load_site(site_file())
    alice, bob = BatchPool.of_site(site, "alice").token(), BatchPool.of_site(site, "bob").token()
    description = {
        "universe": "vanilla",
        "executable": "/bin/sh",
        "transfer_executable": "False",
        "arguments": "\"-c 'echo of alice > secret.txt'\"",
        "transfer_output_files": "secret.txt",
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "request_memory": "50",
        "request_disk": "10MB",
    }
    submit: dict[str, Any] = {"do": "submit", "description": description}
    hers, his = tmp_path / "alice", tmp_path / "bob"
    for directory in (hers, his):
        directory.mkdir()
    cluster = pool.ask(submit, directory=hers, token=alice)["cluster"]
    mine = f"ClusterId == {cluster}"
    pool.wait_for(f"{cluster}.0", COMPLETED)
    # Bob can neither fetch what alice's job wrote, nor remove it, nor submit in her name.
    for request in ({"do": "retrieve", "constraint": mine}, {"do": "act", "action": "Remove", "constraint": mine}):
        with suppress(PoolError):  # refused, or nothing done
            pool.ask(request, directory=his, token=bob)
    as_alice = {**submit, "description": {**description, "MY.Owner": '"alice"', "MY.User": '"alice@testbed"'}}
    with suppress(PoolError):  # refused, or his own all the same
        pool.ask(as_alice, directory=his, token=bob)
    assert list(his.iterdir()) == list(hers.iterdir()) == []
    assert [job["ClusterId"] for job in pool.queue(f"JobStatus != {REMOVED}") if job["Owner"] == "alice"] == [cluster]
    pool.ask({"do": "retrieve", "constraint": mine}, directory=hers, token=alice)
    assert (hers / "secret.txt").read_text() == "of alice\n"
    pool.run("condor_rm", "-all")


@pytest.fixture(scope="module")
def repository() -> Path:
    """A repository whose base is in the site's registry; at the same place in every run, its image is found again."""
    directory = cache_directory() / "test-repositories" / "pool-launch"
    with open_facility():
        shutil.rmtree(directory, ignore_errors=True)
        commit_files(directory, FILES)
    return directory


def launch(repository: Path, site: Path, capsys: pytest.CaptureFixture[str]) -> Server:
    """Run `casabinder launch --pool htcondor` and return the server."""
    command = ["launch", str(repository), "--pool", "htcondor", "--workers", str(WORKERS), "--memory", "2G"]
    status = main([*command, "--json", "--site", str(site)])
    out = capsys.readouterr()
    assert status == 0, out.err
    return docker.find(cache_directory(), json.loads(out.out)["server"]["name"])


def pool_token(server: Server) -> str:
    return engine("exec", server.name, "cat", "/run/casabinder/condor/token").strip()


def test_a_launch_computes_on_workers_of_the_pool(
    repository: Path, site_file: Callable[..., Path], pool: RunningPool, capsys: pytest.CaptureFixture[str]
) -> None:
    server = launch(repository, site_file(), capsys)
    try:
        with kernel_of(server) as kernel:
            said = kernel.run(COMPUTE % WORKERS, seconds=200)
            # In the machine's own network the sockets of kernels are files.
            connection = engine("exec", server.name, "sh", "-c", "cat ~/.local/share/jupyter/runtime/kernel-*.json")
        assert json.loads(connection)["transport"] == "ipc"
        assert said.error == "", said
        doubled, where = json.loads(said.stdout.split("RESULT ", 1)[1].splitlines()[0])
        assert doubled == [2 * number for number in range(10)]
        assert len(where) == WORKERS
        assert all(uid != 0 and in_job for uid, in_job, _ in where)
        assert {env_id for *_, env_id in where} == {server.env_id}
        jobs = pool.queue()
        assert [(job["Owner"], job["JobStatus"]) for job in jobs] == [("alice", RUNNING)] * WORKERS
        container = docker_json("inspect", server.name)[0]
        assert container["HostConfig"]["NetworkMode"] == "host"
        # The token is where only the server's user reads it, and nowhere else.
        listed = engine("exec", server.name, "stat", "-c", "%a %u", "/run/casabinder/condor/token").split()
        assert listed == ["400", "1000"]
        token = pool_token(server)
        for place in (json.dumps(container), json.dumps(jobs), engine("logs", server.name)):
            assert token.rpartition(".")[2] not in place

        engine("stop", server.name)
        wait_for_an_empty_queue(pool)
        again = launch(repository, site_file(), capsys)
        assert (again.name, again.url) == (server.name, server.url)
        assert pool_token(again) != token
        listed = engine("exec", server.name, "stat", "-c", "%a %u", "/run/casabinder/condor/token").split()
        assert listed == ["400", "1000"]
    finally:
        docker.stop(cache_directory(), [server.name])
    wait_for_an_empty_queue(pool)


def wait_for_an_empty_queue(pool: RunningPool) -> None:
    """Return when no job waits or runs; workers go with their session."""
    deadline = time.monotonic() + 60
    while left := pool.queue(f"JobStatus != {REMOVED} && JobStatus != {COMPLETED}"):
        assert time.monotonic() < deadline, left
        time.sleep(0.5)
