"""A real Jupyter server with the runtime's extension, and kernels driven through its HTTP and WebSocket API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import websocket
from casabinder_runtime.server_extension import BAD_END

from tests.testbed.free_port import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RUNTIME = Path(__file__).parents[2] / "base_images" / "runtime"
TOKEN = "test-token"  # of a server on loopback that lives for one test


@dataclass(frozen=True)
class Output:
    """What a cell said; ``traceback`` has the colours of a terminal in it."""

    stdout: str
    stderr: str
    error: str
    traceback: str = ""


class Kernel:
    """One kernel of the server."""

    def __init__(self, socket: websocket.WebSocket) -> None:
        self._socket = socket

    def run(self, code: str, *, seconds: float = 60) -> Output:
        """Run a cell and return what it said until it was done."""
        message_id = uuid.uuid4().hex
        header = {"msg_id": message_id, "msg_type": "execute_request", "username": "", "session": "s", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        self._socket.send(json.dumps(message))
        said = {"stdout": "", "stderr": "", "error": "", "traceback": ""}
        deadline = time.monotonic() + seconds
        while True:
            self._socket.settimeout(max(0.1, deadline - time.monotonic()))
            reply: dict[str, Any] = json.loads(self._socket.recv())
            kind, content = reply["header"]["msg_type"], reply["content"]
            if kind == "stream":
                said[content["name"]] += content["text"]
            elif kind == "error":
                said["error"] += f"{content['ename']}: {content['evalue']}"
                said["traceback"] += "\n".join(content["traceback"])
            idle = kind == "status" and content["execution_state"] == "idle"
            if idle and reply["parent_header"].get("msg_id") == message_id:
                return Output(**said)


@dataclass(frozen=True)
class NotebookServer:
    """A server that runs."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def get(self, path: str, *, token: str = TOKEN) -> httpx.Response:
        """GET a path below the server's base URL."""
        return httpx.get(f"{self.url}{path}", headers={"Authorization": f"token {token}"} if token else {})

    def session(self) -> dict[str, Any]:
        """Return what the extension says of the Dask session."""
        report: dict[str, Any] = self.get("casabinder/api/session").raise_for_status().json()
        return report

    def scale(self, workers: object) -> httpx.Response:
        """Ask for so many workers, as the page does."""
        headers = {"Authorization": f"token {TOKEN}"}
        return httpx.post(f"{self.url}casabinder/api/session/scale", headers=headers, json={"workers": workers})

    def wait_for_session(self, state: str, *, workers: int = 0, seconds: float = 60) -> dict[str, Any]:
        """Return the report once the session is in ``state`` with at least so many workers."""
        deadline = time.monotonic() + seconds
        while True:
            report = self.session()
            if report["state"] == state and report["workers"] >= workers:
                return report
            assert time.monotonic() < deadline, f"{report}\n{self.log.read_text()}"
            time.sleep(0.2)

    def wait_until_idle(self, said: str, *, seconds: float = 60) -> dict[str, Any]:
        """Return the report once it says ``said`` of workers without work."""
        deadline = time.monotonic() + seconds
        while said not in (report := self.session())["idle"]:
            assert time.monotonic() < deadline, f"{report}\n{self.log.read_text()}"
            time.sleep(0.2)
        return report

    @contextmanager
    def kernel(self) -> Iterator[Kernel]:
        """Start a kernel, and end it."""
        headers = {"Authorization": f"token {TOKEN}"}
        started = httpx.post(f"{self.url}api/kernels", headers=headers, json={}).raise_for_status().json()
        address = f"{self.url.replace('http', 'ws', 1)}api/kernels/{started['id']}/channels"
        socket = websocket.create_connection(address, header=headers, timeout=30)
        try:
            yield Kernel(socket)
        finally:
            socket.close()
            httpx.delete(f"{self.url}api/kernels/{started['id']}", headers=headers, timeout=30)

    def stop(self) -> None:
        """Ask the server to stop and wait for it; its session must end well."""
        self.process.terminate()
        self.process.wait(40)
        log = self.log.read_text()
        assert BAD_END not in log, log


@contextmanager
def running_notebook_server(
    directory: Path, *, identity: Path, repository: Path, environment: Mapping[str, str]
) -> Iterator[NotebookServer]:
    """Start a server whose Python is also the analysis environment; all its files are in ``directory``."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/user/someone/"
    homes = {
        name: str(directory / name.lower())
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "HOME", "IPYTHONDIR")
    }
    for path in homes.values():
        Path(path).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "jupyter_server", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--ServerApp.base_url=/user/someone/", f"--IdentityProvider.token={TOKEN}", "--ip=127.0.0.1"]
    command += ["--ServerApp.jpserver_extensions={'casabinder_runtime.server_extension': True}"]
    command += [f"--ServerApp.root_dir={repository}", "--ServerApp.port_retries=0"]
    command += [f"--CasabinderApp.identity={identity}", f"--CasabinderApp.repository={repository}"]
    command += [f"--CasabinderApp.python={sys.executable}"]
    log = directory / "server.log"
    inherited = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            cwd=repository,
            env={**inherited, **homes, "PYTHONPATH": str(RUNTIME), **environment},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    server = NotebookServer(url, process, log)
    try:
        _wait_until_it_answers(server)
        yield server
    finally:
        if process.poll() is None:
            server.stop()


def _wait_until_it_answers(server: NotebookServer) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            server.get("api/status").raise_for_status()
            return
        except (httpx.TransportError, httpx.HTTPStatusError):
            assert server.process.poll() is None, server.log.read_text()
            assert time.monotonic() < deadline, server.log.read_text()
            time.sleep(0.1)
