"""Measures the launch service (``scripts/bench service``) in a facility of its own, started by ``casabinder serve``.

Three questions: how long from the click to a kernel that has answered, for an environment that is known, and where
that time goes; how long until ``/build`` says ``built`` for such an environment; and what many watchers of one build,
with many other builds waiting, cost. For comparison the same image is started by a plain JupyterHub with DockerSpawner:
BinderHub, which can't be installed without a cluster, starts servers through a JupyterHub too, so that this is the part
of a launch that both have.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import httpx
import psutil

from launcher.site_config import cache_directory
from registry_sync.errors import CasabinderError
from scripts.benchmarks.plain_hub import plain_start
from tests.testbed.facility import fresh, running_facility
from tests.testbed.git_repository import commit_files, git
from tests.testbed.git_server import running_git_server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.testbed.facility import RunningFacility
    from tests.testbed.git_server import GitServer

LINES, PAUSE = 300, 0.1
COUNTING = f"#!/bin/sh\nfor i in $(seq {LINES}); do echo counted $i; sleep {PAUSE}; done\n"
STEPS = ("resolve", "hub", "container", "server", "kernel")
REQUESTS = 50


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench service", description="Measure the launch service.")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="how many launches (5)")
    parser.add_argument("--watchers", type=int, default=1000, metavar="N", help="of one build (1000)")
    parser.add_argument("--builds", type=int, default=200, metavar="N", help="that wait meanwhile (200)")
    arguments = parser.parse_args(argv)
    try:
        document = measure(arguments.runs, arguments.watchers, arguments.builds)
    except CasabinderError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    _keep(document)
    sys.stdout.write(f"{json.dumps(document, indent=1)}\n\n{table(document)}\n")
    return 0


def measure(runs: int, watchers: int, builds: int) -> dict[str, Any]:
    """Return everything that was measured: seconds, bytes, counts."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        parent = cache_directory()
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=parent)))
        server = stack.enter_context(running_git_server(scratch / "git"))
        limits = {"per_user": builds + 10, "queue": builds + 10}
        site = {"service": {"builds": limits, "launches": {"per_user": 0}}}
        facility = stack.enter_context(running_facility(scratch / "facility", site=site))
        commit_files(scratch / "known", {"requirements.txt": "particle>=1.0\n"})
        server.add("known.git", scratch / "known")
        job = facility.build(server.url("known.git"))
        launches = [_launch(facility, server.url("known.git")) for _ in range(runs + 1)][1:]
        document: dict[str, Any] = {
            "load": os.getloadavg()[0],
            "started_seconds": _started(facility),
            "launches": launches,
            "plain_hub": plain_start(scratch / "plain", f"{job['image'].rpartition(':')[0]}@{job['digest']}", runs),
            "built_seconds": [_built(facility, server.url("known.git")) for _ in range(runs)],
        }
        document["crowd"] = asyncio.run(_crowd(facility, server, scratch, watchers, builds))
        return document


def table(document: dict[str, Any]) -> str:
    """Return the medians as Markdown."""
    launches, crowd = document["launches"], document["crowd"]
    lines = ["| click to a kernel that has answered | seconds |", "|---|--:|"]
    lines += [f"| {step} | {statistics.median(run[step] for run in launches):.2f} |" for step in (*STEPS, "total")]
    ours = statistics.median(run["hub"] + run["container"] + run["server"] for run in launches)
    plain = statistics.median(document["plain_hub"])
    lines.append(f"| until the server is ready, by a plain JupyterHub with DockerSpawner | {plain:.2f} |")
    lines.append(f"| the same here (hub, container, server) | {ours:.2f}, {plain / ours:.1f}x |")
    lines.append(f"| `/build` of a built image says `built` | {statistics.median(document['built_seconds']):.3f} |")
    lines += ["", "| a crowd | |", "|---|--:|", *(f"| {name.replace('_', ' ')} | {crowd[name]} |" for name in crowd)]
    return "\n".join(lines)


def _started(facility: RunningFacility) -> float:
    line = next(line for line in facility.said().splitlines() if "ready after" in line)
    return float(line.split()[2])


def _launch(facility: RunningFacility, url: str) -> dict[str, float]:
    """Launch a built environment as the page does, and return the seconds of each step."""
    moments = [time.monotonic()]
    with facility.visitor() as client:
        job = facility.submit(url, client=client)
        if job["state"] != "built":
            raise CasabinderError(f"the image of {url} is not there any more")
        moments.append(time.monotonic())
        launch = client.post("/api/launches", json={"build": job["id"], "workers": 0}).raise_for_status().json()
        wanted = ["starting the server", "waiting for the notebook server"]
        for _, event in facility.events(launch["events"], client=client):
            if wanted and event["message"].startswith(wanted[0]):
                wanted.pop(0)
                moments.append(time.monotonic())
            if event["kind"] != "message":
                if event["kind"] != "ready":
                    raise CasabinderError(f"the server did not start: {event['message']}")
                moments.append(time.monotonic())
                with facility.kernel(event) as kernel:
                    kernel.run("1 + 1")
                    moments.append(time.monotonic())
        client.delete(f"/api/servers/{launch['id']}?remove=true").raise_for_status()
    seconds = [after - before for before, after in pairwise(moments)]
    return {**dict(zip(STEPS, seconds, strict=True)), "total": moments[-1] - moments[0]}


