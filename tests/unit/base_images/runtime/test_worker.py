from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
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
    (tmp_path / "job").write_text("dask_HostPort = 49153\n")
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
