"""The bottom layer of a base image: a minimal Debian made by mmdebstrap, without a container engine.

mmdebstrap works as root or, for an ordinary user, in a user namespace; what comes out is the same. Its tar is read
and written again as a layer: device nodes, sockets and every trace of when and where it was made are dropped.

What goes in beyond the definition is the state of the Debian mirror on that day. The layer is kept in the cache under
the definition's hash until a refresh is asked for, and the versions of all Debian packages are part of the inventory.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from builder.layers.layer import RECIPE, Entry, Layer, Streamed
from builder.layers.section import FileSection
from registry_sync.errors import CasabinderError
from registry_sync.files import write_atomically
from registry_sync.manifest import canonical_json, sha256_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from base_images.definition import Rootfs
    from builder.layers.cache import LayerCache

_PACKAGES = "var/lib/dpkg/status"
_KEPT_TEXTS = ("etc/passwd", "etc/group", "etc/ssl/certs/ca-certificates.crt")
_DROPPED = ("dev/", "proc/", "sys/", "run/", "tmp/", "var/cache/apt/", "var/lib/apt/lists/", "var/log/", "var/tmp/")
_EXCLUDED = (
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
)
# useradd and localedef are the image's own; `$1` is the new root.
_HOOKS = (
    'chroot "$1" localedef -i en_US -f UTF-8 en_US.UTF-8',
    'chroot "$1" useradd --uid 1000 --user-group --create-home --shell /bin/bash jovyan',
    'mkdir -p "$1/cvmfs" "$1/srv"',
)


@dataclass(frozen=True)
class BuiltRootfs:
    """A rootfs layer and what it says of itself.

    ``packages`` are ``name=version`` of Debian packages; ``texts`` the files that layers above may need to change.
    """

    layer: Layer
    packages: tuple[str, ...]
    texts: dict[str, str]

    def version(self, package: str) -> str:
        """Return a Debian package's upstream version (``3.13.5`` of ``3.13.5-2``)."""
        for entry in self.packages:
            name, _, version = entry.partition("=")
            if name == package:
                return version.rpartition(":")[2].rpartition("-")[0] or version
        raise CasabinderError(f"the root file system has no Debian package {package}")


def build_rootfs(
    spec: Rootfs,
    cache: LayerCache,
    facts: Path,
    *,
    refresh: bool = False,
    clock: Callable[[], float] = time.time,
) -> BuiltRootfs:
    """Make the rootfs of ``spec``, or return the cached one; ``facts`` is the directory that remembers its facts.

    Raises :class:`CasabinderError` when mmdebstrap is missing or fails.
    """
    inputs = {
        "kind": "rootfs",
        "recipe": RECIPE,
        "suite": spec.suite,
        "packages": sorted(spec.packages),
        "excluded": _EXCLUDED,
        "hooks": _HOOKS,
    }
    key = sha256_digest(canonical_json(inputs))[7:]
    remembered = facts / f"{key}.json"
    if not refresh:
        layer = cache.get(key)
        if layer is not None and layer.blob is not None and remembered.exists():
            document = json.loads(remembered.read_bytes())
            return BuiltRootfs(layer, tuple(document["packages"]), document["texts"])
    facts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".rootfs-", dir=facts) as scratch:
        archive = Path(scratch) / "rootfs.tar"
        _mmdebstrap(spec, archive)
        with tarfile.open(archive) as tar:
            found = _read_facts(tar)
            made = cache.build(
                _fresh_key(key, found.packages), f"Debian {spec.suite}", lambda: list(_entries(archive, tar))
            )
    layer = Layer(key, made.what, made.digest, made.size, made.diff_id, blob=made.blob)
    cache.remember(layer)
    fetched = datetime.fromtimestamp(clock(), UTC).date().isoformat()
    told = {"packages": found.packages, "texts": found.texts, "layer": layer.digest, "fetched": fetched}
    write_atomically(remembered, canonical_json(told))
    return BuiltRootfs(layer, found.packages, found.texts)


def fetched_on(facts: Path, digest: str) -> str:
    """Return the day (``2026-01-31``) on which this machine fetched the rootfs with a layer's digest, ``""`` if it
    did not, or does not remember."""
    days = []
    for file in facts.glob("*.json"):
        document = json.loads(file.read_bytes())
        if document.get("layer") == digest:
            days.append(str(document["fetched"]))
    return min(days, default="")


def _fresh_key(key: str, packages: tuple[str, ...]) -> str:
    return sha256_digest(canonical_json({"kind": "rootfs-state", "rootfs": key, "packages": packages}))[7:]


def _mmdebstrap(spec: Rootfs, archive: Path) -> None:
    program = shutil.which("mmdebstrap")
    if program is None:
        raise CasabinderError("mmdebstrap is not installed: run scripts/bootstrap, or `apt-get install mmdebstrap`")
    command = [program, "--variant=minbase", "--format=tar", f"--include={','.join(sorted(spec.packages))}"]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in _EXCLUDED]
    command += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    command += ['--aptopt=Acquire::Languages "none"', '--aptopt=Apt::Install-Recommends "false"']
    command += [f"--customize-hook={hook}" for hook in _HOOKS]
    command += ["--", spec.suite, str(archive), *spec.mirrors]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "315532800", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    done = subprocess.run(
        ["/bin/sh", "-c", 'umask 022 && exec "$@"', "sh", *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reasons = [
            line for line in done.stderr.splitlines() if line.startswith(("E:", "W: "))
        ] or done.stderr.splitlines()
        raise CasabinderError(
            f"mmdebstrap could not make Debian {spec.suite}: {' '.join(reasons[-3:]) or 'no reason given'}"
        )


@dataclass(frozen=True)
class _Facts:
    packages: tuple[str, ...]
    texts: dict[str, str]


def _read_facts(tar: tarfile.TarFile) -> _Facts:
    texts = {name: _text(tar, name) for name in _KEPT_TEXTS}
    packages = []
    name = ""
    for line in _text(tar, _PACKAGES).splitlines():
        field, _, value = line.partition(": ")
        if field == "Package":
            name = value
        elif field == "Version":
            packages.append(f"{name}={value}")
    return _Facts(tuple(sorted(packages)), texts)


def _text(tar: tarfile.TarFile, name: str) -> str:
    file = tar.extractfile(f"./{name}")
    if file is None:
        raise CasabinderError(f"the root file system has no /{name}")
    with file:
        return file.read().decode("utf-8")


def _entries(archive: Path, tar: tarfile.TarFile) -> Iterator[Entry]:
    """Yield the archive's members as entries; a hard link becomes a file of its own."""
    for member in tar:
        path = member.name.removeprefix("./").strip("/")
        if path in ("", ".") or any(path.startswith(dropped) for dropped in _DROPPED):
            continue
        mode, uid, gid = member.mode & 0o7777, member.uid, member.gid
        if member.isdir():
            yield Entry(path, "directory", mode=mode, uid=uid, gid=gid)
        elif member.issym():
            yield Entry(path, "symlink", target=member.linkname, uid=uid, gid=gid)
        elif member.isfile() or member.islnk():
            source = tar.getmember(member.linkname) if member.islnk() else member
            content = Streamed(partial(_section, archive, source.offset_data, source.size), source.size)
            yield Entry(path, "file", content, mode=mode, uid=uid, gid=gid)


def _section(archive: Path, offset: int, size: int) -> BinaryIO:
    return cast("BinaryIO", FileSection(archive, offset, size))