def _built(facility: RunningFacility, url: str) -> float:
    """Return the seconds until BinderHub's endpoint says that an image is there."""
    began = time.monotonic()
    with facility.visitor() as client:
        for _, event in facility.events(f"/build/git/{quote(url, safe='')}/HEAD?build_only=true", client=client):
            if event.get("phase") in ("built", "ready"):
                return time.monotonic() - began
    raise CasabinderError(f"`/build` did not say that {url} is built")


@dataclass
class _Watcher:
    """What one watcher saw: the seconds until the first event, and the numbers of all."""

    first: float = 0.0
    numbers: list[int] = field(default_factory=list)


async def _crowd(
    facility: RunningFacility, server: GitServer, scratch: Path, watchers: int, builds: int
) -> dict[str, Any]:
    """Watch one build many times over while others wait, and look at the service meanwhile."""
    commit_files(scratch / "watched", {"postBuild": COUNTING, **fresh()})
    server.add("watched.git", scratch / "watched")
    work = scratch / "waiting"
    for number in range(builds):
        commit_files(work, {"number.txt": f"{number} {fresh()}"})
        git(work, "branch", f"b{number}")
    server.add("waiting.git", work)
    process = psutil.Process(facility.service_pid())
    alone = process.memory_info().rss
    job = await asyncio.to_thread(facility.submit, server.url("watched.git"))
    headers = {"Cookie": "; ".join(f"{cookie.name}={cookie.value}" for cookie in facility.client.cookies.jar)}
    crowd = [_Watcher() for _ in range(watchers)]
    tasks = [asyncio.create_task(_watch(facility.url, job["events"], headers, watcher)) for watcher in crowd]
    began = time.monotonic()
    waiting = await asyncio.to_thread(_submit, facility, server.url("waiting.git"), builds)
    submitted = time.monotonic() - began
    page = await asyncio.to_thread(_page_seconds, facility)
    most = process.memory_info().rss
    for waits in waiting:
        await asyncio.to_thread(facility.client.delete, f"/api/builds/{waits}")
    await asyncio.gather(*tasks)
    last = crowd[0].numbers[-1]
    whole = list(range(1, last + 1))
    firsts = sorted(watcher.first for watcher in crowd)
    return {
        "watchers": watchers,
        "builds_waiting": len(waiting),
        "seconds_to_ask_for_them": round(submitted, 2),
        "events": last,
        "watchers_that_saw_all_in_order": sum(watcher.numbers == whole for watcher in crowd),
        "seconds_to_first_event_median": round(statistics.median(firsts), 3),
        "seconds_to_first_event_worst": round(firsts[-1], 3),
        "page_milliseconds_median": round(1000 * statistics.median(page), 1),
        "page_milliseconds_worst": round(1000 * max(page), 1),
        "service_megabytes_before": round(alone / 1e6),
        "service_megabytes_with_the_crowd": round(most / 1e6),
        "kilobytes_per_watcher": round((most - alone) / 1000 / watchers),
    }


async def _watch(url: str, path: str, headers: dict[str, str], watcher: _Watcher) -> None:
    """Read an event stream to its end, through the proxy, with as little work of our own as can be."""
    address = urlsplit(url)
    began = time.monotonic()
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    lines = [f"GET {path} HTTP/1.1", f"Host: {address.netloc}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    async for line in reader:
        if line.startswith(b"id:"):
            watcher.first = watcher.first or time.monotonic() - began
            watcher.numbers.append(int(line[3:]))
    writer.close()


def _submit(facility: RunningFacility, url: str, builds: int) -> list[str]:
    return [facility.submit(url, ref=f"b{number}")["id"] for number in range(builds)]


def _page_seconds(facility: RunningFacility) -> list[float]:
    seconds = []
    with httpx.Client(base_url=facility.url, trust_env=False, timeout=60) as client:
        for _ in range(REQUESTS):
            began = time.monotonic()
            client.get("/").raise_for_status()
            seconds.append(time.monotonic() - began)
    return seconds


def _keep(document: dict[str, Any]) -> None:
    directory = Path(__file__).parents[2] / ".bench"
    directory.mkdir(exist_ok=True)
    name = time.strftime("service-%Y%m%d-%H%M%S.json")
    (directory / name).write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
