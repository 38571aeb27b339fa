"""A whole facility for tests: the real ``casabinder serve`` on free ports, with JupyterHub, its proxy and the service.

Example usage/behaviour::

    with running_git_server(tmp_path / "git") as git, running_facility(tmp_path / "facility") as facility:
        git.add("group/repo.git", work_directory)
        job = facility.build(git.url("group/repo.git"))
        ready = facility.launch(job["id"])
        with facility.kernel(ready) as kernel:
            kernel.run("print(1)")

Its cache is its own; wheels, layers and the like are the site's, and so are the registry (the Docker Engine has the
base's layers from there) and its base. It may fetch from this machine. At the end all its containers are removed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import websocket

from builder.container.engine import docker
from launcher.container import LABEL, owner
from launcher.site_config import cache_directory, load_site
from tests.testbed.free_port import free_port
from tests.testbed.launching import remove_containers
from tests.testbed.notebook_server import Kernel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SHARED = ("wheels", "layers", "rootfs", "tools", "uv", "metadata", "made-wheels", "interpreters")
CHROMIUM = "/usr/bin/chromium"
START_SECONDS = 180.0
_PAUSE = 0.1


@dataclass
class RunningFacility:
    """A facility that runs. ``url`` has no ``/`` at its end; ``cache`` is its cache directory."""

    url: str
    cache: Path
    process: subprocess.Popen[bytes]
    command: list[str]
    environment: dict[str, str]
    first: httpx.Client | None = None
    clients: list[httpx.Client] = field(default_factory=list)

    # --- asking it -------------------------------------------------------------------------------------------

    def visitor(self, **options: Any) -> httpx.Client:
        """Return a client with cookies of its own, as a browser: what it changes, it changes as one visitor."""

        def show_that_it_is_meant(request: httpx.Request) -> None:
            if (value := client.cookies.get("_xsrf", path="/")) is not None:
                request.headers.setdefault("X-Xsrftoken", value)

        hooks = {"request": [show_that_it_is_meant]}
        client = httpx.Client(base_url=self.url, timeout=60, trust_env=False, event_hooks=hooks, **options)
        self.clients.append(client)
        return client

    @property
    def client(self) -> httpx.Client:
        """One visitor, always the same."""
        if self.first is None:
            self.first = self.visitor()
        return self.first

    def submit(self, url: str, *, client: httpx.Client | None = None, **fields: Any) -> dict[str, Any]:
        """Ask for a build and return its job as it is then."""
        answer = (client or self.client).post("/api/builds", json={"url": url, **fields})
        assert answer.status_code in (200, 202), answer.text
        job: dict[str, Any] = answer.json()
        return job

    def events(
        self, path: str, *, after: int = 0, client: httpx.Client | None = None, seconds: float = 300
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield number and content of the events of a stream until it ends; ``after`` is sent as ``Last-Event-ID``."""
        headers = {"Last-Event-ID": str(after)} if after else {}
        with (client or self.client).stream("GET", path, headers=headers, timeout=seconds) as answer:
            assert answer.status_code == 200, answer.read()
            number = 0
            for line in answer.iter_lines():
                if line.startswith("id:"):
                    number = int(line[3:])
                elif line.startswith("data:"):
                    yield number, json.loads(line[5:])

    def job(self, job_id: str, *, client: httpx.Client | None = None) -> dict[str, Any]:
        """Return a job."""
        answer = (client or self.client).get(f"/api/builds/{job_id}")
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def build(self, url: str, *, client: httpx.Client | None = None, **fields: Any) -> dict[str, Any]:
        """Ask for a build, watch it to its end, and return its job; it must be built."""
        job = self.submit(url, client=client, **fields)
        for _ in self.events(job["events"], client=client):
            pass
        job = self.job(job["id"], client=client)
        assert job["state"] == "built", (job, self.log())
        return job

    def launch(self, build: str, *, client: httpx.Client | None = None, **fields: Any) -> dict[str, Any]:
        """Launch a job's image, wait until its server is ready, and return the event that says so (with ``launch``)."""
        answer = (client or self.client).post("/api/launches", json={"build": build, **fields})
        assert answer.status_code == 202, answer.text
        launch = answer.json()
        for _, event in self.events(launch["events"], client=client):
            assert event["kind"] != "failed", (event, self.log())
            if event["kind"] == "ready":
                return {**event, "launch": launch["id"], "server": launch["server"]}
        raise AssertionError(f"the launch's events ended: {self.log()}")

    @contextmanager
    def kernel(self, ready: Mapping[str, Any]) -> Iterator[Kernel]:
        """Start a kernel in a launched server, through the facility's proxy, and end it."""
        headers = {"Authorization": f"token {ready['token']}"}
        with httpx.Client(base_url=ready["url"], headers=headers, timeout=60, trust_env=False) as client:
            kernel = client.post("api/kernels", json={}).raise_for_status().json()["id"]
            address = f"{ready['url'].replace('http', 'ws', 1)}api/kernels/{kernel}/channels"
            channels = websocket.create_connection(address, header=headers, timeout=60)
            try:
                yield Kernel(channels)
            finally:
                channels.close()
                client.delete(f"api/kernels/{kernel}")

    # --- its processes and containers -----------------------------------------------------------------------

    def pids(self, word: str) -> list[int]:
        """Return the processes of this facility in whose command line ``word`` is an argument (or ends one)."""
        found = []
        for process in psutil.process_iter(["cmdline", "pid"]):
            arguments = process.info["cmdline"] or []
            if any(argument == word or argument.endswith(f"/{word}") for argument in arguments):
                try:
                    mine = process.environ().get("CASABINDER_CACHE") == str(self.cache)
                    alive = process.status() != psutil.STATUS_ZOMBIE
                except psutil.Error:
                    continue  # it has just ended
                if mine and alive:
                    found.append(process.info["pid"])
        return found

    def hub_pid(self) -> int:
        """Return JupyterHub's process."""
        return _only(self.pids("launcher.hub"))

    def service_pid(self) -> int:
        """Return the launch service's process."""
        return _only(self.pids("launcher.service"))

    def build_pids(self) -> list[int]:
        """Return the processes that build."""
        return self.pids("launcher.jobs.build_process")

    def containers(self) -> list[str]:
        """Return the ids of this facility's containers, running or not."""
        return docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}.hub={owner(self.cache)}").split()

    def log(self) -> str:
        """Return everything that it has logged."""
        logs = sorted((self.cache / "log" / "serve").glob("*.log"))
        texts = [f"--- {file.name}\n{file.read_text(errors='replace')}" for file in logs]
        return "\n".join([*texts, f"--- serve\n{self.said()}"])

    def said(self) -> str:
        """Return what the command itself said."""
        return (self.cache.parent / "serve.log").read_text(errors="replace")

    # --- its life -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it (again, on the same port), and wait until it answers."""
        with (self.cache.parent / "serve.log").open("wb") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while "\n  ready after " not in self.said():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(_PAUSE)
        self.url = next(line for line in self.said().splitlines() if line.startswith("http")).rstrip("/")

    def stop(self) -> int:
        """End it in good order and return its exit status; notebook servers go on."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        assert "and was killed" not in self.said(), self.log()
        return status

    def wait_for(self, what: str, seconds: float = 60) -> None:
        """Wait until it has logged or said something."""
        deadline = time.monotonic() + seconds
        while what not in self.log():
            assert time.monotonic() < deadline, f"{what!r} did not come: {self.log()}"
            time.sleep(_PAUSE)

    def remove_containers(self) -> None:
        """Remove its notebook servers with their files."""
        remove_containers(self.containers)


@contextmanager
def running_facility(directory: Path, *, site: Mapping[str, Any] | None = None) -> Iterator[RunningFacility]:
    """Run a facility that keeps everything in ``directory``; ``site`` is merged into its ``site.yaml``."""
    cache = directory / "cache"
    cache.mkdir(parents=True)
    for name in SHARED:
        place = cache_directory() / name
        place.mkdir(parents=True, exist_ok=True)
        (cache / name).symlink_to(place)
    document: dict[str, Any] = {
        "registry": load_site().registry,
        "repositories": {"private_addresses": True},
        "limits": {"cpus": 1, "memory": "2G"},
        "service": {"port": free_port(), "rate": {"requests": 0}},
    }
    (cache / "site.yaml").write_text(json.dumps(_merged(document, site or {})), encoding="utf-8")  # JSON is YAML
    surroundings = {**os.environ, "CASABINDER_CACHE": str(cache)}
    surroundings.pop("CASABINDER_SITE", None)
    # As a script starts it in the background; what it ignores, its children would ignore.
    command = ["env", "--ignore-signal=INT", sys.executable, "-m", "launcher.cli", "serve"]
    process: Any = None
    facility = RunningFacility("", cache, process, command, surroundings)
    try:
        facility.start()
        yield facility
    finally:
        if facility.process is not None:
            facility.stop()
        for client in facility.clients:
            client.close()
        for pid in facility.build_pids():
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        facility.remove_containers()


def fresh() -> dict[str, str]:
    """Return a file that makes a repository one that nobody has built before."""
    return {"fresh.txt": uuid.uuid4().hex}


def _merged(document: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(document)
    for name, value in other.items():
        known = merged.get(name)
        merged[name] = _merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def _only(pids: list[int]) -> int:
    # A process that has just been forked looks like its parent.
    assert pids, "there is no such process"
    return min(pids)
