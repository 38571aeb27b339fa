"""A registry of the benchmark's own on the loopback address, and what went in and out of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAMS = ("docker-registry", "registry")
_LISTENING = re.compile(r"listening on (127\.0\.0\.1:\d+)")
_ACCESS = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[\d.]+" (?P<status>\d+) (?P<sent>\d+)')


@dataclass(frozen=True)
class Traffic:
    """What happened between two moments: bytes that are new in the registry, blob bytes read from it, requests."""

    stored: int
    read: int
    requests: int


@dataclass(frozen=True)
class Mark:
    """A moment in a registry's life."""

    blobs: frozenset[str]
    log: int


@dataclass(frozen=True)
class LocalRegistry:
    """A running registry: its address (``host:port``) and the directory of its files."""

    address: str
    directory: Path

    @property
    def _blobs(self) -> Path:
        return self.directory / "storage/docker/registry/v2/blobs/sha256"

    def mark(self) -> Mark:
        """Return what is here now."""
        return Mark(
            frozenset(str(path) for path in self._blobs.glob("*/*")), (self.directory / "registry.log").stat().st_size
        )

    def since(self, mark: Mark) -> Traffic:
        """Return what happened since ``mark``."""
        stored = sum((path / "data").stat().st_size for path in self._blobs.glob("*/*") if str(path) not in mark.blobs)
        with (self.directory / "registry.log").open("rb") as log:
            log.seek(mark.log)
            lines = [found for line in log if (found := _ACCESS.search(line.decode(errors="replace")))]
        read = sum(
            int(line["sent"])
            for line in lines
            if line["method"] == "GET" and "/blobs/" in line["path"] and line["status"] in ("200", "206")
        )
        return Traffic(stored, read, len(lines))

    def reset(self, mark: Mark) -> None:
        """Delete the blobs that came since ``mark``.

        What repositories have of older blobs stays: an engine remembers where it has seen a layer and mounts it from
        there, and uploads it in full when too many of these places are gone.
        """
        for path in self._blobs.glob("*/*"):
            if str(path) not in mark.blobs:
                shutil.rmtree(path)


@contextmanager
def running_registry(directory: Path) -> Iterator[LocalRegistry]:
    """Run a registry with its files in ``directory`` on a free port; stop it at the end."""
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        raise CasabinderError(f"no registry to measure with: none of {', '.join(PROGRAMS)} is on PATH")
    directory.mkdir(parents=True, exist_ok=True)
    config = {
        "version": "0.1",
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "storage")}},
        "http": {"addr": "127.0.0.1:0"},
    }
    file, log = directory / "config.yml", directory / "registry.log"
    file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    with log.open("wb") as sink:
        process = subprocess.Popen([program, "serve", str(file)], stdout=sink, stderr=sink, cwd=directory)
    try:
        yield LocalRegistry(_address(process, log), directory)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    for _ in range(400):
        found = _LISTENING.search(log.read_text(errors="replace"))
        if found:
            with urllib.request.urlopen(f"http://{found[1]}/v2/", timeout=5):
                return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise CasabinderError(f"the registry did not start: {log.read_text(errors='replace')[-500:]}")
