"""Measures ``casabinder build`` against ``docker build`` with pip and with uv (``scripts/bench build``).

All of them get the same repository, the same base and the same package index, and end with the image in the same
registry, which the benchmark runs itself. What is compared, and how to read it: docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.layers.cache import LayerCache
from launcher.site_config import cache_directory, load_site
from registry_sync.client import RegistryClient
from registry_sync.copy import copy_image
from registry_sync.errors import CasabinderError
from registry_sync.open_store import open_store
from scripts.benchmarks.docker_side import DockerBases, DockerBuild, Engine
from scripts.benchmarks.local_registry import LocalRegistry, running_registry
from scripts.benchmarks.measure import run
from scripts.benchmarks.report import CASES, METHODS, Sample, phase_table, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from launcher.site_config import Site

ROOT = Path(__file__).resolve().parents[2]
SYSTEM_CERTIFICATES = Path("/usr/local/share/ca-certificates")
BASE_REPOSITORY = "bench/bases/base"

DELTAS = {
    "tiny": ("decaylanguage==1.1.2", "particle==1.1.0", "pylhe==2.1.0"),
    "big": ("mplhep==0.4.1", "nvidia-nccl-cu12==2.26.2", "xgboost==3.0.5"),
}
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
_GIT = ("git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "commit.gpgsign=false")


class Bench:
    """The surroundings of one run of the benchmark: a registry with the base in it, an engine, repositories."""

    def __init__(self, scratch: Path, registry: LocalRegistry, site: Site, engine: Engine, bases: DockerBases) -> None:
        self._scratch = scratch
        self._registry = registry
        self._site = site
        self._engine = engine
        self._bases = bases
        self.samples: list[Sample] = []

    def repeat(self, number: int, cases: Sequence[str], methods: Sequence[str], *, absent: bool) -> None:
        """Measure every case once, with every method, in an order that changes from repeat to repeat."""
        mark = self._registry.mark()
        try:
            turned = [*methods[number % len(methods) :], *methods[: number % len(methods)]]
            present = self._bases.make("present", unique=False) if {"pip", "uv"} & set(methods) else ""
            if present:
                self._engine.pull(present)
            wanted = [case for case in ("tiny", "big") if case in cases]
            if "big" not in wanted and set(cases) - {"tiny"}:
                wanted.append("big")  # what the others need to have happened before
            for delta in wanted:
                self._present(delta, number, cases, turned, present)
            for delta in wanted if absent else ():
                for method in turned:
                    if method != "casabinder":
                        self._absent(delta, number, method)
        finally:
            self._engine.clean()
            self._registry.reset(mark)

    def _present(self, delta: str, number: int, cases: Sequence[str], methods: Sequence[str], base: str) -> None:
        mine, another, third = (self._repository(f"{delta}-{name}", DELTAS[delta]) for name in "abc")
        prefix, cache_id = f"facility-{number}-{delta}", f"bench-{secrets.token_hex(6)}"
        with self._builder() as builder, self._builder() as fresh:

            def measure(case: str, method: str, repository: Path, *, cached: bool = True) -> None:
                if method == "casabinder":
                    self._casabinder(case, number, repository, prefix, fresh if case == "seen" else builder)
                else:
                    tag = f"{self._registry.address}/{prefix}/{method}-{repository.name}:1"
                    build = DockerBuild(method, base, tag, cache_id, cached)
                    self._docker(case, number, repository, build, "present")

            for method in methods:
                measure(delta, method, mine, cached=False)
            if delta != "big":
                return
            if "seen" in cases and "casabinder" in methods:
                measure("seen", "casabinder", another)
            for case, repository in (("other", third), ("commit", mine), ("again", mine)):
                if case == "commit":
                    change(mine)
                for method in methods if case in cases else ():
                    measure(case, method, repository)

    def _absent(self, delta: str, number: int, method: str) -> None:
        self._engine.clean()
        name = f"absent-{secrets.token_hex(4)}"
        base = self._bases.make(name, unique=True)
        tag = f"{self._registry.address}/facility-{number}-{delta}/{name}:1"
        build = DockerBuild(method, base, tag, cache_id=f"bench-{name}")
        self._docker(delta, number, self._repository(f"{delta}-absent", DELTAS[delta]), build, "absent")

    def _casabinder(self, case: str, number: int, repository: Path, prefix: str, builder: Path) -> None:
        site = builder / "site.yaml"
        site.write_text(json.dumps(site_document(self._site, f"{self._registry.address}/{prefix}")), encoding="utf-8")
        environment = passed_on()
        # uv keeps what it knows of the index below HOME: a fresh builder has not even that.
        environment |= {"HOME": str(builder), "CASABINDER_CACHE": str(builder / "cache"), "CASABINDER_SITE": str(site)}
        command = [str(Path(sys.executable).with_name("casabinder")), "build", str(repository), "--json", "--quiet"]
        command += ["--base", f"{self._registry.address}/{BASE_REPOSITORY}:current"]
        mark, load = self._registry.mark(), os.getloadavg()[0]
        done = run(command, environment=environment)
        record = json.loads(done.output)
        traffic = self._registry.since(mark)
        layers: dict[str, int] = {}
        for layer in record["layers"]:
            layers[layer["source"]] = layers.get(layer["source"], 0) + 1
        self._add(
            Sample(
                case=case,
                method="casabinder",
                base="never pulled",
                repeat=number,
                seconds=done.seconds,
                parts=record["seconds"],
                stored_bytes=traffic.stored,
                read_bytes=traffic.read,
                requests=traffic.requests,
                load=load,
                peak_resident_bytes=done.resident,
                peak_private_bytes=done.private,
                layers=layers,
            )
        )

    def _docker(self, case: str, number: int, repository: Path, build: DockerBuild, base: str) -> None:
        mark, load = self._registry.mark(), os.getloadavg()[0]
        parts = self._engine.build(build, repository)
        traffic = self._registry.since(mark)
        self._add(
            Sample(
                case=case,
                method=build.method,
                base=base,
                repeat=number,
                seconds=sum(parts.values()),
                parts=parts,
                stored_bytes=traffic.stored,
                read_bytes=traffic.read,
                requests=traffic.requests,
                load=load,
            )
        )

    def _add(self, sample: Sample) -> None:
        self.samples.append(sample)
        parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in sample.parts.items() if name != "total")
        memory = f"  {sample.peak_resident_bytes / 1e6:.0f} MB" if sample.peak_resident_bytes else ""
        _say(
            f"  {sample.repeat}  {sample.case:7} {sample.method:10} {sample.base:12} {sample.seconds:7.2f} s  ({parts})"
            f"  stored {sample.stored_bytes / 1e6:.1f} MB, read {sample.read_bytes / 1e6:.1f} MB{memory}"
            f"  load {sample.load:.1f}"
        )

    @contextmanager
    def _builder(self) -> Iterator[Path]:
        """A builder that has never built anything."""
        directory = Path(tempfile.mkdtemp(prefix="builder-", dir=self._scratch))
        try:
            yield directory
        finally:
            shutil.rmtree(directory)

    def _repository(self, name: str, requirements: Sequence[str]) -> Path:
        return make_repository(self._scratch, name, requirements)


def make_repository(scratch: Path, name: str, requirements: Sequence[str]) -> Path:
    """Make a git repository of analysis code that nobody has seen, with a requirements file of its own."""
    directory = scratch / f"repo-{name}-{secrets.token_hex(4)}"
    (directory / "analysis").mkdir(parents=True)
    (directory / ".dockerignore").write_text(".git\n")
    (directory / "requirements.txt").write_text(f"# what {name} needs\n" + "".join(f"{r}\n" for r in requirements))
    for number in range(10):
        marker = secrets.token_hex(16)
        (directory / "analysis" / f"step{number}.py").write_text(f"MARKER = {marker!r}\n" + "X = 1\n" * 200)
    (directory / "data.json").write_text(json.dumps([secrets.token_hex(16) for _ in range(5000)]))
    subprocess.run(["git", "init", "--quiet", "-b", "main", str(directory)], check=True)
    _commit(directory)
    return directory


def site_document(site: Site, registry: str) -> dict[str, Any]:
    """Return the site.yaml of a builder like ``site``'s that pushes to ``registry`` (``HOST[:PORT]/PREFIX``)."""
    document: dict[str, Any] = {"registry": registry, "ca_certificates": [str(path) for path in _certificates(site)]}
    return document | ({"package_index": site.package_index} if site.package_index else {})


