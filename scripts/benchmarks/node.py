"""Measures what a node pulls that has the base (``scripts/bench node``): casabinder's images against `docker build`'s.

The node is a Docker Engine; what it pulls is read from the access log of the benchmark's own registry. Three images are
pulled one after the other: a first one, one of another repository with the same requirements, and a new commit of the
first.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from builder.layers.cache import LayerCache
from launcher.site_config import cache_directory, load_site
from registry_sync.client import RegistryClient
from registry_sync.errors import CasabinderError
from scripts.benchmarks.build import (
    BASE_REPOSITORY,
    DELTAS,
    certificate_bundle,
    change,
    copy_base,
    make_repository,
    passed_on,
    site_document,
)
from scripts.benchmarks.docker_side import DockerBases, DockerBuild, Engine
from scripts.benchmarks.local_registry import running_registry
from scripts.benchmarks.measure import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.benchmarks.local_registry import LocalRegistry

METHODS = ("casabinder", "pip")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench node", description="Measure what a node with the base pulls.")
    parser.add_argument("--delta", choices=DELTAS, default="big", help="what the repositories add to the base (big)")
    parser.add_argument("--base", default="coffea-py313", metavar="NAME", help="a base of the site's registry")
    arguments = parser.parse_args(argv)
    try:
        pulled = measure(DELTAS[arguments.delta], arguments.base)
    except CasabinderError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    sys.stdout.write("| pulled by a node that has the base | " + " | ".join(METHODS) + " |\n|---|--:|--:|\n")
    for what, by_method in pulled.items():
        sys.stdout.write(f"| {what} | " + " | ".join(f"{by_method[m] / 1e6:.2f} MB" for m in METHODS) + " |\n")
    return 0


def measure(delta: Sequence[str], base: str) -> dict[str, dict[str, int]]:
    """Return the bytes of blobs that the engine pulled, by what was pulled and by method."""
    site = load_site(None)
    pulled: dict[str, dict[str, int]] = {}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=cache_directory())))
        registry = stack.enter_context(running_registry(scratch / "registry"))
        store = stack.enter_context(RegistryClient(registry.address))
        copy_base(base, site, store)
        engine = Engine(scratch)
        stack.callback(engine.clean)
        layers = LayerCache(scratch / "docker-layers")
        bases = DockerBases(store, registry.address, BASE_REPOSITORY, layers, certificate_bundle(site))
        site_file = scratch / "site.yaml"
        site_file.write_text(json.dumps(site_document(site, f"{registry.address}/node")), encoding="utf-8")
        surroundings = passed_on() | {"HOME": str(scratch / "home"), "CASABINDER_CACHE": str(scratch / "cache")}
        surroundings["CASABINDER_SITE"] = str(site_file)
        on_docker = bases.make("present", unique=False)
        own_base = f"{registry.address}/{BASE_REPOSITORY}:current"

        def with_casabinder(repository: Path) -> str:
            program = str(Path(sys.executable).with_name("casabinder"))
            command = [program, "build", str(repository), "--json", "--quiet", "--base", own_base]
            record = json.loads(run(command, environment=surroundings).output)
            return f"{record['image'].rpartition(':')[0]}@{record['digest']}"

        cache = f"bench-{secrets.token_hex(6)}"

        def with_docker(repository: Path) -> str:
            tag = f"{registry.address}/node/pip-{repository.name}:{secrets.token_hex(4)}"
            engine.build(DockerBuild("pip", on_docker, tag, cache, cached=True), repository)
            return tag

        for method, build, its_base in (("casabinder", with_casabinder, own_base), ("pip", with_docker, on_docker)):
            mine, another = (make_repository(scratch, f"{method}-{name}", delta) for name in "ab")
            made = {"the first image": build(mine), "same requirements, another repository": build(another)}
            change(mine)
            made["a new commit of the first"] = build(mine)
            engine.clean()  # from here on it is a node that has built nothing
            engine.pull(its_base)
            for what, image in made.items():
                pulled.setdefault(what, {})[method] = _pulled(registry, engine, image)
            engine.clean()
    return pulled


def _pulled(registry: LocalRegistry, engine: Engine, image: str) -> int:
    mark = registry.mark()
    engine.pull(image)
    return registry.since(mark).read


if __name__ == "__main__":
    sys.exit(main())
