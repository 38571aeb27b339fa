"""The registry of a facility on one machine: run as a child where the site's registry is on this machine and silent.

It has the data, the configuration file and so the secret of the one that scripts/bootstrap runs.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import secrets
import shutil
import socket
import time
from typing import TYPE_CHECKING

from launcher.processes import Child
from registry_sync.errors import CasabinderError
from registry_sync.files import disk_error

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = "docker-registry"
START_SECONDS = 20.0
_HOST = re.compile(r"(?P<host>\[[0-9a-f:]+\]|[^:/\[\]]+):(?P<port>\d+)")
_SECRET = re.compile(r"^  secret: ([0-9a-f]{64})$", re.MULTILINE)


def loopback_address(registry: str) -> tuple[str, int] | None:
    """Return host and port of a registry (``HOST:PORT``) if that is this machine's loopback interface."""
    match = _HOST.fullmatch(registry)
    if match is None:
        return None
    host = match["host"].strip("[]")
    if host == "localhost":
        return "127.0.0.1", int(match["port"])
    try:
        return (host, int(match["port"])) if ipaddress.ip_address(host).is_loopback else None
    except ValueError:
        return None


def answers(address: tuple[str, int]) -> bool:
    """Say whether anything listens there."""
    try:
        with socket.create_connection(address, timeout=2):
            return True
    except OSError:
        return False


def start_registry(address: tuple[str, int], cache: Path, log: Path) -> Child:
    """Run a registry at ``address`` with its data in the cache, and return it once it listens."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise CasabinderError(
            f"no registry answers at {_join(address)}, and there is no {PROGRAM} to run one with: run scripts/bootstrap"
        )
    configuration = _configure(address, cache)
    child = Child.start("registry", [program, "serve", str(configuration)], log)
    deadline = time.monotonic() + START_SECONDS
    while not answers(address):
        if not child.running or time.monotonic() > deadline:
            child.end(1)
            said = (child.said() or ["it says nothing"])[-1]
            raise CasabinderError(f"the registry did not start at {_join(address)}: {said} (log: {log})")
        time.sleep(0.05)
    return child


def _configure(address: tuple[str, int], cache: Path) -> Path:
    """Write the registry's configuration, as scripts/bootstrap does: one secret for life, so that an upload that was
    interrupted can go on after a restart."""
    file = cache / "run" / "registry.yml"
    try:
        known = _SECRET.search(file.read_text(encoding="utf-8")) if file.exists() else None
        data = cache / "registry"
        data.mkdir(parents=True, exist_ok=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as sink:
            sink.write(
                "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n"
                f"    rootdirectory: {json.dumps(str(data))}\n  delete:\n    enabled: true\n"
                f"http:\n  addr: {_join(address)}\n  secret: {known[1] if known else secrets.token_hex(32)}\n"
            )
    except OSError as error:
        raise disk_error(error, file.parent) from error
    return file


def _join(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
