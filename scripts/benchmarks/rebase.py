"""Measures what a patch of a base costs for the images on it (``scripts/bench rebase``).

A base gets another root file system (its definition asks for one Debian package more). Then the same images come onto
it in three ways: ``casabinder rebase --all``; casabinder builds them again, in a copy of the registry and with a copy
of the caches; and, for a few of them, ``docker build`` with pip and with uv on an engine that has just pulled the new
base. The first two must come to the same digests.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from base_images.assemble import build_base
from base_images.definition import read_definition
from base_images.identity import base_repository
from builder.layers.cache import LayerCache
from launcher.context import open_context
from launcher.site_config import cache_directory, load_site
from registry_sync.client import RegistryClient
from registry_sync.errors import CasabinderError
from scripts.benchmarks.build import (
    BASE_REPOSITORY,
    ROOT,
    certificate_bundle,
    copy_base,
    machine,
    make_repository,
    passed_on,
    site_document,
)
from scripts.benchmarks.docker_side import DOCKERFILES, DockerBases, DockerBuild, Engine
from scripts.benchmarks.local_registry import running_registry
from scripts.benchmarks.measure import Run, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from launcher.context import Context
    from launcher.site_config import Site
    from scripts.benchmarks.local_registry import LocalRegistry, Traffic

PREFIX = "bench"
MORE = "patch"  # the Debian package that the patched base has and the other has not
# What the repositories ask for, in turn; the last replaces a package of the base, so that its whiteouts are made anew.
WANTED = (
    ("particle==1.1.0",),
    ("pylhe==2.1.0", "tabulate==0.10.0"),
    ("decaylanguage==1.1.2", "particle==1.1.0"),
    ("pyhepmc==2.16.1",),
    ("mplhep==0.4.1",),
)


class Bench:
    """One run: a scratch directory, the site it is like, and the repositories whose images are moved."""

    def __init__(self, scratch: Path, site: Site, images: int) -> None:
        self.scratch = scratch
        self.site = site
        self.repositories = [
            make_repository(scratch, f"moved-{number}", WANTED[number % len(WANTED)]) for number in range(images)
        ]

    def casabinder(self, registry: LocalRegistry, cache: Path, *words: str) -> Run:
        """Run a command on a registry with a cache of its own."""
        file = cache.parent / f"{cache.name}-site.yaml"
        file.write_text(json.dumps(site_document(self.site, f"{registry.address}/{PREFIX}")), encoding="utf-8")
        environment = passed_on() | {"HOME": str(self.scratch / "home"), "CASABINDER_CACHE": str(cache)}
        program = str(Path(sys.executable).with_name("casabinder"))
        return run([program, *words, "--json"], environment=environment | {"CASABINDER_SITE": str(file)})

    def build_all(self, registry: LocalRegistry, cache: Path, base: str) -> tuple[Run, dict[str, str]]:
        """Build every repository on a base; return the digests by repository, too."""
        entries = [{"repo": str(path), "base": f"{registry.address}/{base}:current"} for path in self.repositories]
        file = cache.parent / f"{cache.name}-list.yaml"
        file.write_text(json.dumps(entries), encoding="utf-8")  # JSON is YAML
        done = self.casabinder(registry, cache, "prebuild", str(file), "--at-once", str(os.cpu_count() or 1))
        return done, {one["repo"]: one["digest"] for one in json.loads(done.output)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench rebase", description="Measure what a patched base costs.")
    parser.add_argument("--images", type=int, default=100, metavar="N", help="how many images are on the base (100)")
    parser.add_argument("--docker", type=int, default=5, metavar="N", help="how many the engine builds, per method (5)")
    parser.add_argument("--base", default="coffea-py313", metavar="NAME", help="a base of the site's registry")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where it all goes (.bench/rebase-TIME.json)")
    arguments = parser.parse_args(argv)
    file = arguments.json or ROOT / ".bench" / f"rebase-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        document = measure(arguments.images, arguments.docker, arguments.base)
    except CasabinderError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{table(document)}\n\nall of it: {file}\n")
    return 0


def measure(images: int, by_docker: int, base: str) -> dict[str, Any]:
    """Return everything that was measured."""
    site, began = load_site(None), datetime.now(UTC)
    with ExitStack() as stack:
        parent = cache_directory()
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=parent)))
        os.environ["PATH"] += f"{os.pathsep}{parent / 'tools' / 'bin'}"
        registry = stack.enter_context(running_registry(scratch / "registry"))
        store = stack.enter_context(RegistryClient(registry.address))
        context = open_context()
        stack.callback(context.facility.store.close)
        old = copy_base(base, site, store, context.bases(base).offers[0].choice.reference)
        bench, cache = Bench(scratch, site, images), scratch / "cache"
        load = os.getloadavg()[0]
        _say(f"building {images} images on {base}")
        mark = registry.mark()
        first, _ = bench.build_all(registry, cache, BASE_REPOSITORY)
        built = _numbers(first, registry.since(mark), images)
        _say(f"making the patched base: {base} with Debian's {MORE}")
        patched, release = _release(context, base, scratch, registry, store)
        copied = scratch / "copied"
        (copied / "storage").parent.mkdir()
        subprocess.run(["cp", "-a", str(registry.directory / "storage"), str(copied / "storage")], check=True)
        shutil.copytree(cache, scratch / "cache-of-builds", symlinks=True)

        _say("rebasing")
        new = f"{registry.address}/{patched}:current"
        mark = registry.mark()
        moved = bench.casabinder(registry, cache, "rebase", "--all", "--base", new)
        rebased = _numbers(moved, registry.since(mark), images)
        outcomes = json.loads(moved.output)
        if outcomes["moved"] != images:
            told = {one["reason"] for one in outcomes["images"] if one["state"] in ("rebuild", "failed")}
            raise CasabinderError(f"{outcomes['moved']} of {images} images were moved: {'; '.join(sorted(told))}")
        mark = registry.mark()
        again = _numbers(
            bench.casabinder(registry, cache, "rebase", "--all", "--base", new), registry.since(mark), images
        )
        mark = registry.mark()
        click = json.loads(
            bench.casabinder(registry, cache, "build", str(bench.repositories[0]), "--base", new, "--quiet").output
        )
        found = registry.since(mark).requests

        _say("building the same images again")
        other = stack.enter_context(running_registry(copied))
        mark = other.mark()
        second, digests = bench.build_all(other, scratch / "cache-of-builds", patched)
        rebuilt = _numbers(second, other.since(mark), images)
        same = sum(digests[one["repo"]] == one["digest"] for one in outcomes["images"] if one["state"] == "moved")
        docker = _docker(bench, registry, store, patched, by_docker) if by_docker else {}
        return {
            "date": began.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "command": ["scripts/bench", "rebase", *sys.argv[1:]],
            "machine": machine(),
            "load before": round(load, 1),
            "images": images,
            "base": old,
            "first builds": built,
            "release": release,
            "rebase": {
                **rebased,
                "sent MB": _mb(outcomes["sent"]),
                **{state: outcomes[state] for state in ("moved", "rebuild", "failed")},
            },
            "rebase again": again,
            "click": {"cached": click["cached"], "requests": found},
            "rebuild": rebuilt,
            "same digest": same,
            "docker": docker,
            "minutes": round((datetime.now(UTC) - began).total_seconds() / 60, 1),
        }


def _release(
    context: Context, base: str, scratch: Path, registry: LocalRegistry, store: RegistryClient
) -> tuple[str, dict[str, Any]]:
    """Make the patched base and push it; return its repository and what that took."""
    directory = scratch / "definitions" / base
    shutil.copytree(context.definition(base).directory, directory)
    document = directory / "base.yaml"
    text = document.read_text(encoding="utf-8")
    document.write_text(text.replace("    - ca-certificates\n", f"    - ca-certificates\n    - {MORE}\n"))
    mark, began = registry.mark(), time.monotonic()
    record = build_base(read_definition(directory), context.workshop, store, registry.address, PREFIX, say=_say)
    numbers = {"seconds": round(time.monotonic() - began, 1), "stored MB": _mb(registry.since(mark).stored)}
    return base_repository(PREFIX, base), {**numbers, "bytes": record.bytes, "layers": record.layers}


def _docker(
    bench: Bench, registry: LocalRegistry, store: RegistryClient, repository: str, number: int
) -> dict[str, dict[str, Any]]:
    """Build a few of the images with the engine, on the new base that it has pulled, and push them."""
    engine = Engine(bench.scratch)
    layers = LayerCache(bench.scratch / "docker-layers")
    bases = DockerBases(store, registry.address, repository, layers, certificate_bundle(bench.site))
    try:
        # One more layer at the bottom: an engine that has had this very base before would not pull it.
        base = bases.make("new", unique=True)
        mark, began = registry.mark(), time.monotonic()
        engine.pull(base)
        found: dict[str, dict[str, Any]] = {
            "pull of the new base": {
                "seconds": round(time.monotonic() - began, 1),
                "read MB": _mb(registry.since(mark).read),
            }
        }
        for method in DOCKERFILES:
            mark, seconds = registry.mark(), []
            for path in bench.repositories[:number]:
                tag = f"{registry.address}/docker/{method}-{path.name}:1"
                build = DockerBuild(method, base, tag, "bench-rebase", cached=True)
                seconds.append(sum(engine.build(build, path).values()))
            each = sum(seconds) / number
            found[method] = {
                "images": number,
                "seconds each": round(each, 2),
                "stored MB": _mb(registry.since(mark).stored),
                "seconds of all, extrapolated": round(each * len(bench.repositories), 1),
            }
        return found
    finally:
        engine.clean()


def _numbers(done: Run, traffic: Traffic, images: int) -> dict[str, Any]:
    return {
        "seconds": round(done.seconds, 1),
        "seconds each": round(done.seconds / images, 3),
        "requests": traffic.requests,
        "stored MB": _mb(traffic.stored),
        "read MB": _mb(traffic.read),
        "memory, resident MB": round(done.resident / 1e6),
    }


def table(document: Mapping[str, Any]) -> str:
    """Return the comparison as a Markdown table."""
    lines = [f"| {document['images']} images onto the patched base | seconds | requests | stored | read | memory |"]
    lines.append("|---|--:|--:|--:|--:|--:|")
    rows = {
        "`casabinder rebase --all`": document["rebase"],
        "once more": document["rebase again"],
        "`casabinder build`, each": document["rebuild"],
    }
    lines += [
        f"| {name} | {row['seconds']} | {row['requests']} | {row['stored MB']} MB | {row['read MB']} MB "
        f"| {row['memory, resident MB']} MB |"
        for name, row in rows.items()
    ]
    for method in DOCKERFILES:
        if method in document["docker"]:
            row = document["docker"][method]
            lines.append(
                f"| `docker build` with {method}, push (from {row['images']}) "
                f"| {row['seconds of all, extrapolated']} | - | {row['stored MB']} MB for {row['images']} | - | - |"
            )
    return "\n".join(lines)


def _mb(count: int) -> float:
    return round(count / 1e6, 1)


def _say(text: str) -> None:
    sys.stdout.write(f"{datetime.now(UTC):%H:%M:%S} {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