def passed_on() -> dict[str, str]:
    """Return what of this process's environment a builder gets."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def change(repository: Path) -> None:
    """Commit another version of a file."""
    (repository / "analysis" / "step0.py").write_text(f"MARKER = {secrets.token_hex(16)!r}\n")
    _commit(repository)


def _commit(directory: Path) -> None:
    subprocess.run([*_GIT, "-C", str(directory), "add", "--all"], check=True)
    subprocess.run([*_GIT, "-C", str(directory), "commit", "--quiet", "-m", "bench"], check=True)


def _certificates(site: Site) -> tuple[Path, ...]:
    """The certificates of the site, else those that the machine's administrator added."""
    return site.ca_certificates or tuple(sorted(SYSTEM_CERTIFICATES.glob("**/*.crt")))


def certificate_bundle(site: Site) -> bytes:
    """All certificates that containers are to trust, or nothing if the base's own do."""
    extra = _certificates(site)
    if not extra:
        return b""
    system = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
    return b"".join(path.read_bytes().rstrip(b"\n") + b"\n" for path in (system, *extra) if path.exists())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was made is cleaned up
    file = arguments.json or ROOT / ".bench" / f"build-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {}
    try:
        for document in measure(arguments):
            file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except CasabinderError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    _say(f"\n{document['table']}\n\n{document['phases']}\n\nall samples: {file}")
    return 0


