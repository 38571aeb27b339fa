"""Runs the smoke test in a container of the image, limited as a notebook server's, with the network that servers have.

The image goes through its own entry point. One that is in a registry is pulled by digest; one that is in a layout only
(a pull request's) is loaded into the engine under a name of its own and taken out again.
"""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from builder.container.engine import EngineError, docker, docker_lines, docker_pipe, pull
from builder.container.step import labels, remove_leftovers
from launcher.ci import inside_image
from launcher.ci.inside_image import CHECK, DONE
from launcher.ci.smoke import SmokePlan, SmokeReport, read_report
from launcher.container import LABEL, PROCESSES, USER, image_name
from registry_sync.layout import LayoutStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.container.engine import ContainerLimits
    from builder.record import ImageRecord
    from registry_sync.store import Store

_LOAD_SECONDS = 900.0


@dataclass(frozen=True)
class StoredImage:
    """An image and the store that it is in."""

    record: ImageRecord
    store: Store
    repository: str


def engine_is_missing(allowed: ContainerLimits) -> str:
    """Return the sentence for why no container can be started here, ``""`` if one can."""
    if not allowed.engine:
        return "the site has no container engine"
    try:
        docker("version", "--format", "{{.Server.Version}}")
    except EngineError as error:
        return str(error)
    return ""


def smoke_test(
    image: StoredImage, plan: SmokePlan, allowed: ContainerLimits, say: Callable[[str], None]
) -> SmokeReport:
    """Try ``plan`` in a container of the image; ``say`` is told every line. Raises :class:`EngineError`."""
    with in_engine(image) as name, tempfile.TemporaryFile() as program:
        program.write(Path(inside_image.__file__).read_bytes())
        program.seek(0)
        container = f"casabinder-ci-{uuid.uuid4().hex}"
        lines: list[str] = []
        try:
            for line in docker_lines(*_command(container, name, plan, allowed), stdin=program, seconds=allowed.seconds):
                if not line.startswith((CHECK, DONE)):
                    say(line)
                lines.append(line)
                del lines[:-100_000]
        except TimeoutError:
            return SmokeReport("failed", read_report(lines).checks, f"it took more than {allowed.seconds} s")
        except EngineError:
            if any(line.startswith("docker: ") for line in lines):  # its own words: no container was started
                raise
        finally:
            with contextlib.suppress(EngineError):
                docker("rm", "--force", "--volumes", container)
    return read_report(lines)


def _command(container: str, image: str, plan: SmokePlan, allowed: ContainerLimits) -> list[str]:
    """Return the arguments of ``docker run``."""
    options = [f"--name={container}", "--interactive", f"--label={LABEL}.ci=smoke-test", f"--user={USER}:{USER}"]
    options += [*labels(allowed), "--cap-drop=ALL", "--security-opt=no-new-privileges", f"--pids-limit={PROCESSES}"]
    options += [f"--cpus={allowed.cpus:g}", f"--memory={allowed.memory}", f"--memory-swap={allowed.memory}"]
    python = 'for python in /srv/env/bin/python python3 python; do command -v "$python" >/dev/null && break; done'
    return ["run", *options, image, "/bin/sh", "-c", f'{python}; exec "$python" - "$@"', "smoke-test", plan.to_json()]


def in_engine(image: StoredImage) -> contextlib.AbstractContextManager[str]:
    """Give the name under which the engine has the image."""
    return brought(image.store, image.repository, image_name(image.record))


@contextlib.contextmanager
def brought(store: Store, repository: str, image: str) -> Iterator[str]:
    """Bring an image, named by digest, to the engine and give the name that it has there."""
    remove_leftovers()
    if not isinstance(store, LayoutStore):
        pull(image)
        yield image
        return
    digest = image.partition("@")[2]
    name = f"casabinder-ci/{digest[7:19]}:{uuid.uuid4().hex}"
    with tempfile.TemporaryFile() as said:
        docker_pipe(
            "load",
            "--quiet",
            feed=lambda sink: write_archive(store, repository, digest, name, sink),
            take=said,
            most=2**20,
            seconds=_LOAD_SECONDS,
        )
    try:
        yield name
    finally:
        with contextlib.suppress(EngineError):
            docker("rmi", name)


def write_archive(store: Store, repository: str, digest: str, name: str, sink: IO[bytes]) -> None:
    """Write an image as ``docker load`` reads it since its first version: blobs, and a ``manifest.json``."""
    manifest = store.get_manifest(repository, digest)
    entry = {
        "Config": f"{manifest.config.digest[7:]}.json",
        "RepoTags": [name],
        "Layers": [f"{layer.digest[7:]}.tar" for layer in manifest.layers],
    }
    with tarfile.open(fileobj=sink, mode="w|") as archive:
        _add(archive, "manifest.json", json.dumps([entry]).encode())
        _add(archive, entry["Config"], store.read_blob(repository, manifest.config.digest))  # type: ignore[arg-type]
        for layer in {one.digest: one for one in manifest.layers}.values():
            member = tarfile.TarInfo(f"{layer.digest[7:]}.tar")
            member.size = layer.size
            with store.open_blob(repository, layer.digest) as chunks:
                archive.addfile(member, _Chunks(chunks))  # type: ignore[arg-type]


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


class _Chunks:
    """Reads a stream of chunks as a file, as far as ``tarfile`` needs one."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._rest += chunk
        data, self._rest = self._rest[:size], self._rest[size:]
        return data
