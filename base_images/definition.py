"""Definitions of base images: one directory of the catalogue (or of a site) each, holding data only.

::

    coffea-py313/
      base.yaml        name, title, Debian packages or a starting image, Python, environment, protected packages
      server.in        what the notebook server's environment asks for     (requirement lines)
      server.lock      what it gets                                        (name==version --hash=sha256:...)
      analysis.in      the same for the environment of kernels and workers
      analysis.lock

Everything that decides the image is in these files, so their hash names the image: :meth:`Definition.identity`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from builder.documents import read_document
from builder.layers.layer import RECIPE
from registry_sync.errors import CasabinderError
from registry_sync.manifest import canonical_json, sha256_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CATALOGUE = Path(__file__).parent / "catalogue"
ENVIRONMENTS = ("server", "analysis")
ASSEMBLY = 3
"""The version of how a base is assembled from its definition; it is part of every base's identity."""

_LOCK_LINE = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+) --hash=sha256:(?P<sha256>[0-9a-f]{64})")

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
DebianPackage = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.+-]+$")]
Version = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+(\.\d+)?$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rootfs(_Strict):
    """A root file system made by mmdebstrap: a Debian suite and the packages beyond its minimal ones."""

    suite: Annotated[str, StringConstraints(pattern=r"^[a-z]+$")]
    packages: tuple[DebianPackage, ...]
    mirrors: tuple[str, ...] = ()


class StartingImage(_Strict):
    """An image of any registry to start from, with the facts that can't be read off without running it."""

    image: str
    python_full: Version
    glibc: Version
    interpreter: str = "/usr/bin/python3"


class BaseDocument(_Strict):
    """``base.yaml``."""

    name: Name
    title: str
    description: str = ""
    python: Annotated[str, StringConstraints(pattern=r"^3\.\d+$")]
    machine: Literal["x86_64"] = "x86_64"
    rootfs: Rootfs | None = None
    start: StartingImage | None = None
    environment: dict[str, str] = Field(default_factory=dict)
    protected: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _one_beginning(self) -> BaseDocument:
        if (self.rootfs is None) == (self.start is None):
            raise ValueError("give either `rootfs` or `start`")
        return self


@dataclass(frozen=True)
class Pin:
    """One line of a committed lock: a package, its version, and the hash of the one wheel that is meant."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Definition:
    """A base image's definition as read: ``requirements`` and ``locks`` by environment (``server``, ``analysis``)."""

    directory: Path
    document: BaseDocument
    requirements: Mapping[str, tuple[str, ...]]
    locks: Mapping[str, tuple[Pin, ...]]

    @property
    def name(self) -> str:
        """The name users choose it by."""
        return self.document.name

    def identity(self, *inputs: str) -> str:
        """Return 12 hex digits that name the image this definition makes, given what else goes in (``inputs``)."""
        document = {
            "assembly": ASSEMBLY,
            "recipe": RECIPE,
            "definition": self.document.model_dump(mode="json"),
            "requirements": {name: list(lines) for name, lines in self.requirements.items()},
            "locks": {name: [[pin.name, pin.version, pin.sha256] for pin in pins] for name, pins in self.locks.items()},
            "inputs": list(inputs),
        }
        return sha256_digest(canonical_json(document))[7:19]


def catalogue(directories: Iterable[Path] = (CATALOGUE,)) -> dict[str, Path]:
    """Return the directories of all definitions below ``directories`` by name; later directories win."""
    found = {}
    for directory in directories:
        for path in sorted(directory.glob("*/base.yaml")):
            found[path.parent.name] = path.parent
    return found


def load_definition(name: str, directories: Iterable[Path] = (CATALOGUE,)) -> Definition:
    """Return a definition by name; raise :class:`CasabinderError` saying which there are, or what is wrong in it."""
    known = catalogue(directories)
    if name not in known:
        raise CasabinderError(f"there is no base image {name!r}; the catalogue has {', '.join(sorted(known))}")
    return read_definition(known[name])


def read_definition(directory: Path) -> Definition:
    """Read the definition in ``directory``; raise :class:`CasabinderError` naming the file at fault."""
    path = directory / "base.yaml"
    document = read_document(path, BaseDocument, "the definition")
    if document.name != directory.name:
        raise CasabinderError(f"{path}: the name {document.name!r} is not that of its directory {directory.name!r}")
    return Definition(
        directory=directory,
        document=document,
        requirements={name: _read_requirements(directory / f"{name}.in") for name in ENVIRONMENTS},
        locks={name: _read_lock(directory / f"{name}.lock") for name in ENVIRONMENTS},
    )


def _lines(path: Path) -> Iterable[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise CasabinderError(f"{path} is missing") from error
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.partition("#")[0].strip()
        if stripped:
            yield number, stripped


def stated_requirements(directory: Path, environment: str) -> list[tuple[Requirement, str]]:
    """Return what an environment asks for, each with its file and line."""
    path = directory / f"{environment}.in"
    return [(Requirement(line), f"{path.name}, line {number}") for number, line in _lines(path)]


def _read_requirements(path: Path) -> tuple[str, ...]:
    lines = []
    for number, line in _lines(path):
        try:
            Requirement(line)
        except InvalidRequirement as error:
            raise CasabinderError(f"{path}, line {number}: {line!r} is not a requirement") from error
        lines.append(line)
    return tuple(lines)


def _read_lock(path: Path) -> tuple[Pin, ...]:
    if not path.exists():
        return ()
    pins = []
    for number, line in _lines(path):
        match = _LOCK_LINE.fullmatch(line)
        if not match:
            raise CasabinderError(f"{path}, line {number}: {line!r} is not `name==version --hash=sha256:...`")
        pins.append(Pin(canonicalize_name(match["name"]), match["version"], match["sha256"]))
    return tuple(pins)


def write_lock(directory: Path, environment: str, pins: Iterable[Pin]) -> Path:
    """Write the committed lock of one environment and return its path."""
    path = directory / f"{environment}.lock"
    header = f"# Made by `casabinder base lock {directory.name}` from {environment}.in; do not edit.\n"
    lines = [
        f"{pin.name}=={pin.version} --hash=sha256:{pin.sha256}\n" for pin in sorted(pins, key=lambda pin: pin.name)
    ]
    path.write_text(header + "".join(lines), encoding="utf-8")
    return path
