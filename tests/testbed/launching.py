"""Real images of small repositories in the site's registry, and kernels of the servers that are launched from them."""

from __future__ import annotations

import shutil
import subprocess
import time
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

import httpx
import websocket

from base_images.assemble import build_base
from builder.build import build
from builder.container.engine import EngineError, docker
from builder.repository.spec import RepoSpec
from launcher.context import open_context
from tests.testbed.git_repository import commit_files
from tests.testbed.notebook_server import Kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from builder.record import ImageRecord
    from launcher.context import Context
    from launcher.servers import Server

_REMOVAL_SECONDS = 120.0


def engine_answers() -> bool:
    """Say whether there is a Docker Engine; for ``pytest.mark.skipif``."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "version"], capture_output=True, check=False, timeout=60).returncode == 0


def engine_has_gpus() -> bool:
    """Say whether the Docker Engine may give containers GPUs; for ``pytest.mark.skipif``."""
    return engine_answers() and "nvidia" in docker("info", "--format", "{{json .Runtimes}}")


def remove_containers(containers: Callable[[], list[str]]) -> None:
    """Remove containers with their volumes until ``containers()`` gives none; others may be removing them too."""
    deadline = time.monotonic() + _REMOVAL_SECONDS
    while there := containers():
        assert time.monotonic() < deadline, there
        for container in there:
            with suppress(EngineError):
                docker("rm", "--force", "--volumes", container)
        time.sleep(0.1)


@contextmanager
def open_facility() -> Iterator[Context]:
    """Give the site that scripts/bootstrap set up, with its default base in the registry (made if it is not)."""
    context = open_context()
    facility = context.facility
    definition = context.definition(context.site.base)
    with closing(facility.store):
        build_base(definition, context.workshop, facility.store, facility.registry, facility.prefix)
        yield context


def base_image(context: Context, name: str) -> str:
    """Return how the engine names a base of the catalogue; it is made if it is not in the registry."""
    facility = context.facility
    record = build_base(context.definition(name), context.workshop, facility.store, facility.registry, facility.prefix)
    return f"{record.reference.rpartition(':')[0]}@{record.digest}"


def build_repository(context: Context, name: str, files: Mapping[str, bytes | str]) -> ImageRecord:
    """Build a repository of these files; it lies at the same place in every run, so that its image is found again."""
    directory = context.facility.cache / "test-repositories" / name
    shutil.rmtree(directory, ignore_errors=True)
    commit_files(directory, files)
    return build(RepoSpec(str(directory)), context.bases(), context.facility)


@contextmanager
def kernel_of(server: Server) -> Iterator[Kernel]:
    """Start a kernel in a launched server, and end it."""
    headers = {"Authorization": f"token {server.token}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
        kernel = client.post("api/kernels", json={}).raise_for_status().json()["id"]
        address = f"{server.url.replace('http', 'ws', 1)}api/kernels/{kernel}/channels"
        socket = websocket.create_connection(address, header=headers, timeout=60)
        try:
            yield Kernel(socket)
        finally:
            socket.close()
            client.delete(f"api/kernels/{kernel}")
