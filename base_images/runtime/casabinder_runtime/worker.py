"""A Dask worker as a batch system starts it: ``python -P -m casabinder_runtime.worker tls://HOST:PORT --name ...``.

It is a bare process of some user in some directory: Docker runs it without the image's user, and an unpacked image even
without the image's environment. So the command makes what the image would have given it, in two steps:

1. ``HOME`` and ``TMPDIR`` are made in the job's scratch directory, ``PATH`` and the rest are set unless they are, and
   the image's entry point is run, which starts this command again (through the repository's ``start`` script, if any).
2. The worker runs, guarded as every worker is, without a nanny: the batch system is what starts it again, and the exit
   status must be the guard's own. SIGTERM lets it hand over its results and leave.

The arguments are those that dask-jobqueue gives to a worker. In a container with a network of its own it listens on
``--forwarded-port``, and joins once HTCondor has said which port of the node leads there.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from casabinder_runtime.errors import PoolError
from casabinder_runtime.forwarded_port import UNREACHABLE, contact_address

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENTRY_POINT = Path("/usr/local/bin/casabinder-entrypoint")
PREPARED = "CASABINDER_WORKER_HOME"  # set by the first step
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
DRAIN_SECONDS = 45.0  # less than the batch system waits after SIGTERM

logger = logging.getLogger("casabinder_runtime.worker")


@dataclass(frozen=True)
class WorkerOptions:
    """The command line, parsed; file names are relative to the job's directory."""

    scheduler: str
    name: str
    nthreads: int
    memory_limit: str
    death_timeout: float
    local_directory: str
    tls_ca_file: str
    tls_cert: str
    tls_key: str
    forwarded_port: int | None = None

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> WorkerOptions:
        """Read the command line of a worker."""
        parser = argparse.ArgumentParser(prog="casabinder_runtime.worker", description=__doc__.partition("\n")[0])
        parser.add_argument("scheduler")
        parser.add_argument("--name", required=True)
        parser.add_argument("--nthreads", type=int, default=1)
        parser.add_argument("--memory-limit", default="auto")
        parser.add_argument("--death-timeout", type=float, default=60.0, help="seconds without a scheduler")
        parser.add_argument("--local-directory", default="dask")
        parser.add_argument("--protocol", choices=["tls://"], help="there is no other")
        for name in ("--tls-ca-file", "--tls-cert", "--tls-key"):
            parser.add_argument(name, required=True)
        parser.add_argument("--forwarded-port", type=int, help="of the container, to which a port of the node leads")
        options = vars(parser.parse_args(arguments))
        del options["protocol"]
        return cls(**options)


def job_environment(environment: Mapping[str, str], scratch: Path, prefix: Path) -> dict[str, str]:
    """Return the environment of a worker: the job's own, with what the image and its entry point would have set."""
    search = environment.get("PATH") or "/usr/local/bin:/usr/bin:/bin"
    programs = str(prefix / "bin")
    image = {
        "KERNEL_PYTHON_PREFIX": str(prefix),
        "LANG": "C.UTF-8",
        "NB_PYTHON_PREFIX": str(prefix),
        "PYTHONUNBUFFERED": "1",
        "REPO_DIR": "/srv/repo",
        "XRD_LOGLEVEL": "Error",
    }
    if BUNDLE.exists():
        image |= dict.fromkeys(("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), str(BUNDLE))
    home = str(scratch / "home")
    return {
        **image,
        **environment,
        "HOME": home,
        "TMPDIR": str(scratch / "tmp"),
        "PATH": search if programs in search.split(":") else f"{programs}:{search}",
        PREPARED: home,
    }


def prepare(arguments: Sequence[str]) -> None:
    """Make the job's directories and start again through the image's entry point; does not return."""
    scratch = Path(os.environ.get("_CONDOR_SCRATCH_DIR") or ".").absolute()
    environment = job_environment(os.environ, scratch, Path(sys.prefix))
    for name in ("HOME", "TMPDIR"):
        Path(environment[name]).mkdir(mode=0o700, exist_ok=True)
    options = WorkerOptions.parse(arguments)
    for file in (options.tls_ca_file, options.tls_cert, options.tls_key):
        Path(file).chmod(0o400)
    command = [sys.executable, "-P", "-m", "casabinder_runtime.worker", *arguments]
    if ENTRY_POINT.exists():
        command = [str(ENTRY_POINT), *command]
    os.execve(command[0], command, environment)  # noqa: S606  # no shell is wanted


def reachability(options: WorkerOptions, environment: Mapping[str, str]) -> dict[str, str | int]:
    """Return where the worker listens and what it announces, as arguments of ``distributed.Worker``.

    Raises:
        PoolError: HTCondor does not say which port of the node is forwarded.
    """
    if options.forwarded_port is not None:
        return {
            "host": "0.0.0.0",  # noqa: S104  # of the container, which has one port that leads out
            "port": options.forwarded_port,
            "contact_address": contact_address(environment),
        }
    from distributed.utils import get_ip

    scheduler = urlsplit(options.scheduler)
    # The address from which this machine reaches the scheduler is where the other workers reach this machine.
    return {"host": get_ip(scheduler.hostname, scheduler.port)}


async def run(options: WorkerOptions) -> None:
    """Work until the scheduler lets this worker go, is gone for too long, or SIGTERM comes."""
    from distributed import Security, Worker

    from casabinder_runtime.openssl_errors import clear_errors_before_use

    clear_errors_before_use()
    security = Security(
        require_encryption=True,
        tls_ca_file=options.tls_ca_file,
        tls_worker_cert=options.tls_cert,
        tls_worker_key=options.tls_key,
    )
    worker = Worker(
        options.scheduler,
        name=options.name,
        nthreads=options.nthreads,
        memory_limit=options.memory_limit,
        death_timeout=options.death_timeout,
        local_directory=options.local_directory,
        **reachability(options, os.environ),
        protocol="tls://",
        security=security,
        dashboard=False,
        preload=["casabinder_runtime.guard", "casabinder_runtime.workplace"],
        preload_argv=[],
    )
    async with worker:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _drain, worker)
        await worker.finished()


def _drain(worker: object) -> None:
    """Let the worker finish what it does and hand over its results."""
    logger.warning("SIGTERM: this worker hands over its results and ends")

    async def leave() -> None:
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await worker.close_gracefully(reason="SIGTERM")  # type: ignore[attr-defined]  # distributed is untyped
        except Exception:
            logger.exception("this worker could not hand over its results")
            await worker.close(nanny=False, reason="SIGTERM")  # type: ignore[attr-defined]

    _leaving.add(asyncio.ensure_future(leave()))


_leaving: set[asyncio.Future[None]] = set()  # a task that nobody holds may be collected


def main() -> int:
    """Run the worker of the command line; return the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    arguments = sys.argv[1:]
    if os.environ.get(PREPARED) is None:
        prepare(arguments)
    try:
        asyncio.run(run(WorkerOptions.parse(arguments)))
    except PoolError as error:
        logger.error("%s", error)  # the sentence says it all
        return UNREACHABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