def measure(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure, and yield everything there is to know about it so far after every repeat."""
    site = load_site(None)
    with ExitStack() as stack:
        parent = cache_directory()
        parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=parent)))
        os.environ["PATH"] += f"{os.pathsep}{parent / 'tools' / 'bin'}"
        registry = stack.enter_context(running_registry(scratch / "registry"))
        store = stack.enter_context(RegistryClient(registry.address))
        _say(f"copying the base {arguments.base} to {registry.address}")
        digest = copy_base(arguments.base, site, store)
        bases = DockerBases(
            store, registry.address, BASE_REPOSITORY, LayerCache(scratch / "docker-layers"), certificate_bundle(site)
        )
        engine = Engine(scratch)
        facts = {**machine(), **{f"docker {name}": text for name, text in engine.facts().items()}, "base": digest}
        bench = Bench(scratch, registry, site, engine, bases)
        began = datetime.now(UTC)
        for number in range(1, arguments.repeat + 1):
            _say(f"repeat {number} of {arguments.repeat}")
            bench.repeat(number, arguments.only, arguments.methods, absent=not arguments.no_absent)
            yield {
                "date": began.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "command": ["scripts/bench", "build", *sys.argv[1:]],
                "machine": facts,
                "deltas": DELTAS,
                "cases": CASES,
                "repeats": number,
                "minutes": round((datetime.now(UTC) - began).total_seconds() / 60, 1),
                "load": {"first": bench.samples[0].load, "highest": max(sample.load for sample in bench.samples)},
                "table": table(bench.samples),
                "phases": phase_table(bench.samples),
                "samples": [asdict(sample) for sample in bench.samples],
            }


def copy_base(name: str, site: Site, store: RegistryClient, reference: str = "current") -> str:
    """Copy a base of the site to the benchmark's registry and return its digest."""
    source, prefix = open_store(site.registry)
    repository = f"{prefix}/bases/{name}" if prefix else f"bases/{name}"
    with source:
        if source.head_manifest(repository, reference) is None:
            raise CasabinderError(f"the registry {site.registry} has no base {name}: run casabinder base build {name}")
        return copy_image(source, repository, reference, store, BASE_REPOSITORY, ["current"]).digest


def machine() -> dict[str, str]:
    """Return what the numbers of this machine depend on."""
    uname = os.uname()
    processor = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    release = Path("/etc/os-release").read_text().splitlines()
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return {
        "processor": processor[0].partition(":")[2].strip() if processor else uname.machine,
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.1f} GB",
        "kernel": uname.release,
        "system": next((line.partition("=")[2].strip('"') for line in release if line.startswith("PRETTY_NAME")), ""),
        "python": sys.version.split()[0],
        "casabinder": commit.stdout.strip(),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench build", description="Measure casabinder build against docker build with pip and with uv."
    )
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="how often everything is measured (3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where all samples go (.bench/build-TIME.json)")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="measure these cases only")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="measure these only")
    parser.add_argument("--no-absent", action="store_true", help="leave out builds whose engine has to pull the base")
    parser.add_argument("--base", default="coffea-py313", metavar="NAME", help="a base of the site's registry")
    return parser


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
