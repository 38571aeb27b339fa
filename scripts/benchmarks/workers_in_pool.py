"""What workers of an HTCondor pool cost: from the click to the first one, and against dask-jobqueue by hand.

The pool is the tests' own: real daemons in containers on loopback addresses, two nodes, one container engine for both
and for the notebooks. An image that a node does not have is a copy with one more layer, of unique content, at the
bottom: engines know a layer by all that is below it, so they pull and unpack every one. Nobody's images are removed.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import yaml
from casabinder_runtime.pools.schedd import ScheddAddress
from casabinder_runtime.server_extension import kernel_environment
from casabinder_runtime.session_directory import read_record

from builder.container.engine import EngineError, docker, docker_json
from builder.image import ImageSettings, Parent, make_image
from builder.layers.cache import LayerCache
from builder.layers.layer import Entry
from builder.publish import Part, put_image, put_parts
from launcher import docker as servers
from launcher.site_config import cache_directory
from registry_sync.errors import CasabinderError
from registry_sync.reference import ImageReference
from tests.testbed.launching import build_repository, open_facility
from tests.testbed.pool import running_pool
from tests.testbed.pool_session import NAME, SECRETS, PoolSession, running_pool_session
from tests.testbed.xrootd import running_xrootd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.record import ImageRecord
    from launcher.context import Context
    from tests.testbed.pool import RunningPool

EXAMPLE = Path(__file__).parents[2] / "examples" / "agc-ttbar"
REPOSITORY = "bench-workers"
TIMEOUT = 300.0
_FILES = ("ttbar.py", "ttbar.ipynb", "requirements.txt")
_PAUSE = 0.05


@dataclass(frozen=True)
class Bench:
    """A pool, and the image of the example analysis in the site's registry."""

    scratch: Path
    context: Context
    pool: RunningPool
    record: ImageRecord

    def click(self) -> float:
        """Return the seconds from ``casabinder launch`` to the first worker that has joined."""
        command = [str(Path(sys.executable).with_name("casabinder")), "launch", self.record.repo, "--pool", "htcondor"]
        command += ["--workers", "1", "--memory", "2G", "--quiet", "--json", "--new", "--site", str(self._site_file())]
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
        if done.returncode:
            raise CasabinderError(f"casabinder launch failed: {done.stderr[-2000:]}")
        name = json.loads(done.stdout)["server"]["name"]
        try:
            server = servers.find(cache_directory(), name)
            headers = {"Authorization": f"token {server.token}"}
            with httpx.Client(base_url=server.url, headers=headers, trust_env=False) as client:
                while not (report := client.get("casabinder/api/session").json())["workers"]:
                    _check(began, f"no worker: {report}")
                    time.sleep(_PAUSE)
            return time.monotonic() - began
        finally:
            servers.stop(cache_directory(), [name])

    def forget(self) -> None:
        """Remove exactly the example's image from the engine, as soon as no container has it any more."""
        began = time.monotonic()
        while _known(self.record.image):
            _remove(self.record.image)
            _check(began, f"{self.record.image} can't be removed")
            time.sleep(_PAUSE)

    def join(self, image: str) -> list[float]:
        """Return the seconds from ``scale(1)`` until the worker has joined, of two workers one after the other."""
        code = (
            "import json, time\n"
            "found = []\n"
            "for _ in range(2):\n"
            "    began = time.monotonic(); cluster.scale(1); client.wait_for_workers(1, timeout=300)\n"
            "    found.append(time.monotonic() - began); cluster.scale(0)\n"
            "    while client.scheduler_info()['workers']: time.sleep(0.1)\n"
            "print(json.dumps(found))\n"
        )
        directory = self.scratch / f"session-{secrets.token_hex(4)}"
        with running_pool_session(
            directory, self.pool, self.record.image, image=image, workers=0, maximum=2
        ) as session:
            found: list[float] = json.loads(session.run(code, seconds=TIMEOUT).splitlines()[-1])
        return found

    @contextmanager
    def unique_copy(self) -> Iterator[tuple[str, int]]:
        """Yield a copy of the image that no engine has a layer of, with its compressed bytes; it is removed again."""
        store, (repository, tag) = self.context.facility.store, _place(self.record.image)
        original = store.get_manifest(repository, tag)
        config: dict[str, Any] = json.loads(store.read_blob(repository, original.config.digest))
        content = secrets.token_bytes(32)
        cache = LayerCache(self.scratch / "layers")
        bottom = cache.build(
            secrets.token_hex(32), "bottom", lambda: [Entry("usr/share/bench-bottom", "file", content)]
        )
        config["rootfs"]["diff_ids"].insert(0, bottom.diff_id)
        config["history"].insert(0, {"created_by": "bench: bottom"})
        layers = (bottom.descriptor, *original.layers)
        image = make_image(Parent(layers, config), [], ImageSettings(), {})
        parts = [Part(bottom.descriptor, blob=bottom.blob)]
        parts += [Part(layer, mounts=(repository,)) for layer in original.layers]
        copy = f"{repository}-copy"
        put_parts(store, copy, parts)
        name = secrets.token_hex(8)
        put_image(store, copy, image, [name])
        reference = f"{ImageReference.parse(self.record.image).registry}/{copy}:{name}"
        try:
            yield reference, sum(layer.size for layer in layers)
        finally:
            pushed = store.head_manifest(copy, name)
            if pushed is not None:
                store.delete_manifest(copy, str(pushed.digest))

    def race(self, runs: int, files: int, events: int) -> dict[str, Any]:
        """Run the analysis in turn on the session's workers and on ones made by hand; return seconds and events."""
        directory = self.scratch / "race"
        with ExitStack() as stack:
            # XRootD runs as a user of its own, who can't read below the cache of this one.
            data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-data-")))
            data.chmod(0o755)
            make = [sys.executable, str(EXAMPLE / "make_data.py"), str(data), "--files", str(files)]
            subprocess.run([*make, "--events", str(events)], check=True)
            url = stack.enter_context(running_xrootd(data))
            session = stack.enter_context(
                running_pool_session(directory, self.pool, self.record.image, workers=2, maximum=2, idle_seconds=0)
            )
            docker("cp", str(Path(__file__).with_name("contestant.py")), f"{session.container}:/tmp/contestant.py")
            address = ScheddAddress(
                self.pool.collector,
                self.pool.schedd,
                self.pool.trust_domain,
                Path(SECRETS, "condor", "token"),
                "127.0.0.1",
            )
            told = {"collector": self.pool.collector, "schedd": self.pool.schedd, "image": self.record.image}
            hand = json.dumps({**told, "environment": address.environment()})
            contestants = {
                "own": stack.enter_context(_contestant(session, url, "own")),
                "by hand": stack.enter_context(_contestant(session, url, "by-hand", hand)),
            }
            found: dict[str, Any] = {name: [] for name in contestants}
            for number in range(runs + 1):  # the first run of each imports coffea on the workers
                order = list(contestants) if number % 2 else list(reversed(contestants))
                for name in order:
                    found[name].append({**contestants[name].go(), "load": os.getloadavg()[0]})
            return found

    def _site_file(self) -> Path:
        own = cache_directory() / "site.yaml"
        site = yaml.safe_load(Path(os.environ.get("CASABINDER_SITE", own)).read_text()) or {} if own.exists() else {}
        site["pool"] = {
            "kind": "htcondor",
            "collector": self.pool.collector,
            "schedd": self.pool.schedd,
            "trust_domain": self.pool.trust_domain,
            "signing_key": str(self.pool.signing_key),
            "user": self.pool.users[0],
            "memory": "1GiB",
            "disk": "1GiB",
        }
        file = self.scratch / "site.yaml"
        file.write_text(yaml.safe_dump(site), encoding="utf-8")
        return file


