"""Newer Debian packages than an image has, as apt finds them: it checks the signatures and compares the versions.

apt works in a directory of its own below the cache, as an ordinary user. Where packages come from stands in the image's
own ``/etc/apt/sources.list``, which is among the first members of its lowest layer; so a few kB of that are read. What
is installed is told to apt as a dpkg status made of the inventory.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry_sync.errors import CasabinderError
from registry_sync.files import write_atomically
from registry_sync.layer_stream import DAMAGED, as_file, plain_tar
from registry_sync.machine_lock import machine_lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from builder.base import Base

_SOURCES = "etc/apt/sources.list"
_LARGEST = 2**20  # bytes of a sources.list
_MEMBERS = 2000  # of the layer, that are looked at
_SECONDS = 300
# Hooks of this machine's own apt (containers have some that delete downloads) are none of ours.
_CONFIGURATION = """\
#clear APT::Update;
APT::Architecture "{architecture}";
#clear APT::Architectures;
APT::Architectures {{ "{architecture}"; }};
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Dir::State "{directory}";
Dir::State::status "{directory}/status";
Dir::Cache "{directory}/cache";
Dir::Etc::SourceList "{directory}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
"""
_PACKAGE = re.compile(r"^(\S+):$")
_VERSION = re.compile(r"^ (?:\*\*\*|   ) (\S+) \d+$")
_ORIGIN = re.compile(r"^\s+\d+ \S+ (\S+?)/\S+ \S+ Packages$")


@dataclass(frozen=True)
class DebianUpdate:
    """A package that Debian has in a newer version; ``security`` says that its security suite has one."""

    name: str
    version: str
    newest: str
    security: bool


def debian_updates(base: Base, cache: Path) -> list[DebianUpdate]:
    """Return the newer packages, sorted by name; raise :class:`CasabinderError` with a sentence if apt can't tell."""
    packages = dict(entry.split("=", 1) for entry in base.inventory.system_packages)
    if not packages:
        raise CasabinderError("the base started from another image, and its Debian packages are not known")
    sources = read_sources(base)
    directory = cache / "apt" / hashlib.sha256(sources).hexdigest()[:16]
    architecture = base.inventory.target.platform.rpartition("/")[2]
    with machine_lock(str(directory)):
        for name in ("lists/partial", "cache/archives/partial"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        configuration = directory / "apt.conf"
        text = _CONFIGURATION.format(architecture=architecture, directory=directory.absolute())
        write_atomically(configuration, text.encode())
        write_atomically(directory / "sources.list", sources)
        write_atomically(directory / "status", "\n".join(_stanzas(packages, architecture)).encode())
        _apt("apt-get", configuration, "--quiet=2", "update")
        said = _apt("apt-cache", configuration, "policy", *packages)
    if not any(_ORIGIN.match(line) for line in said.splitlines()):
        raise CasabinderError("Debian's mirror lists none of the image's packages")
    return sorted(read_policy(said, packages), key=lambda update: update.name)


def read_sources(base: Base) -> bytes:
    """Return the image's ``/etc/apt/sources.list``."""
    layer = base.manifest.layers[0]
    with base.store.open_blob(base.repository, layer.digest) as chunks:
        plain = plain_tar(layer.media_type, as_file(chunks))
        try:
            with tarfile.open(fileobj=plain, mode="r|") as tar:
                for _, member in zip(range(_MEMBERS), tar, strict=False):
                    file = tar.extractfile(member) if member.name == _SOURCES and member.isfile() else None
                    if file is not None:
                        return file.read(_LARGEST)
        except DAMAGED as error:
            raise CasabinderError(f"the lowest layer of {base.inventory.name} is damaged: {error}") from error
    raise CasabinderError(f"the lowest layer of {base.inventory.name} has no /{_SOURCES} where one is looked for")


def read_policy(said: str, installed: Mapping[str, str]) -> Iterator[DebianUpdate]:
    """Yield what ``apt-cache policy`` says is newer than what is ``installed``; it lists versions newest first.

    ::

        openssl:
          Installed: 3.5.1-1
          Candidate: 3.5.4-1~deb13u2
          Version table:
             3.5.4-1~deb13u2 500
                500 http://... trixie-security/main amd64 Packages
         *** 3.5.1-1 100
                100 /.../status
    """
    for block in re.split(r"\n(?=\S)", said):
        lines = block.splitlines()
        named = _PACKAGE.match(lines[0]) if lines else None
        name = named[1].partition(":")[0] if named else ""
        if name not in installed:
            continue
        newer, suites = list[str](), set[str]()
        for line in lines:
            if version := _VERSION.match(line):
                if version[1] == installed[name]:
                    break
                newer.append(version[1])
            elif newer and (origin := _ORIGIN.match(line)):
                suites.add(origin[1])
        if newer:
            security = any(suite.endswith("-security") for suite in suites)
            yield DebianUpdate(name, installed[name], newer[0], security)


def _stanzas(packages: Mapping[str, str], architecture: str) -> Iterator[str]:
    for name, version in packages.items():
        yield f"Package: {name}\nStatus: install ok installed\nArchitecture: {architecture}\nVersion: {version}\n"


def _apt(program: str, configuration: Path, *words: str) -> str:
    """Run apt and return what it says; raise :class:`CasabinderError` with its own reason if it fails."""
    try:
        done = subprocess.run(
            [program, "-c", str(configuration), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
    except FileNotFoundError as error:
        raise CasabinderError(
            f"{program} is not installed here, and nothing else compares Debian's versions"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise CasabinderError(f"Debian's mirror did not answer within {_SECONDS} s") from error
    if done.returncode:
        reasons = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:"))]
        raise CasabinderError(f"Debian's mirror could not be asked: {(reasons or ['no reason given'])[0]}")
    return done.stdout
