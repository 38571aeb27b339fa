"""The worker's side of the guard, a Dask preload: ends a worker whose image is not the notebook's, and says why.

``dask worker ... --preload casabinder_runtime.guard``, and ``--preload-nanny casabinder_runtime.guard`` so that a nanny
ends as well. The expected ``env_id`` is the one given when the worker was submitted (``CASABINDER_ENV_ID``), else the
scheduler's. On a difference the reason goes to the scheduler (and from there to the notebook) and to stderr, and the
process ends with status 78 before it has registered; a batch system can hold the job on that status.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from casabinder_runtime.errors import CasabinderError, IdentityError
from casabinder_runtime.identity import IDENTITY_FILE, read_identity
from casabinder_runtime.notices import refusal
from casabinder_runtime.openssl_errors import clear_errors_before_use
from casabinder_runtime.scheduler_plugin import STARTUP_KEY

if TYPE_CHECKING:
    from distributed import Nanny, Worker

WRONG_IMAGE = 78  # EX_CONFIG of sysexits.h; nothing in Dask or HTCondor ends with it
REPORT_SECONDS = 5.0


@click.command()
@click.option("--identity", type=click.Path(path_type=Path), default=IDENTITY_FILE, help="The image's env.json.")
async def dask_setup(server: Worker | Nanny, identity: Path) -> None:
    """Compare this image with the one that was expected; called by Dask before the worker registers."""
    clear_errors_before_use()
    try:
        found = read_identity(identity).env_id
        expected = os.environ.get("CASABINDER_ENV_ID") or await _ask(server)
    except CasabinderError as error:
        _end(str(error))
    if found != expected:
        _end(await _report(server, found, expected))
    if hasattr(server, "startup_information"):
        server.startup_information[STARTUP_KEY] = lambda _worker: found


async def _ask(server: Worker | Nanny) -> str:
    """Return the environment that the scheduler expects."""
    try:
        async with asyncio.timeout(REPORT_SECONDS):
            return str(await server.scheduler.casabinder_env_id())
    except Exception as error:
        raise IdentityError(
            "nobody says which environment this worker must have: "
            "neither CASABINDER_ENV_ID nor the scheduler, which is not one of casabinder"
        ) from error


async def _report(server: Worker | Nanny, found: str, expected: str) -> str:
    """Tell the scheduler why this worker ends, if it can be told, and return the sentence."""
    worker = f"{server.name or os.getpid()} on {socket.gethostname()}"
    try:
        async with asyncio.timeout(REPORT_SECONDS):
            return str(await server.scheduler.casabinder_refused(worker=worker, found=found))
    except Exception:  # noqa: BLE001  # whatever hinders the report, the worker must end
        return refusal(worker, found, expected).message


def _end(message: str) -> NoReturn:
    """End the process at once: Dask would log a raised exception and start the worker all the same."""
    sys.stderr.write(f"casabinder: {message}\n")
    sys.stderr.flush()
    os._exit(WRONG_IMAGE)
