from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from casabinder_runtime import worker
from casabinder_runtime.errors import WorkerError
from casabinder_runtime.worker import PREPARED, WorkerOptions, job_environment, reachability

TLS = ["--tls-ca-file", "ca.pem", "--tls-cert", "worker.pem", "--tls-key", "worker.key"]
PREFIX = Path("/srv/env")
SCRATCH = Path("/scratch/dir_1")


def test_the_arguments_are_those_of_dask_jobqueue() -> None:
    line = "tls://192.0.2.1:8786 --name w-0 --nthreads 2 --memory-limit 2.00GiB --death-timeout 60"
    options = WorkerOptions.parse([*line.split(), "--local-directory", "dask", "--protocol", "tls://", *TLS])
    assert options == WorkerOptions(
        "tls://192.0.2.1:8786", "w-0", 2, "2.00GiB", 60.0, "dask", "ca.pem", "worker.pem", "worker.key"
    )


def test_plaintext_cannot_be_asked_for() -> None:
    with pytest.raises(SystemExit):
        WorkerOptions.parse(["tcp://192.0.2.1:8786", "--name", "w-0", "--protocol", "tcp://", *TLS])
    with pytest.raises(SystemExit):
        WorkerOptions.parse(["tls://192.0.2.1:8786", "--name", "w-0"])


def test_behind_a_forwarded_port_it_listens_everywhere_and_announces_the_node(tmp_path: Path) -> None:
    (tmp_path / "job").write_text("dask_HostPort = undefined\ndask_HostPort = 49153\n")
    (tmp_path / "machine").write_text('MyAddress = "<192.0.2.5:9618?sock=startd>"\n')
    environment = {"_CONDOR_JOB_AD": str(tmp_path / "job"), "_CONDOR_MACHINE_AD": str(tmp_path / "machine")}
    options = WorkerOptions.parse(["tls://127.0.0.1:8786", "--name", "w-0", *TLS, "--forwarded-port", "8788"])
    assert reachability(options, environment) == {
        "host": "0.0.0.0",
        "port": 8788,
        "contact_address": "tls://192.0.2.5:49153",
    }
    assert reachability(replace(options, forwarded_port=None), {}) == {"host": "127.0.0.1"}


def test_a_bare_process_gets_what_the_image_would_have_given() -> None:
    environment = job_environment({"HOME": "/home/alice", "CASABINDER_ENV_ID": "1"}, SCRATCH, PREFIX)
    assert environment["HOME"] == environment[PREPARED] == "/scratch/dir_1/home"
    assert environment["TMPDIR"] == "/scratch/dir_1/tmp"
    assert environment["PATH"] == "/srv/env/bin:/usr/local/bin:/usr/bin:/bin"
    assert environment["REPO_DIR"] == "/srv/repo"
    assert environment["CASABINDER_ENV_ID"] == "1"


def test_what_the_image_has_set_stays() -> None:
    image = {"PATH": "/srv/jupyter/commands:/srv/env/bin:/usr/bin", "LANG": "en_US.UTF-8", "REPO_DIR": "/home/repo"}
    assert image.items() <= job_environment(image, SCRATCH, PREFIX).items()


def options(death_timeout: float) -> WorkerOptions:
    """Return the command line of a worker that may look for its scheduler for so many seconds."""
    return WorkerOptions.parse(["tls://192.0.2.1:1", "--name", "w-0", f"--death-timeout={death_timeout}", *TLS])


async def refused(reason: str) -> str:
    """Fail as a Dask worker does that the scheduler refuses."""
    raise RuntimeError("Worker failed to start.") from ValueError(f"Unable to connect to scheduler: {reason}")


async def joined() -> str:
    """Join."""
    return "a worker"


def test_a_worker_whose_last_run_is_still_there_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "NAME_SECONDS", 0)
    tries = iter([refused("name taken, w-0"), refused("name taken, w-0"), joined()])
    assert asyncio.run(worker._started(lambda: next(tries), options(60))) == "a worker"


def test_why_a_worker_could_not_join_is_one_sentence() -> None:
    for seconds, reason in ((60, "its image is another one"), (-1, "name taken, w-0")):
        with pytest.raises(WorkerError, match=f"could not join: Unable to connect to scheduler: {reason}"):
            asyncio.run(worker._started(lambda: refused(reason), options(seconds)))  # noqa: B023  # it is called at once


def test_a_scheduler_that_is_not_found_is_one_sentence() -> None:
    async def lost() -> None:
        raise TimeoutError("Worker start timed out after 60s.")

    with pytest.raises(WorkerError, match=r"the scheduler tls://192\.0\.2\.1:1 can't be reached from .+ for 60 s"):
        asyncio.run(worker._started(lost, options(60)))
