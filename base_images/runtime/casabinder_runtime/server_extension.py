"""The Jupyter server extension: starts the Dask session with the notebook server and ends it with it.

It runs in the notebook server's environment, which has no Dask; the session runs in the analysis environment. The
server does not wait for it. Kernels find the session through the environment set here; the page and the launcher
through ``session_api``.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_server.extension.application import ExtensionApp
from traitlets import Unicode

from casabinder_runtime.data_access import VALUE_VARIABLE, VARIABLES, kernel_variables
from casabinder_runtime.errors import CasabinderError, IdentityError, PoolError
from casabinder_runtime.identity import IDENTITY_FILE, read_identity
from casabinder_runtime.late_extension import LateExtension
from casabinder_runtime.pools import POOL_VARIABLE, PoolConfig, check_workers
from casabinder_runtime.ports import DASHBOARD_PORT, LOOPBACK, SCHEDULER_PORT, first_free_port
from casabinder_runtime.server_pipe import scale_line
from casabinder_runtime.session_api import ScaleHandler, SessionHandler, SessionReport
from casabinder_runtime.session_directory import (
    LOG,
    SESSION_VARIABLE,
    SessionStatus,
    new_session_directory,
    read_record,
    read_status,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_server.serverapp import ServerApp

STOP_SECONDS = 30.0
LOOK_SECONDS = 5.0
BAD_END = "the Dask session did not end as it should"
DASHBOARD_PATH = "proxy/{port}/status"


class SessionProcess:
    """The session process, seen from the notebook server."""

    def __init__(self, directory: Path, process: subprocess.Popen[bytes], port: int) -> None:
        self.directory = directory
        self.port = port
        self._process = process

    @classmethod
    def start(
        cls, python: Path, repository: Path, identity_file: Path, environment: Mapping[str, str]
    ) -> SessionProcess:
        """Start a session with the analysis interpreter ``python``; returns at once.

        Raises:
            OSError: the interpreter cannot be started, or there is no port or no room for the session.
        """
        directory = new_session_directory(environment)
        port = first_free_port(SCHEDULER_PORT)
        dashboard_port = first_free_port(DASHBOARD_PORT, but=frozenset({port}))
        # -P: a file of the repository that is called like a module of Python must not get in the way.
        command = [str(python), "-P", "-m", "casabinder_runtime.session", "--stop-with-stdin"]
        command += ["--directory", str(directory), "--repository", str(repository), "--identity", str(identity_file)]
        command += ["--port", str(port), "--dashboard-port", str(dashboard_port)]
        with (directory / LOG).open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=repository if repository.is_dir() else None,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(directory, process, port)

    def report(self, env_id: str) -> SessionReport:
        """Return how the session fares."""
        status = read_status(self.directory)
        record = read_record(self.directory)
        code = self._process.poll()
        if code is not None and status.state in ("starting", "running"):
            message = f"the Dask session ended with status {code}: {self._last_words()}"
            return SessionReport("failed", message=message, env_id=env_id)
        if status.state == "running" and record is not None:
            return SessionReport.of(status, env_id, DASHBOARD_PATH.format(port=record.dashboard_port))
        return SessionReport.of(SessionStatus(status.state, message=status.message), env_id)

    def scale(self, workers: int) -> None:
        """Have the session scale; returns at once.

        Raises:
            PoolError: it may not have so many, or there is nobody to tell.
        """
        check_workers(workers, read_status(self.directory).maximum)
        assert self._process.stdin is not None  # noqa: S101  # by construction
        try:
            self._process.stdin.write(scale_line(workers))
            self._process.stdin.flush()
        except (OSError, ValueError) as error:  # it is gone, or was stopped
            raise PoolError("the Dask session of this notebook has ended: restart the server") from error

    async def wait_until_started(self) -> str | None:
        """Return the scheduler's address when it listens, or nothing if the session ended before."""
        while self._process.poll() is None:
            record = read_record(self.directory)
            if record is not None:
                return record.address
            await asyncio.sleep(0.2)
        return None

    async def stop(self) -> str:
        """End the session and its workers, and remove its directory; return what is wrong, if it does not end well."""
        problem = ""
        if self._process.poll() is None:
            self._process.terminate()
            problem = await self._end()
        if self._process.stdin is not None:
            self._process.stdin.close()
        shutil.rmtree(self.directory, ignore_errors=True)
        return problem

    async def _end(self) -> str:
        """Wait until the session has ended, or kill it; return what is wrong, with the log that is about to go."""
        try:
            code = await asyncio.to_thread(self._process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return f"{BAD_END}: it was killed after {STOP_SECONDS:g} s. Its log:\n{self._log()}"
        if code in (0, -signal.SIGTERM):  # the latter if it was still starting
            return ""
        return f"{BAD_END}: its status is {code}. Its log:\n{self._log()}"

    def _last_words(self) -> str:
        lines = self._log().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _log(self) -> str:
        return (self.directory / LOG).read_text(encoding="utf-8", errors="replace").strip()


def kernel_environment(directory: Path, address: str, base_url: str) -> dict[str, str]:
    """Return the variables that make Dask in a kernel find the session: address, certificates, notices, dashboard."""
    return {
        SESSION_VARIABLE: str(directory),
        "DASK_SCHEDULER_ADDRESS": address,
        "DASK_DISTRIBUTED__CLIENT__SECURITY_LOADER": "casabinder_runtime.client.security",
        "DASK_DISTRIBUTED__CLIENT__PRELOAD": "casabinder_runtime.client",
        "DASK_LOGGING": "{'distributed.preloading': 'warning'}",  # else every Client() tells of its preload
        # Dask fills in the port, so that a LocalCluster's dashboard is found as well.
        "DASK_DISTRIBUTED__DASHBOARD__LINK": f"{base_url}{DASHBOARD_PATH}",
    }


class CasabinderApp(ExtensionApp):
    """The extension; its settings are for the image and for tests, users have none."""

    name = "casabinder"

    identity = Unicode(str(IDENTITY_FILE), help="The image's env.json.").tag(config=True)
    python = Unicode(help="The interpreter of the analysis environment.").tag(config=True)
    repository = Unicode(help="The directory of the repository.").tag(config=True)

    _session: SessionProcess | None = None
    _watch: asyncio.Task[None] | None = None
    _problem = ""
    _pool = PoolConfig("local")

    def initialize_handlers(self) -> None:
        """Add the handler, and start the session: kernels may be asked for as soon as the server listens."""
        self.handlers.append((r"casabinder/api/session", SessionHandler, {"report": self.report}))
        self.handlers.append((r"casabinder/api/session/scale", ScaleHandler, {"scale": self.scale}))
        try:
            self._pool = PoolConfig.parse(os.environ.get(POOL_VARIABLE, ""))
            self._start_session()
            os.environ.update(self._pool.environment)
            self._let_kernels_read()
        except (CasabinderError, OSError) as error:
            self._problem = f"the Dask session could not be started: {error}"
            self.log.error(self._problem)

    def report(self) -> SessionReport:
        """Return how the session fares."""
        try:
            env_id = read_identity(Path(self.identity)).env_id
        except IdentityError as error:
            return SessionReport("failed", message=str(error))
        if self._session is not None:
            return self._session.report(env_id)
        return SessionReport("failed" if self._problem else "off", message=self._problem, env_id=env_id)

    def scale(self, workers: int) -> None:
        """Have the session scale.

        Raises:
            PoolError: it may not have so many workers, or there is no session.
        """
        if self._session is None:
            raise PoolError("this notebook has no Dask session: launch it with workers")
        self._session.scale(workers)

    async def _start_jupyter_server_extension(self, serverapp: ServerApp) -> None:
        self._watch = asyncio.create_task(self._follow(self._session, LateExtension(serverapp)))

    async def stop_extension(self) -> None:
        """Called when the server stops."""
        if self._watch is not None:
            self._watch.cancel()
        if self._session is not None:
            problem = await self._session.stop()
            if problem:
                self.log.error("casabinder: %s", problem)

    def _start_session(self) -> None:
        if self._pool.workers == 0:
            return
        prefix = os.environ.get("KERNEL_PYTHON_PREFIX", "/srv/env")
        python = Path(self.python or f"{prefix}/bin/python")
        repository = Path(self.repository or os.environ.get("REPO_DIR", "/srv/repo"))
        self._session = SessionProcess.start(python, repository, Path(self.identity), os.environ)
        self._set_kernel_environment(f"tls://{LOOPBACK}:{self._session.port}")

    async def _follow(self, session: SessionProcess | None, late: LateExtension) -> None:
        """See the session started, prepare what can wait, then let new kernels have the data's tokens of the time."""
        if session is not None:
            await self._see_started(session)
        await late.prepare()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._let_kernels_read()

    async def _see_started(self, session: SessionProcess) -> None:
        """Correct the address that kernels get, should the port have been taken meanwhile."""
        address = await session.wait_until_started()
        report = self.report()
        if address is None:
            self.log.error("casabinder: %s", report.message)
            return
        self._set_kernel_environment(address)
        self.log.info("casabinder: environment %s, Dask scheduler at %s. %s", report.env_id, address, report.message)

    def _let_kernels_read(self) -> None:
        """Point the variables of kernels to the token and the proxy that the workers get."""
        try:
            found = kernel_variables(os.environ, with_command=bool(self._pool.token_command and self._session))
        except OSError as error:  # there is no place for secrets; a session says so
            self.log.debug("casabinder: %s", error)
            return
        if VARIABLES["token"] in found:
            os.environ.pop(VALUE_VARIABLE, None)
        os.environ.update(found)

    def _set_kernel_environment(self, address: str) -> None:
        assert self._session is not None and self.serverapp is not None  # noqa: S101, PT018  # by construction
        os.environ.update(kernel_environment(self._session.directory, address, self.serverapp.base_url))


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    return [{"module": "casabinder_runtime.server_extension", "app": CasabinderApp}]


_load_jupyter_server_extension = CasabinderApp._load_jupyter_server_extension