@dataclass(frozen=True)
class Contestant:
    """A ``contestant.py`` that runs."""

    process: subprocess.Popen[str]

    def answer(self) -> dict[str, Any]:
        """Return its next answer."""
        assert self.process.stdout is not None  # noqa: S101  # by construction
        line = self.process.stdout.readline()
        if not line:
            raise CasabinderError("a contestant ended: see what it said above")
        found: dict[str, Any] = json.loads(line)
        return found

    def go(self) -> dict[str, Any]:
        """Have it run once."""
        assert self.process.stdin is not None  # noqa: S101  # by construction
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self.answer()


@contextmanager
def _contestant(session: PoolSession, data: str, *arguments: str) -> Iterator[Contestant]:
    record = read_record(session.secrets / NAME)
    assert record is not None  # noqa: S101  # the session runs
    environment = {**kernel_environment(Path(SECRETS, NAME), record.address, "/"), "AGC_DATA": data}
    words = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
    command = ["docker", "exec", "-i", *words, session.container, "/usr/local/bin/casabinder-entrypoint"]
    process = subprocess.Popen(
        [*command, "/srv/env/bin/python", "/tmp/contestant.py", *arguments],  # noqa: S108  # of the container
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    contestant = Contestant(process)
    try:
        contestant.answer()
        yield contestant
    finally:
        assert process.stdin is not None  # noqa: S101  # by construction
        process.stdin.close()
        process.wait(60)


@contextmanager
def open_bench(scratch: Path) -> Iterator[Bench]:
    """Start a pool and build the example's image, with a file that is in no other image."""
    files: dict[str, bytes | str] = {name: (EXAMPLE / name).read_bytes() for name in _FILES}
    files["bench.txt"] = secrets.token_hex(16)
    with open_facility() as context:
        record = build_repository(context, REPOSITORY, files)
        try:
            with running_pool(scratch / "pool") as pool:
                yield Bench(scratch, context, pool, record)
        finally:  # the pool's containers, which may have them in use, are gone
            name = record.image.rpartition(":")[0]
            for repository in (name, f"{name}-copy"):
                for image in docker("images", "--format", "{{.Repository}}:{{.Tag}}", repository).split():
                    _remove(image)


def _known(image: str) -> bool:
    """Tell whether the engine has an image."""
    return bool(docker("images", "--quiet", image).strip())


def _remove(image: str) -> None:
    """Remove an image by all its names; the last one takes the rest along."""
    with suppress(EngineError):
        found = docker_json("image", "inspect", image)[0]
        for name in [*found["RepoDigests"], *found["RepoTags"]]:
            docker("rmi", name)


def _place(image: str) -> tuple[str, str]:
    reference = ImageReference.parse(image)
    return reference.repository, str(reference.tag)


def _check(began: float, complaint: str) -> None:
    if time.monotonic() - began > TIMEOUT:
        raise CasabinderError(f"nothing after {TIMEOUT:.0f} s: {complaint}")
