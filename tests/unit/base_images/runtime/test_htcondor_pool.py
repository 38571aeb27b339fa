from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Any

import pytest
from casabinder_runtime.errors import PoolError, SessionError
from casabinder_runtime.pools import PoolConfig
from casabinder_runtime.pools.htcondor import HTCondorPool, worker_files
from casabinder_runtime.pools.pool import SessionContext
from casabinder_runtime.pools.submission import PoolSite, WorkerShape
from casabinder_runtime.session import SessionOptions, run
from casabinder_runtime.tls import TlsFiles

from tests.testbed.identity import write_identity

OPTIONS: dict[str, Any] = {
    "cores": 2,
    "memory": "3GiB",
    "disk": "5GiB",
    "image": "registry.example.org/x:1",
    "collector": "cm.example.org:9618",
    "schedd": "facility@example.org",
    "trust_domain": "example.org",
    "universe": "docker",
    "network": "host",
    "address": "192.0.2.10",
    "accounting_group": "cms",
    "requirements": "HasGPU",
    "keep_claim_seconds": 60,
    "directives": {"concurrency_limits": "casabinder"},
    "gpus": 1,
    "cuda_driver": "12.4",
}


def pool(directory: Path, **changes: object) -> HTCondorPool:
    """Return the pool of these options."""
    options = {name: value for name, value in {**OPTIONS, **changes}.items() if value is not None}
    config = PoolConfig("htcondor", 2, 4, options)
    return HTCondorPool.from_config(config, {"CASABINDER_SECRETS": str(directory)})


def test_settings_of_the_site_reach_the_jobs(tmp_path: Path) -> None:
    config = PoolConfig("htcondor", 2, 4, OPTIONS, {"XCACHE_HOST": "xcache"})
    found = HTCondorPool.from_config(config, {"CASABINDER_SECRETS": str(tmp_path)})
    assert found.site.environment == {"XCACHE_HOST": "xcache"}


def test_everything_the_launch_says_reaches_the_pool(tmp_path: Path) -> None:
    found = pool(tmp_path)
    assert (found.workers, found.maximum, found.address) == (2, 4, "192.0.2.10")
    assert found.shape == WorkerShape(2, 3 * 2**30, 5 * 2**30, 1, "12.4")
    assert found.site == PoolSite(
        "registry.example.org/x:1", "docker", "host", "cms", "HasGPU", 60, {"concurrency_limits": "casabinder"}
    )
    assert found.schedd.token == tmp_path / "condor" / "token"
    assert (found.schedd.collector, found.schedd.name) == ("cm.example.org:9618", "facility@example.org")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image": None, "schedd": ""}, "an HTCondor pool needs image, schedd"),
        ({"universe": "vanilla"}, "must be docker or container, not 'vanilla'"),
        ({"network": "bridge"}, "network of an HTCondor pool must be host or nat, not 'bridge'"),
        ({"network": "nat", "universe": "container"}, "nat is for the docker universe"),
        ({"gpus": -1}, "gpus of an HTCondor pool must be a number of at least 0, not -1"),
        ({"cuda_driver": "new"}, "cuda_driver must be a version of CUDA such as 12.4, not 'new'"),
        ({"image": "oras://x:1"}, "HTCondor takes oras://x:1 for a directory"),
        ({"cores": 0}, "cores of an HTCondor pool must be a number of at least 1, not 0"),
        ({"memory": "much"}, "memory of an HTCondor pool must be a size such as \"2GiB\", not 'much'"),
        ({"disk": 5}, 'disk of an HTCondor pool must be a size such as "2GiB", not 5'),
        ({"schedd": "a\nb"}, "schedd of an HTCondor pool must be one line of text"),
        ({"directives": {"a": 1}}, "directives of an HTCondor pool must be texts by name"),
        ({"contact": "tcp://host:1"}, "contact of an HTCondor pool must be tls://HOST:PORT, not 'tcp://host:1'"),
        ({"contact": "tls://host"}, "contact of an HTCondor pool must be tls://HOST:PORT, not 'tls://host'"),
        ({"contact": "tls://host:port"}, "contact of an HTCondor pool must be tls://HOST:PORT"),
        ({"wrokers": 2, "colour": "red"}, "an HTCondor pool has no option colour, wrokers"),
        ({"image": "x@sha256:0"}, "can't keep an image that is named by digest"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(PoolError) as caught:
        pool(tmp_path, **changes)
    assert sentence in str(caught.value)


def test_workers_in_a_network_of_their_own(tmp_path: Path) -> None:
    assert pool(tmp_path, network="nat").site.network == "nat"


def test_a_worker_gets_its_own_tls_files_only() -> None:
    tls = TlsFiles(Path("/run/s"))
    context = SessionContext("e", Path("/etc/env.json"), Path("/srv/repo"), tls, "192.0.2.10", 8786, 8787)
    assert [path.name for path in worker_files(context)] == ["ca.pem", "worker.pem", "worker.key"]


def test_workers_elsewhere_are_given_the_address_and_clients_here_loopback() -> None:
    tls = TlsFiles(Path("/run/s"))
    here = SessionContext("e", Path("/etc/env.json"), Path("/srv/repo"), tls, "127.0.0.1", 8786, 8787)
    there = SessionContext("e", Path("/etc/env.json"), Path("/srv/repo"), tls, "192.0.2.10", 8786, 8787)
    options = [context.scheduler_options() for context in (here, there)]
    assert [(one["host"], one["contact_address"]) for one in options] == [
        ("127.0.0.1", "tls://127.0.0.1:8786"),
        ("", "tls://192.0.2.10:8786"),
    ]


def test_a_contact_address_is_what_workers_are_given(tmp_path: Path) -> None:
    assert pool(tmp_path).contact == ""
    found = pool(tmp_path, contact="tls://192.0.2.10:30417")
    assert found.contact == "tls://192.0.2.10:30417"
    tls = TlsFiles(Path("/run/s"))
    context = SessionContext(
        "e", Path("/etc/env.json"), Path("/srv/repo"), tls, found.address, 8786, 8787, found.contact
    )
    options = context.scheduler_options()
    assert (options["host"], options["port"], options["contact_address"]) == ("", 8786, "tls://192.0.2.10:30417")


def test_a_scheduler_that_is_reached_by_one_port_has_no_other(tmp_path: Path) -> None:
    options = SessionOptions(
        directory=tmp_path / "session",
        identity_file=write_identity(tmp_path / "env.json"),
        repository=tmp_path,
        port=8786,
        dashboard_port=8787,
        stop_with_stdin=False,
    )
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(socket.socket())
        # Like the look for a free port: else one on which a connection has just ended would be free to it, not to us.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # somebody has it already
            other.bind(("", 8786))
            other.listen()
        caught = stack.enter_context(pytest.raises(SessionError))
        asyncio.run(run(options, pool(tmp_path, contact="tls://192.0.2.10:30417")))
    assert str(caught.value) == (
        "port 8786 of this notebook is taken, and workers reach its Dask scheduler by no other: stop what listens "
        "there, and restart the server"
    )
    assert list(options.directory.glob("*.key")) == []
