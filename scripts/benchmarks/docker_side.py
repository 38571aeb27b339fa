"""The other side: ``docker build`` with pip or uv, then ``docker push``, on the same base.

Containers get two things in a layer on top of the base, made before anything is timed: the program uv, and this
machine's CA certificates (a package index may be behind a private one). An *absent* base is a copy with one more layer,
of unique content, at the bottom: engines know a layer by all that is below it, so they pull and unpack every layer of
the copy, and the images of others are left alone.
"""

from __future__ import annotations

import json
import secrets
import subprocess
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.image import ImageSettings, Parent, make_image
from builder.layers.layer import Entry, Layer, Streamed
from builder.publish import Part, put_image, put_parts
from registry_sync.errors import CasabinderError
from scripts.benchmarks.measure import run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.layers.cache import LayerCache
    from registry_sync.client import RegistryClient

CA_FILE = "/usr/local/share/bench-ca.pem"
_CA_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")

_PIP = """\
FROM {base}
USER root
COPY requirements.txt /tmp/requirements.txt
RUN /srv/env/bin/python -m pip install --no-cache-dir -r /tmp/requirements.txt
COPY . /srv/repo
USER 1000:1000
"""
_UV = """\
FROM {base}
USER root
COPY requirements.txt /tmp/requirements.txt
RUN --mount=type=cache,id={cache},target=/root/.cache/uv \
UV_CACHE_DIR=/root/.cache/uv UV_LINK_MODE=copy uv pip install --python /srv/env/bin/python -r /tmp/requirements.txt
COPY . /srv/repo
USER 1000:1000
"""
DOCKERFILES = {"pip": _PIP, "uv": _UV}


@dataclass(frozen=True)
class DockerBases:
    """Makes base images for the engine in the benchmark's registry out of casabinder's base there."""

    store: RegistryClient
    address: str
    repository: str
    cache: LayerCache
    certificates: bytes

    def make(self, name: str, *, unique: bool) -> str:
        """Push a base for the engine as ``bench/<name>:1`` and return its reference. ``unique`` makes it one that no
        engine has a single layer of."""
        original = self.store.get_manifest(self.repository, "current")
        config: dict[str, Any] = json.loads(self.store.read_blob(self.repository, original.config.digest))
        layers = list(original.layers)
        parts = [Part(layer, mounts=(self.repository,)) for layer in layers]
        if unique:
            bottom = self._layer("bottom", Entry("usr/share/bench-bottom", "file", secrets.token_bytes(32)))
            layers.insert(0, bottom.descriptor)
            parts.insert(0, Part(bottom.descriptor, blob=bottom.blob))
            config["rootfs"]["diff_ids"].insert(0, bottom.diff_id)
            config["history"].insert(0, {"created_by": "bench: bottom"})
        tools = self._tools
        repository = f"bench/{name}"
        environment = dict.fromkeys(_CA_VARIABLES, CA_FILE) if self.certificates else {}
        image = make_image(Parent(tuple(layers), config), [tools], ImageSettings(environment=environment), {})
        put_parts(self.store, repository, [*parts, Part(tools.descriptor, blob=tools.blob)])
        put_image(self.store, repository, image, ["1"])
        return f"{self.address}/{repository}:1"

    @cached_property
    def _tools(self) -> Layer:
        from uv import find_uv_bin

        program = Path(find_uv_bin())
        content = Streamed(lambda: program.open("rb"), program.stat().st_size)
        entries = [Entry("usr/local/bin/uv", "file", content, 0o755)]
        if self.certificates:
            entries.append(Entry(CA_FILE.lstrip("/"), "file", self.certificates))
        return self.cache.build(secrets.token_hex(32), "tools", lambda: entries)

    def _layer(self, what: str, entry: Entry) -> Layer:
        return self.cache.build(secrets.token_hex(32), what, lambda: [entry])


@dataclass(frozen=True)
class DockerBuild:
    """One build and push: with what, on which base, which name the image gets, which cache mount uv has."""

    method: str
    base: str
    tag: str
    cache_id: str = ""
    cached: bool = False


@dataclass
class Engine:
    """The Docker engine, and what the benchmark has left in it so far."""

    scratch: Path
    _images: set[str] = field(default_factory=set)
    _known: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._known = _cache_records()

    def pull(self, reference: str) -> None:
        """Have an image here."""
        self._images.add(reference)
        run(["docker", "pull", "--quiet", reference])

    def build(self, build: DockerBuild, repository: Path) -> dict[str, float]:
        """Clone ``repository``, build its image and push it; return the seconds of each step."""
        self._images |= {build.tag, build.base}
        context = self.scratch / f"context-{secrets.token_hex(4)}"
        dockerfile = self.scratch / "Dockerfile"
        dockerfile.write_text(DOCKERFILES[build.method].format(base=build.base, cache=build.cache_id))
        clone = run(["git", "clone", "--quiet", "--depth", "1", f"file://{repository}", str(context)])
        command = ["docker", "buildx", "build", "--builder", "default", "--network", "host", "--progress", "plain"]
        command += [] if build.cached else ["--no-cache"]
        built = run([*command, "--file", str(dockerfile), "--tag", build.tag, str(context)])
        pushed = run(["docker", "push", "--quiet", build.tag])
        return {"clone": clone.seconds, "build": built.seconds, "push": pushed.seconds}

    def clean(self) -> None:
        """Take the benchmark's images and its records of the build cache out of the engine."""
        ours = {image.partition("@")[0] if "@" in image else image.rpartition(":")[0] for image in self._images}
        listing = "{{.Repository}} {{.Repository}}:{{.Tag}} {{.Repository}}@{{.Digest}}"
        for line in _said("docker", "images", "--digests", "--format", listing).splitlines():
            repository, *references = line.split()
            for reference in references if repository in ours else ():  # a tag that moved on leaves a bare digest
                if "<none>" not in reference:
                    subprocess.run(["docker", "rmi", reference], capture_output=True, check=False)
        self._images.clear()
        records = "|".join(sorted(_cache_records() - self._known))
        if records:
            command = ["docker", "buildx", "prune", "--builder", "default", "--all", "--force"]
            subprocess.run([*command, "--filter", f"id~=^({records})$"], capture_output=True, check=False)

    def facts(self) -> Mapping[str, str]:
        """Return the versions and the storage of the engine."""
        version = _said("docker", "version", "--format", "{{.Server.Version}} (client {{.Client.Version}})")
        info = json.loads(_said("docker", "info", "--format", "{{json .}}"))
        status = dict(info.get("DriverStatus") or [])
        return {
            "engine": version,
            "buildx": _said("docker", "buildx", "version"),
            "storage": f"{info['Driver']} {status.get('driver-type', '')}".strip(),
        }


def _cache_records() -> set[str]:
    lines = _said("docker", "buildx", "du", "--builder", "default", "--format", "{{.ID}}").split()
    return {line.rstrip("*") for line in lines}


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CasabinderError(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")
    return done.stdout.strip()
