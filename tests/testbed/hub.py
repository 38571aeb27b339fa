"""A real JupyterHub with its proxy, as casabinder configures it, but with the test as its launch service."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import yaml
from casabinder_runtime.ports import first_free_port

import launcher.hub
from builder.container.engine import docker
from launcher.container import LABEL, owner
from launcher.hub.client import HubClient
from launcher.hub.plan import ServePlan, secret_file
from launcher.processes import DIES_WITH_PARENT
from launcher.security.keys import Keys
from launcher.serve_checks import bridge_address, proxy_command
from launcher.site_config import Site, cache_directory, load_site
from tests.testbed.launching import remove_containers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONFIGURATION = Path(launcher.hub.__file__).parent / "jupyterhub_config.py"
# The hub starts no launch service: the test has its token, and nothing answers at "/".
_WITHOUT_SERVICE = f"""
load_subconfig({str(CONFIGURATION)!r})
for service in c.JupyterHub.services:
    if service["name"] == "launch":
        for name in ("command", "url", "display", "oauth_redirect_uri", "oauth_no_confirm"):
            service.pop(name, None)
"""
_SECONDS = 60.0


@dataclass
class RunningHub:
    """A hub that runs."""

    site: Site
    cache: Path
    plan: ServePlan
    keys: Keys
    process: subprocess.Popen[bytes]

    def client(self) -> HubClient:
        """Return a client with the launch service's token."""
        return HubClient(self.plan.hub_api_url, self.token)

    @property
    def token(self) -> str:
        """The launch service's token."""
        return self.keys.hex("service")

    @property
    def owner(self) -> str:
        """What the labels of its containers say."""
        return owner(self.cache)

    def containers(self) -> list[str]:
        """Return the ids of all its containers, running or not."""
        return docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}.hub={self.owner}").split()

    def log(self) -> str:
        """Return what the hub said."""
        return (self.cache / "hub.log").read_text(encoding="utf-8", errors="replace")

    def restart(self) -> None:
        """End the hub and start it again."""
        _end(self.process)
        self.process = _start(self.cache)
        _wait(self)


@contextmanager
def running_hub(cache: Path, site: Mapping[str, Any]) -> Iterator[RunningHub]:
    """Run a hub with its state in ``cache`` and settings of ``site.yaml``; its containers are removed at the end."""
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "site.yaml").write_text(yaml.safe_dump({"registry": load_site().registry, **site}), encoding="utf-8")
    settings = load_site(cache / "site.yaml")
    bridge = settings.hub.mode == "login"
    ports: list[int] = []
    for _ in range(4):
        # Below 32,768: the kernel gives those above to whoever connects.
        ports.append(first_free_port(20_000 + os.getpid() % 12_000, but=frozenset(ports)))
    plan = ServePlan(
        public_url=f"http://127.0.0.1:{ports[0]}",
        listen="127.0.0.1",
        port=ports[0],
        proxy_api_port=ports[1],
        hub_ip=bridge_address() if bridge else "127.0.0.1",
        hub_port=ports[2],
        service_port=ports[3],
        proxy_command=(*DIES_WITH_PARENT, *proxy_command(cache_directory())),
    )
    plan.write(cache)
    (cache / "hub.py").write_text(_WITHOUT_SERVICE, encoding="utf-8")
    keys = Keys.load(secret_file(cache, None))
    hub = RunningHub(settings, cache, plan, keys, _start(cache))
    try:
        _wait(hub)
        yield hub
    finally:
        _end(hub.process)
        remove_containers(hub.containers)
        volumes = docker("volume", "ls", "--quiet", "--filter", f"name=casabinder-home-{hub.owner}").split()
        if volumes:
            docker("volume", "rm", *volumes)


def _start(cache: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "CASABINDER_CACHE": str(cache), "CASABINDER_SITE": str(cache / "site.yaml")}
    environment["PYTHONPATH"] = str(CONFIGURATION.parents[2])
    command = [sys.executable, "-m", "launcher.hub", "--config", str(cache / "hub.py")]  # as `casabinder serve` does
    with (cache / "hub.log").open("ab") as log:
        return subprocess.Popen(command, cwd=cache, env=environment, stdout=log, stderr=log, start_new_session=True)


def _wait(hub: RunningHub) -> None:
    deadline = time.monotonic() + _SECONDS
    headers = {"Authorization": f"token {hub.token}"}
    while time.monotonic() < deadline:
        assert hub.process.poll() is None, hub.log()
        try:
            # The hub adds its own route when everything else is up.
            httpx.get(f"{hub.plan.hub_api_url}/users", headers=headers, trust_env=False).raise_for_status()
            if httpx.get(f"{hub.plan.proxy_url}/hub/api/", trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"the hub is not up after {_SECONDS:.0f} s: {hub.log()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a hub; it ends its proxy and its services."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
