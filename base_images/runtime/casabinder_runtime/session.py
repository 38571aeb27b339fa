"""The session process: owns the scheduler and the workers behind one notebook server.

``python -m casabinder_runtime.session --directory DIR``, started by the server extension in the analysis environment,
asks for the pool of ``CASABINDER_POOL``. It makes the session's certificates, starts a TLS scheduler, publishes where
it is in the session directory, starts the pool's workers, and ends (workers, certificates and all) on SIGTERM, SIGINT,
or when the standard input it was given by the notebook server closes because that process is gone, however it went.
It ends then in any case: clusters that do not close are left behind (``cluster_end``), and should all else fail as
well, the process writes where its threads are, and is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from casabinder_runtime.cluster_end import end_cluster
from casabinder_runtime.cluster_start import start_cluster
from casabinder_runtime.control import SessionControl
from casabinder_runtime.data_push import DataAccess
from casabinder_runtime.errors import CasabinderError, SessionError
from casabinder_runtime.identity import IDENTITY_FILE, Identity, read_identity
from casabinder_runtime.left_behind import forget, hold
from casabinder_runtime.openssl_errors import clear_errors_before_use
from casabinder_runtime.pools import POOL_VARIABLE, PoolConfig, make_pool
from casabinder_runtime.pools.pool import Pool, SessionContext
from casabinder_runtime.ports import DASHBOARD_PORT, LOOPBACK, SCHEDULER_PORT
from casabinder_runtime.separate import SeparateClusters
from casabinder_runtime.server_pipe import ScaleRequests
from casabinder_runtime.session_directory import (
    RECORD,
    SessionRecord,
    SessionStatus,
    write_record,
    write_status,
)
from casabinder_runtime.tls import TlsFiles, create_session_certificates
from casabinder_runtime.workplace import add_repository

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed import SpecCluster

logger = logging.getLogger("casabinder_runtime.session")

GIVE_UP_SECONDS = 27.0  # from being told to stop; the notebook server waits a little longer


@dataclass(frozen=True)
class SessionOptions:
    """The command line, parsed."""

    directory: Path
    identity_file: Path
    repository: Path
    port: int
    dashboard_port: int
    stop_with_stdin: bool

    @classmethod
    def parse(cls, arguments: Sequence[str] | None = None) -> SessionOptions:
        """Read ``arguments``, or the command line."""
        parser = argparse.ArgumentParser(prog="casabinder_runtime.session", description=__doc__)
        parser.add_argument("--directory", type=Path, required=True, help="session directory, mode 0700")
        parser.add_argument("--identity", dest="identity_file", type=Path, default=IDENTITY_FILE)
        parser.add_argument("--repository", type=Path, default=Path(os.environ.get("REPO_DIR", "/srv/repo")))
        parser.add_argument("--port", type=int, default=SCHEDULER_PORT, help="of the scheduler, if it is free")
        parser.add_argument("--dashboard-port", type=int, default=DASHBOARD_PORT, help="if it is free")
        parser.add_argument("--stop-with-stdin", action="store_true", help="end when the standard input closes")
        return cls(**vars(parser.parse_args(arguments)))


async def run(
    options: SessionOptions, pool: Pool, *, token_command: Sequence[str] = (), idle_seconds: float = 0
) -> None:
    """Run a session until it is told to stop.

    ``token_command`` renews the token for reading data; workers without work for ``idle_seconds`` are given back (0:
    never).

    Raises:
        CasabinderError: it could not start, or not end as it should.
    """
    clear_errors_before_use()
    stop, wanted = _orders(options.stop_with_stdin)
    identity = read_identity(options.identity_file)
    add_repository(options.repository)
    tls = create_session_certificates(options.directory)
    hold(options.directory)
    forget(options.directory)
    try:
        context, cluster = await start_cluster(pool, _wanted(options, pool, identity, tls))
        separate = SeparateClusters(pool, context, idle_seconds)
        try:
            control, record = await _announce(options, identity, tls, separate.share(), cluster, idle_seconds)
            data = DataAccess(cluster.scheduler, token_command)
            await data.look()  # before there is a worker that would read without
            await separate.start(cluster.scheduler, control, record, data)
            cluster.scale(pool.workers)
            working = [asyncio.create_task(data.run()), asyncio.create_task(_obey(control, wanted))]
            await stop.wait()
            logger.info("session is told to stop")
            for task in working:
                task.cancel()
            (options.directory / RECORD).unlink()
        finally:
            ended = await asyncio.gather(separate.close(), end_cluster(cluster))
        if not all(ended):
            raise SessionError("not all workers of this session ended as they should: its log says more")
    finally:
        for path in [*options.directory.glob("*.pem"), *options.directory.glob("*.key")]:
            path.unlink()


def _wanted(options: SessionOptions, pool: Pool, identity: Identity, tls: TlsFiles) -> SessionContext:
    """Return the session as its pool sees it, if its ports are free."""
    return SessionContext(
        env_id=identity.env_id,
        identity_file=options.identity_file,
        repository=options.repository,
        tls=tls,
        host=pool.address,
        port=options.port,
        dashboard_port=options.dashboard_port,
        contact=pool.contact,
    )


async def _obey(control: SessionControl, wanted: asyncio.Queue[int]) -> None:
    """Scale as the notebook server says, until cancelled."""
    while True:
        await control.obey(await wanted.get())


async def _announce(
    options: SessionOptions, identity: Identity, tls: TlsFiles, pool: Pool, cluster: SpecCluster, idle_seconds: float
) -> tuple[SessionControl, SessionRecord]:
    """Take control of the scheduler, then publish where it is."""
    scheduler = cluster.scheduler
    message = ""
    if scheduler.port != SCHEDULER_PORT:
        message = (
            f"port {SCHEDULER_PORT} is taken, the Dask scheduler listens on {scheduler.port}: "
            f"use Client() without arguments"
        )
        logger.warning(message)
    control = SessionControl(cluster, pool, options.directory, message, idle_seconds)
    await scheduler.register_scheduler_plugin(control, idempotent=False)
    record = SessionRecord(
        address=f"tls://{LOOPBACK}:{scheduler.port}",
        dashboard_port=scheduler.services["dashboard"].port,
        tls_ca_file=str(tls.ca),
        tls_client_cert=str(tls.certificate("client")),
        tls_client_key=str(tls.key("client")),
        env_id=identity.env_id,
        image_id=identity.image_id,
        pool=pool.kind,
        pid=os.getpid(),
    )
    await control.state()
    write_record(options.directory, record)
    logger.info("scheduler at %s, dashboard on port %s", record.address, record.dashboard_port)
    return control, record


def _orders(stop_with_stdin: bool) -> tuple[asyncio.Event, asyncio.Queue[int]]:
    """Return an event that is set when the session must end, and the numbers of workers that the server asks for."""
    stop: asyncio.Event = asyncio.Event()
    wanted: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def end() -> None:
        if not stop.is_set():
            stop.set()
            faulthandler.dump_traceback_later(GIVE_UP_SECONDS, exit=True)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    if stop_with_stdin:
        requests = ScaleRequests()

        def read() -> None:
            data = os.read(0, 4096)
            for workers in requests.feed(data):
                wanted.put_nowait(workers)
            if not data:
                loop.remove_reader(0)
                end()

        loop.add_reader(0, read)
    return stop, wanted


def main() -> int:
    """Run the session of the command line; return the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    options = SessionOptions.parse()
    status = SessionStatus("stopped", message="the Dask session of this notebook has ended: restart the server")
    try:
        config = PoolConfig.parse(os.environ.get(POOL_VARIABLE, ""))
        asyncio.run(
            run(options, make_pool(config), token_command=config.token_command, idle_seconds=config.idle_seconds)
        )
    except CasabinderError as error:
        status = SessionStatus("failed", message=str(error))
    except Exception as error:
        logger.exception("the session failed")
        status = SessionStatus("failed", message=f"the Dask session failed: {error}")
    with contextlib.suppress(FileNotFoundError):  # the server has removed the directory already
        write_status(options.directory, status)
    if status.state == "failed":
        sys.stderr.write(f"{status.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
