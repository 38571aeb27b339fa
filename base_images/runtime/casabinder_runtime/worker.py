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
import socket
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from casabinder_runtime.errors import CasabinderError, WorkerError
from casabinder_runtime.forwarded_port import UNREACHABLE, ForwardingError, contact_address
from casabinder_runtime.worker_logs import MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ENTRY_POINT = Path("/usr/local/bin/casabinder-entrypoint")
PREPARED = "CASABINDER_WORKER_HOME"  # set by the first step
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
FAREWELL_SECONDS = 3.0
NAME_TAKEN = "name taken"  # what the scheduler says
NAME_SECONDS = 2.0  # until it is asked again
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
    """Work until the scheduler lets this worker go, is gone for too long, or SIGTERM comes.

    Raises:
        WorkerError: it can't.
    """
    from distributed import Security, Worker

    from casabinder_runtime.openssl_errors import clear_errors_before_use
    from casabinder_runtime.worker_failure import UnreadableMessages, check_trust

    clear_errors_before_use()
    security = Security(
        require_encryption=True,
        tls_ca_file=options.tls_ca_file,
        tls_worker_cert=options.tls_cert,
        tls_worker_key=options.tls_key,
    )
    await check_trust(options.scheduler, security)
    unreadable = UnreadableMessages()
    unreadable.listen()
    make = partial(
        Worker,
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
        preload=[f"casabinder_runtime.{name}" for name in ("guard", "workplace", "scratch_disk", "gpu_watch")],
        preload_argv=[],
    )
    worker = await _started(make, options)
    async with worker:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _drain, worker)
        ends = [asyncio.ensure_future(worker.finished()), asyncio.ensure_future(unreadable.stuck.wait())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        ends[1].cancel()
        failure = unreadable.failure()
        if failure is not None:
            raise failure


async def _started(make: Callable[[], Any], options: WorkerOptions) -> Any:
    """Return a worker that has joined.

    A job that HTCondor has started again may be faster than the scheduler in learning that its last run has ended.

    Raises:
        WorkerError: it could not join.
    """
    deadline = time.monotonic() + options.death_timeout
    while True:
        worker = make()
        try:
            return await worker
        except TimeoutError as error:
            raise WorkerError(
                f"the scheduler {options.scheduler} can't be reached from {socket.gethostname()}: "
                f"it was tried for {options.death_timeout:.0f} s"
            ) from error
        except RuntimeError as error:  # Dask has put the reason into its cause
            reason = str(error.__cause__ or error)
            if NAME_TAKEN not in reason or time.monotonic() > deadline:
                raise WorkerError(f"this worker could not join: {reason}") from error
        await asyncio.sleep(NAME_SECONDS)


def _drain(worker: object) -> None:
    """Let the worker finish what it does and hand over its log and its results."""
    logger.warning("SIGTERM: this worker hands over its results and ends")

    async def leave() -> None:
        await _say_farewell(worker)
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await worker.close_gracefully(reason="SIGTERM")  # type: ignore[attr-defined]  # distributed is untyped
        except Exception:
            logger.exception("this worker could not hand over its results")
            await worker.close(nanny=False, reason="SIGTERM")  # type: ignore[attr-defined]

    _leaving.add(asyncio.ensure_future(leave()))


async def _say_farewell(worker: Any) -> None:
    """Give the session this worker's log: HTCondor keeps none of a job that is sent away or removed."""
    log = "\n".join(line for _, line in reversed(worker.get_logs()))
    try:
        async with asyncio.timeout(FAREWELL_SECONDS):
            await worker.scheduler.casabinder_farewell(worker=worker.name, log=log[-MOST_BYTES:])
    except Exception:  # noqa: BLE001  # it is only a log
        logger.warning("the log could not be handed over")


_leaving: set[asyncio.Future[None]] = set()  # a task that nobody holds may be collected


def main() -> int:
    """Run the worker of the command line; return the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    arguments = sys.argv[1:]
    if os.environ.get(PREPARED) is None:
        prepare(arguments)
    try:
        asyncio.run(run(WorkerOptions.parse(arguments)))
    except CasabinderError as error:
        sys.stderr.write(f"casabinder: {error}\n")
        return UNREACHABLE if isinstance(error, ForwardingError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
