"""Measures Dask workers (``scripts/bench workers``): in a real HTCondor pool, and what TLS and the guard cost.

What is compared, and how to read it: docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.site_config import cache_directory
from registry_sync.errors import CasabinderError
from scripts.benchmarks.build import machine
from scripts.benchmarks.workers_here import EXAMPLE, many_workers, ratio, tls_cost
from scripts.benchmarks.workers_in_pool import open_bench

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("click", "node", "race", "tls", "many")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench workers", description="Measure Dask workers.")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="of everything (3)")
    parser.add_argument("--workers", type=int, default=100, metavar="N", help="that join one scheduler (100)")
    parser.add_argument("--files", type=int, default=4, metavar="N", help="of each of three processes (4)")
    parser.add_argument("--events", type=int, default=20_000, metavar="N", help="in a file (20000)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts (all)")
    arguments = parser.parse_args(argv)
    logging.getLogger("distributed").setLevel(logging.ERROR)  # of workers that go when they have been counted
    try:
        document = measure(arguments)
    except CasabinderError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    file = ROOT / ".bench" / time.strftime("workers-%Y%m%d-%H%M%S.json")
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{table(document)}\n\nall samples: {file}\n")
    return 0


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return everything that was measured, in seconds unless the name says otherwise."""
    document: dict[str, Any] = {"machine": machine(), "command": sys.argv[1:], "load": {}}
    runs, only = arguments.runs, arguments.only
    with tempfile.TemporaryDirectory(prefix="bench-", dir=cache_directory()) as name:
        scratch = Path(name)
        if {"click", "node", "race"} & set(only):
            with open_bench(scratch) as bench:
                if "click" in only:
                    bench.click()  # the pool's image and its daemons' caches are warm from here on
                    document["load"]["click"] = os.getloadavg()[0]
                    document["click"] = {"cold": [], "warm": []}
                    for _ in range(runs):
                        bench.forget()
                        document["click"]["cold"].append(bench.click())
                        document["click"]["warm"].append(bench.click())
                    _say(f"click: {document['click']}")
                if "node" in only:
                    document["load"]["node"] = os.getloadavg()[0]
                    document["node"] = {"has it": bench.join(bench.record.image), "lacks it": [], "again": []}
                    for _ in range(runs):
                        with bench.unique_copy() as (image, size):
                            first, second = bench.join(image)
                            document["node"]["lacks it"].append(first)
                            document["node"]["again"].append(second)
                            document["node_image_bytes"] = size
                    _say(f"node: {document['node']}")
                if "race" in only:
                    document["race"] = bench.race(runs, arguments.files, arguments.events)
                    _say(f"race: {document['race']}")
        if "tls" in only:
            data = scratch / "local-data"
            make = [sys.executable, str(EXAMPLE / "make_data.py"), str(data), "--files", str(arguments.files)]
            subprocess.run([*make, "--events", str(arguments.events)], check=True)
            document["load"]["tls"] = os.getloadavg()[0]
            document["tls"] = tls_cost(data, runs)
            _say(f"tls: {document['tls']}")
        if "many" in only:
            document["load"]["many"] = os.getloadavg()[0]
            document["many"] = many_workers(arguments.workers, runs)
            document["workers"] = arguments.workers
            _say(f"many: {document['many']}")
    return document


def table(document: dict[str, Any]) -> str:
    """Return medians and ratios as Markdown."""
    lines: list[str] = []
    if "click" in document:
        lines += ["| seconds from the click to the first worker | median | fastest | slowest |", "|---|--:|--:|--:|"]
        lines += [_row(name, seconds) for name, seconds in document["click"].items()]
    if "node" in document:
        lines += ["", "| seconds from `scale(1)` until the worker has joined; its node ... the image | | | |"]
        lines += ["|---|--:|--:|--:|", *(_row(name, seconds) for name, seconds in document["node"].items())]
    if "race" in document:
        rates = {
            name: [run["events"] / run["seconds"] for run in found[1:]] for name, found in document["race"].items()
        }
        lines += ["", "| events per second, two workers | median | least | most |", "|---|--:|--:|--:|"]
        lines += [_row(name, found, ",.0f") for name, found in rates.items()]
        lines.append(f"| own / by hand | {ratio(rates['own'], rates['by hand']):.2f}x | | |")
    if "tls" in document:
        tls = document["tls"]
        lines += ["", "| local processes | TLS | TCP | TLS / TCP |", "|---|--:|--:|--:|"]
        for what, title in (("seconds", "the analysis, s"), ("megabytes_per_second", "a result to the client, MB/s")):
            one, other = tls["TLS"][what], tls["TCP"][what]
            row = f"{statistics.median(one):.2f} | {statistics.median(other):.2f} | {ratio(one, other):.2f}x"
            lines.append(f"| {title} | {row} |")
    if "many" in document:
        plain = document["many"]["plain"]
        lines += ["", f"| seconds until {document['workers']} workers have joined | median | fastest | slowest |"]
        lines += ["|---|--:|--:|--:|", *(_row(name, seconds) for name, seconds in document["many"].items())]
        lines.append(f"| guard and TLS / plain | {ratio(document['many']['guard and TLS'], plain):.2f}x | | |")
    return "\n".join(lines)


def _row(name: str, found: Sequence[float], form: str = ".2f") -> str:
    return (
        f"| {name} | "
        + " | ".join(f"{value:{form}}" for value in (statistics.median(found), min(found), max(found)))
        + " |"
    )


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
