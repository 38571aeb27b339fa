"""A launch service for tests, without a hub: the real process, with a cache and a database of its own.

What needs the hub is answered with 503; everything else works as behind the proxy, which nobody needs here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from launcher.hub.plan import ServePlan
from tests.testbed.free_port import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

START_SECONDS = 60.0
_PAUSE = 0.05


@dataclass(frozen=True)
class RunningService:
    """A service that runs; ``url`` has no ``/`` at its end."""

    url: str
    cache: Path
    process: subprocess.Popen[bytes]

    def log(self) -> str:
        """Return what it has logged."""
        return (self.cache.parent / "service.log").read_text(errors="replace")


@contextmanager
def running_service(directory: Path, site: Mapping[str, Any] | None = None) -> Iterator[RunningService]:
    """Run a service that keeps everything in ``directory``; ``site`` are sections of its ``site.yaml``."""
    cache = directory / "cache"
    (cache / "service").mkdir(parents=True)
    document = {"registry": f"oci:{directory / 'registry'}", **(site or {})}
    (cache / "site.yaml").write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML
    port, nobody = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    ServePlan(url, "127.0.0.1", port, nobody, "127.0.0.1", nobody, port, ()).write(cache)
    environment = {name: value for name, value in os.environ.items() if name != "CASABINDER_SITE"}
    environment |= {
        "CASABINDER_CACHE": str(cache),
        "JUPYTERHUB_SERVICE_URL": url,
        "JUPYTERHUB_SERVICE_NAME": "launch",
        "JUPYTERHUB_SERVICE_PREFIX": "/services/launch/",
        "JUPYTERHUB_CLIENT_ID": "service-launch",
        "JUPYTERHUB_API_URL": f"http://127.0.0.1:{nobody}/hub/api",
        "JUPYTERHUB_API_TOKEN": "0" * 64,
    }
    with (directory / "service.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "launcher.service"], env=environment, stdout=log, stderr=log)
    service = RunningService(url, cache, process)
    try:
        _wait(service)
        yield service
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait()


def _wait(service: RunningService) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert service.process.poll() is None, service.log()
        assert time.monotonic() < deadline, service.log()
        try:
            httpx.get(f"{service.url}/versions", trust_env=False).raise_for_status()
        except httpx.TransportError:
            time.sleep(_PAUSE)
        else:
            return
