"""The image of a pool's nodes: Debian's HTCondor, Apptainer and Docker command, made by mmdebstrap.

The engine has it under a tag that is the hash of its recipe; a tarball in the cache fills an engine that was pruned.
The suite is Debian's unstable one, which has the HTCondor of the bindings (25) and Apptainer.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import zstandard

from builder.container.engine import EngineError, docker
from launcher.site_config import cache_directory
from registry_sync.errors import CasabinderError
from registry_sync.machine_lock import machine_lock

REPOSITORY = "casabinder-test/htcondor"
_SUITE = "sid"
_PACKAGES = ("apptainer", "ca-certificates", "condor", "docker-cli", "fuse3", "procps", "squashfuse", "uidmap")
_OPTIONS = (
    # What a snapshot of the suite was signed for ends after days.
    '--aptopt=Acquire::Check-Valid-Until "false"',
    '--aptopt=Acquire::Languages "none"',
    '--aptopt=APT::Install-Recommends "false"',
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "info", "locale", "man")),
    # A node's configuration is the pool's alone.
    '--customize-hook=rm -f "$1"/etc/condor/config.d/*',
)
_SECONDS = 900.0


class PoolError(CasabinderError):
    """A pool of the tests could not be made or asked."""


def pool_image() -> str:
    """Return the reference of the nodes' image, which the engine then has; the first time takes a minute.

    Raises :class:`PoolError` when mmdebstrap is missing or fails.
    """
    recipe = json.dumps([_SUITE, sorted(_PACKAGES), _OPTIONS])
    key = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    reference = f"{REPOSITORY}:{key}"
    with machine_lock(reference):
        if _is_there(reference):
            return reference
        archive = cache_directory() / "test-pool" / f"htcondor-{key}.tar.zst"
        if not archive.exists():
            _make(archive)
            for other in archive.parent.glob("htcondor-*.tar.zst"):
                if other != archive:
                    other.unlink(missing_ok=True)
        _import(archive, reference)
    return reference


def _is_there(reference: str) -> bool:
    try:
        docker("image", "inspect", "--format", "{{.Id}}", reference)
    except EngineError as error:
        if "No such image" not in error.detail:
            raise
        return False
    return True


def _make(archive: Path) -> None:
    program = shutil.which("mmdebstrap")
    if program is None:
        raise PoolError("mmdebstrap is not installed: run scripts/bootstrap, or `apt-get install mmdebstrap`")
    archive.parent.mkdir(parents=True, exist_ok=True)
    command = [program, "--variant=minbase", "--format=tar", f"--include={','.join(sorted(_PACKAGES))}", *_OPTIONS]
    with tempfile.TemporaryDirectory(prefix=".htcondor-", dir=archive.parent) as scratch:
        tar, compressed = Path(scratch) / "rootfs.tar", Path(scratch) / "rootfs.tar.zst"
        done = subprocess.run(
            [*command, _SUITE, str(tar)],
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()
            raise PoolError(f"mmdebstrap could not make the pool's image: {' '.join(lines[-3:]) or 'no reason given'}")
        with tar.open("rb") as source, compressed.open("wb") as sink:
            zstandard.ZstdCompressor(level=3, threads=-1).copy_stream(source, sink)
        compressed.rename(archive)


def _import(archive: Path, reference: str) -> None:
    command = ["docker", "import", "--change", 'CMD ["/entry.sh"]', "-", reference]
    with archive.open("rb") as source:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stderr is not None
        with process:
            with process.stdin as sink:
                zstandard.ZstdDecompressor().copy_stream(source, sink)
            said = process.stderr.read().decode(errors="replace")
    if process.returncode:
        raise PoolError(f"the engine does not take the pool's image: {said.strip()}")
