"""Measures a start (``scripts/bench start``): how long after the click there is a server, a kernel, a Dask session.

The image is that of a small repository, which the engine has. Each run makes a container as ``casabinder launch``
does, asks for a kernel as soon as the server answers, as the page does, and notes when each thing is there. At the end
the processor seconds of every process of the container are read, which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import websocket

from builder.container.engine import docker, docker_json
from builder.record import ImageRecord
from launcher.container import PORT, LaunchOptions, describe, image_name, secrets_archive
from launcher.site_config import cache_directory, load_site
from registry_sync.client import RegistryClient
from registry_sync.errors import CasabinderError
from scripts.benchmarks.build import BASE_REPOSITORY, copy_base, make_repository, passed_on, site_document
from scripts.benchmarks.docker_side import Engine
from scripts.benchmarks.local_registry import running_registry
from scripts.benchmarks.measure import run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TIMEOUT = 120.0
_PAUSE = 0.02
_STATS = "for stat in /proc/[0-9]*/stat; do cat $stat; tr '\\0' ' ' < ${stat%stat}cmdline; echo; done 2>/dev/null; true"
_ROLES = {  # what is in a process' command line
    "jupyter": "server",
    "ipykernel": "kernel",
    "casabinder_runtime.session": "session",
    "spawn_main": "workers",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench start", description="Measure what a start consists of.")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="how many starts (5)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="Dask workers (2)")
    parser.add_argument("--base", default="coffea-py313", metavar="NAME", help="a base of the site's registry")
    arguments = parser.parse_args(argv)
    try:
        moments, processor = measure(arguments.runs, arguments.workers, arguments.base)
    except CasabinderError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    _print_table("seconds after the click until", moments)
    _print_table("processor seconds of", processor)
    return 0


def measure(runs: int, workers: int, base: str) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return the seconds of each moment and the processor seconds of each role, one value per run."""
    site = load_site(None)
    moments: dict[str, list[float]] = {}
    processor: dict[str, list[float]] = {}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=cache_directory())))
        registry = stack.enter_context(running_registry(scratch / "registry"))
        with RegistryClient(registry.address) as store:
            copy_base(base, site, store)
        site_file = scratch / "site.yaml"
        site_file.write_text(json.dumps(site_document(site, f"{registry.address}/start")), encoding="utf-8")
        surroundings = passed_on() | {"HOME": str(scratch / "home"), "CASABINDER_CACHE": str(scratch / "cache")}
        surroundings["CASABINDER_SITE"] = str(site_file)
        command = [str(Path(sys.executable).with_name("casabinder")), "build", "--json", "--quiet", "--base"]
        command += [f"{registry.address}/{BASE_REPOSITORY}:current", str(make_repository(scratch, "start", ()))]
        record = ImageRecord.from_json(json.loads(run(command, environment=surroundings).output))
        engine = Engine(scratch)
        stack.callback(engine.clean)
        engine.pull(image_name(record))
        for _ in range(runs):
            for found, into in zip(_one(record, workers), (moments, processor), strict=True):
                for name, seconds in found.items():
                    into.setdefault(name, []).append(seconds)
    return moments, processor


def _one(record: ImageRecord, workers: int) -> tuple[dict[str, float], dict[str, float]]:
    """Start the image once and return its moments and processor seconds."""
    name = f"casabinder-bench-{secrets.token_hex(4)}"
    container = describe(record, LaunchOptions(workers=workers), name, "bench")
    token = secrets.token_hex(24)
    moments: dict[str, float] = {}
    began = time.monotonic()

    def reached(moment: str) -> None:
        moments[moment] = time.monotonic() - began

    try:
        docker(*container.arguments(), stdin=container.environment_file())
        docker("cp", "-", f"{name}:/run", stdin=secrets_archive(token))
        reached("created")
        docker("start", name)
        reached("started")
        port = docker_json("inspect", name)[0]["NetworkSettings"]["Ports"][f"{PORT}/tcp"][0]["HostPort"]
        headers = {"Authorization": f"token {token}"}
        with (
            httpx.Client(base_url=f"http://127.0.0.1:{port}/", headers=headers, trust_env=False) as client,
            ThreadPoolExecutor(1) as pool,
        ):
            _until(lambda: client.get("api/status").is_success)
            reached("server answers")
            session = pool.submit(_watch_session, client, workers, reached)
            _first_answer(client, f"ws://127.0.0.1:{port}/", headers)
            reached("kernel has answered")
            session.result()
        return moments, _processor_seconds(docker("exec", name, "sh", "-c", _STATS))
    finally:
        docker("rm", "--force", "--volumes", name)


def _watch_session(client: httpx.Client, workers: int, reached: Callable[[str], None]) -> None:
    if workers:
        _until(lambda: client.get("casabinder/api/session").json()["state"] == "running")
        reached("Dask session runs")
        _until(lambda: client.get("casabinder/api/session").json()["workers"] >= workers)
        reached("all workers there")


def _first_answer(client: httpx.Client, address: str, headers: dict[str, str]) -> None:
    """Have a kernel started, run a cell in it, and wait until it is done."""
    kernel = client.post("api/kernels", json={}, timeout=TIMEOUT).raise_for_status().json()["id"]
    socket = websocket.create_connection(f"{address}api/kernels/{kernel}/channels", header=headers, timeout=TIMEOUT)
    header = {"msg_id": "first", "msg_type": "execute_request", "username": "", "session": "bench", "version": "5.3"}
    content = {"code": "1", "silent": False, "store_history": True, "allow_stdin": False}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    socket.send(json.dumps(message))
    while True:
        reply = json.loads(socket.recv())
        if reply["header"]["msg_type"] == "execute_reply" and reply["parent_header"]["msg_id"] == "first":
            socket.close()
            return


def _until(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        try:
            if there():
                return
        except httpx.TransportError:
            pass
        time.sleep(_PAUSE)
    raise CasabinderError(f"nothing after {TIMEOUT:.0f} s: the machine is too busy, or the image does not start")


def _processor_seconds(listing: str) -> dict[str, float]:
    """Return the seconds by role from the ``stat`` and ``cmdline`` of all processes, a line each."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for stat, command in re.findall(r"^\d+ \(.*\) (.*)\n(.*)$", listing, re.MULTILINE):
        role = next((role for mark, role in _ROLES.items() if mark in command), "others")
        user, system = stat.split()[11:13]
        seconds[role] += (int(user) + int(system)) / 100  # USER_HZ, the same on every Linux of this architecture
    seconds["all together"] = sum(seconds.values())
    return dict(seconds)


def _print_table(title: str, rows: dict[str, list[float]]) -> None:
    sys.stdout.write(f"\n| {title} | median | fastest | slowest |\n|---|--:|--:|--:|\n")
    for name, seconds in rows.items():
        found = (statistics.median(seconds), min(seconds), max(seconds))
        sys.stdout.write(f"| {name} | " + " | ".join(f"{value:.2f}" for value in found) + " |\n")


if __name__ == "__main__":
    sys.exit(main())
