"""Starts an image as a notebook server and looks around in it: as root before, in a kernel, and in a Dask worker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from builder.container.engine import EngineError, docker
from builder.container.engine import pull as pull_by_digest
from launcher import docker as servers
from launcher.container import LaunchOptions, image_name
from tests.testbed.launching import kernel_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from builder.record import ImageRecord

PLACES = ("/tmp", "/root", "/home/jovyan")
_BEFORE = f"du --summarize --bytes {' '.join(PLACES)}; /srv/env/bin/python -P -m pip --no-cache-dir check 2>&1; true"
_LOOK = """
import importlib, importlib.metadata, json

def look(modules, distributions):
    found = {{}}
    for name in modules:
        importlib.import_module(name)
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ""
    with open("/etc/casabinder/env.json") as file:
        return {{"env_id": json.load(file)["env_id"], "versions": found}}

asked = json.loads({asked!r})
answer = {{"kernel": look(**asked)}}
if {workers}:
    from dask.distributed import Client
    client = Client()
    client.wait_for_workers(1, timeout=100)
    answer["worker"] = client.submit(look, **asked).result()
print("ANSWER", json.dumps(answer))
"""


@dataclass(frozen=True)
class Findings:
    """What an image is like: bytes of the directories that should be empty, what `pip check` says, the server's answer
    to ``/api``; what kernel and worker see (``env_id``, ``versions``), and the error of a cell that failed."""

    sizes: Mapping[str, int]
    pip_check: str
    api: Mapping[str, Any]
    kernel: Mapping[str, Any]
    worker: Mapping[str, Any]
    error: str


def look_at(
    record: ImageRecord,
    cache: Path,
    *,
    imports: Iterable[str],
    distributions: Iterable[str],
    code: str = "",
    workers: bool = True,
) -> Findings:
    """Return what is found in an image; the engine keeps nothing of it afterwards."""
    image = image_name(record)
    pull_by_digest(image)
    try:
        before = docker("run", "--rm", "--network=none", "--user=0", "--entrypoint=/bin/sh", image, "-c", _BEFORE)
        lines = before.strip().splitlines()
        sizes = {path: int(size) for size, path in (line.split("\t") for line in lines[: len(PLACES)])}
        pip_check = "\n".join(lines[len(PLACES) :])
        server = servers.launch(
            record, LaunchOptions(workers=1 if workers else 0, cpus=1.0, memory="2G"), cache, lambda _: None
        )
        try:
            api = httpx.get(f"{server.url}api", timeout=30, trust_env=False).raise_for_status().json()
            asked = json.dumps({"modules": list(imports), "distributions": list(distributions)})
            with kernel_of(server) as kernel:
                output = kernel.run(_LOOK.format(asked=asked, workers=workers), seconds=120)
                error = output.error
                if code and not error:
                    error = kernel.run(code, seconds=120).error
        finally:
            docker("stop", "--time", "0", server.name)  # how a server ends by itself is tested elsewhere
            servers.stop(cache, [server.name])
    finally:
        forget(image)
    answers = [json.loads(line.removeprefix("ANSWER")) for line in output.stdout.splitlines() if "ANSWER" in line]
    answer = answers[0] if answers else {}
    return Findings(sizes, pip_check, api, answer.get("kernel", {}), answer.get("worker", {}), error)


def forget(image: str) -> None:
    """Remove an image from the engine, if it is there."""
    try:
        docker("rmi", "--force", image)
    except EngineError as error:
        if "No such image" not in error.detail:
            raise
