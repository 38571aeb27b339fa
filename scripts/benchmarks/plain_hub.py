"""A plain JupyterHub with DockerSpawner, as BinderHub starts servers with: what it needs to start an image."""

from __future__ import annotations

import json
import secrets
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx

from builder.container.engine import docker
from launcher.serve_checks import bridge_address, proxy_command
from launcher.site_config import cache_directory
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from pathlib import Path

_SECONDS = 120
_SCOPES = ["admin:users", "admin:servers", "access:servers", "read:hub"]


def plain_start(directory: Path, image: str, runs: int) -> list[float]:
    """Return the seconds from asking a plain hub for a server of ``image`` to its being ready, once per run.

    The engine has the image. The first start is not counted.
    """
    directory.mkdir()
    bridge, token = bridge_address(), secrets.token_hex(16)
    port, api, hub = (_free_port() for _ in range(3))
    prefix = f"plain-{secrets.token_hex(4)}"
    settings = {
        "JupyterHub": {
            "bind_url": f"http://127.0.0.1:{port}",
            "hub_bind_url": f"http://{bridge}:{hub}",
            "db_url": f"sqlite:///{directory / 'hub.sqlite'}",
            "cookie_secret_file": str(directory / "cookie"),
            "pid_file": str(directory / "hub.pid"),
            "authenticator_class": "null",
            "spawner_class": "dockerspawner.DockerSpawner",
            "tornado_settings": {"slow_spawn_timeout": 0},
            "services": [{"name": "bench", "api_token": token}],
            "load_roles": [{"name": "bench", "services": ["bench"], "scopes": _SCOPES}],
        },
        "ConfigurableHTTPProxy": {
            "command": list(proxy_command(cache_directory())),
            "api_url": f"http://127.0.0.1:{api}",
            "pid_file": str(directory / "proxy.pid"),
        },
        "Spawner": {"start_timeout": _SECONDS, "http_timeout": _SECONDS},
        "DockerSpawner": {
            "image": image,
            "host_ip": "127.0.0.1",
            "remove": True,
            "cmd": ["jupyterhub-singleuser"],
            "name_template": f"{prefix}-{{username}}",
        },
    }
    configuration = directory / "jupyterhub_config.py"
    configuration.write_text(f"for name, traits in {settings!r}.items():\n    get_config()[name].update(traits)\n")
    command = [sys.executable, "-m", "jupyterhub", "-f", str(configuration)]
    with (directory / "hub.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log)
    try:
        base = f"http://{bridge}:{hub}/hub/api/"
        headers = {"Authorization": f"token {token}"}
        with httpx.Client(base_url=base, headers=headers, trust_env=False, timeout=_SECONDS) as client:
            _wait(client, process)
            return [_start(client, f"u{number}") for number in range(runs + 1)][1:]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        if left := docker("ps", "--all", "--quiet", "--filter", f"name={prefix}").split():
            docker("rm", "--force", "--volumes", *left)


def _start(client: httpx.Client, user: str) -> float:
    client.post(f"users/{user}").raise_for_status()
    began = time.monotonic()
    client.post(f"users/{user}/server").raise_for_status()
    with client.stream("GET", f"users/{user}/server/progress") as answer:
        for line in answer.iter_lines():
            event = json.loads(line[5:]) if line.startswith("data:") else {}
            if event.get("failed"):
                raise CasabinderError(f"the plain hub did not start a server: {event['message']}")
            if event.get("ready"):
                break
    seconds = time.monotonic() - began
    client.delete(f"users/{user}")
    return seconds


def _wait(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            client.get("users").raise_for_status()
        except httpx.TransportError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise CasabinderError("the plain hub did not start") from error
            time.sleep(0.1)
        else:
            return


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("", 0))
        return int(trial.getsockname()[1])
