"""Measures many builds at once on one builder (``scripts/bench many``): throughput, memory, and whether one starves.

Every build is a process of its own, as users start them, with a repository of its own; all share one cache and one
registry, which the benchmark runs itself. One of four brings a wheel that nobody has had before, the others what the
first of them made.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.site_config import cache_directory, load_site
from registry_sync.client import RegistryClient
from registry_sync.errors import CasabinderError
from scripts.benchmarks.build import BASE_REPOSITORY, copy_base, make_repository, passed_on, site_document
from scripts.benchmarks.local_registry import running_registry
from scripts.benchmarks.measure import run

if TYPE_CHECKING:
    from collections.abc import Sequence

# What the builds ask for, in turn: three that come to share their layers, and one that is alone with its wheels.
SHARED = ("particle==1.1.0", "pylhe==2.1.0")
ALONE = ("iminuit==2.33.0", "tabulate==0.10.0", "pyhepmc==2.16.1", "fastjet==3.5.2.0", "hepstats==0.10.1")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench many", description="Measure many builds at once.")
    parser.add_argument("--builds", type=int, default=20, metavar="N", help="how many at once (20)")
    parser.add_argument("--base", default="coffea-py313", metavar="NAME", help="a base of the site's registry")
    parser.add_argument("--children", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.children:
        sys.stdout.write(json.dumps(_seconds_of(json.loads(Path(arguments.children).read_text()))))
        return 0
    try:
        document = measure(arguments.builds, arguments.base)
    except CasabinderError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    sys.stdout.write(f"{json.dumps(document, indent=1)}\n")
    return 0


def measure(builds: int, base: str) -> dict[str, Any]:
    """Run ``builds`` builds at once and return what there is to know: seconds, bytes."""
    site = load_site(None)
    with ExitStack() as stack:
        parent = cache_directory()
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=parent)))
        registry = stack.enter_context(running_registry(scratch / "registry"))
        store = stack.enter_context(RegistryClient(registry.address))
        copy_base(base, site, store)
        site_file = scratch / "site.yaml"
        site_file.write_text(json.dumps(site_document(site, f"{registry.address}/many")), encoding="utf-8")
        surroundings = passed_on() | {"HOME": str(scratch / "home"), "CASABINDER_CACHE": str(scratch / "cache")}
        surroundings["CASABINDER_SITE"] = str(site_file)
        wanted = [SHARED if number % 4 else (ALONE[number // 4 % len(ALONE)], *SHARED) for number in range(builds)]
        repositories = [make_repository(scratch, f"many-{number}", lines) for number, lines in enumerate(wanted)]
        commands = [
            [_program(), "build", str(path), "--quiet", "--base", f"{registry.address}/{BASE_REPOSITORY}:current"]
            for path in repositories
        ]
        # The first of all fills uv's own cache of the index, which a builder has after its first day.
        first = make_repository(scratch, "first", (*ALONE, *SHARED))
        run([*commands[0][:2], str(first), *commands[0][3:], "--dry-run"], environment=surroundings)
        children = scratch / "children.json"
        children.write_text(json.dumps(commands), encoding="utf-8")
        mark, load = registry.mark(), os.getloadavg()[0]
        command = [sys.executable, "-m", "scripts.benchmarks.many", "--children", str(children)]
        done = run(command, environment=surroundings | {"PYTHONPATH": str(Path(__file__).parents[2])})
        seconds = sorted(json.loads(done.output))
        alone = make_repository(scratch, "alone", SHARED)
        single = run([*commands[0][:2], str(alone), *commands[0][3:]], environment=surroundings)
        traffic = registry.since(mark)
        median = statistics.median(seconds)
        return {
            "builds": builds,
            "cores": os.cpu_count(),
            "load before": round(load, 1),
            "wall seconds": round(done.seconds, 1),
            "builds per minute": round(60 * builds / done.seconds, 1),
            "one alone, seconds": round(single.seconds, 2),
            "median seconds": round(median, 1),
            "slowest seconds": round(seconds[-1], 1),
            "slowest / median": round(seconds[-1] / median, 2),
            "memory, resident MB": round(done.resident / 1e6),
            "memory, private MB": round(done.private / 1e6),
            "memory of one, private MB": round(single.private / 1e6),
            "stored MB": round(traffic.stored / 1e6, 1),
            "requests": traffic.requests,
            "seconds": [round(value, 2) for value in seconds],
        }


def _seconds_of(commands: Sequence[Sequence[str]]) -> list[float]:
    """Run all commands at once and return how long each took."""

    def one(command: Sequence[str]) -> float:
        began = time.monotonic()
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        return time.monotonic() - began

    with ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(one, commands))


def _program() -> str:
    return str(Path(sys.executable).with_name("casabinder"))


if __name__ == "__main__":
    sys.exit(main())
