"""Definitions of base images: one directory of the catalogue (or of a site) each, holding data only.

::

    coffea-py313/
      base.yaml        name, title, Debian packages or a starting image, Python, environment, protected packages
      server.in        what the notebook server's environment asks for     (requirement lines)
      server.lock      what it gets                                        (name==version --hash=sha256:...)
      analysis.in      the same for the environment of kernels and workers
      analysis.lock

A definition that ``extends`` another names it in the place of Debian packages and Python: its files hold what it adds.

Everything that decides the image is in these files, so their hash names the image: :meth:`Definition.identity`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from builder.cuda import CUDA, CUDA_DRIVER
from builder.documents import read_document
from builder.layers.layer import RECIPE
from builder.package_pattern import PackagePattern
from registry_sync.errors import CasabinderError
from registry_sync.manifest import canonical_json, sha256_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CATALOGUE = Path(__file__).parent / "catalogue"
ENVIRONMENTS = ("server", "analysis")
ASSEMBLY = 4
"""The version of how a base is assembled from its definition; it is part of every base's identity."""


_LOCK_LINE = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+) --hash=sha256:(?P<sha256>[0-9a-f]{64})")

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
DebianPackage = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.+-]+$")]
Version = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+(\.\d+)?$")]
Minor = Annotated[str, StringConstraints(pattern=r"^\d{1,2}\.\d{1,2}$")]
Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+([._-][a-z0-9]+)*$")]


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


class Cuda(_Strict):
    """The version of CUDA that the packages were built for, and the least one that a node's driver must support."""

    version: Minor
    driver: Minor


class BaseDocument(_Strict):
    """``base.yaml``. ``chosen_for`` are the packages that bring a repository here (:mod:`builder.package_pattern`)."""

    name: Name
    title: str
    description: str = ""
    extends: Name | None = None
    python: Annotated[str, StringConstraints(pattern=r"^3\.\d+$")] | None = None
    machine: Literal["x86_64"] = "x86_64"
    rootfs: Rootfs | None = None
    start: StartingImage | None = None
    environment: dict[str, str] = Field(default_factory=dict)
    protected: tuple[Name, ...] = ()
    labels: dict[Label, str] = Field(default_factory=dict)
    cuda: Cuda | None = None
    chosen_for: tuple[str, ...] = ()

    @field_validator("chosen_for")
    @classmethod
    def _patterns(cls, chosen_for: tuple[str, ...]) -> tuple[str, ...]:
        try:
            tuple(map(PackagePattern.parse, chosen_for))
        except CasabinderError as error:
            raise ValueError(str(error)) from error
        return chosen_for

    @model_validator(mode="after")
    def _one_beginning(self) -> BaseDocument:
        if sum(beginning is not None for beginning in (self.rootfs, self.start, self.extends)) != 1:
            raise ValueError("give one of `rootfs`, `start` and `extends`")
        if (self.python is None) != (self.extends is not None):
            raise ValueError("give `python`, but not with `extends`, which has that of the other base")
        if any(label.startswith("org.casabinder.") for label in self.labels):
            raise ValueError("labels that begin with `org.casabinder.` are casabinder's own")
        return self

    @property
    def image_labels(self) -> dict[str, str]:
        """The labels of the image."""
        cuda = {CUDA: self.cuda.version, CUDA_DRIVER: self.cuda.driver} if self.cuda else {}
        return {**self.labels, **cuda, "org.casabinder.base": self.name}


@dataclass(frozen=True)
class Pin:
    """One line of a committed lock: a package, its version, and the hash of the one wheel that is meant."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Definition:
    """A base image's definition as read: ``requirements`` and ``locks`` by environment (``server``, ``analysis``).

    One that extends another (``parent``) has only its own of both.
    """

    directory: Path
    document: BaseDocument
    requirements: Mapping[str, tuple[str, ...]]
    locks: Mapping[str, tuple[Pin, ...]]
    parent: Definition | None = None

    @property
    def name(self) -> str:
        """The name users choose it by."""
        return self.document.name

    @property
    def chain(self) -> tuple[Definition, ...]:
        """The definitions that make the image, bottom first; this one is the last."""
        return (*(self.parent.chain if self.parent else ()), self)

    @property
    def root(self) -> Definition:
        """The definition at the bottom, which has a Debian or a starting image."""
        return self.chain[0]

    @property
    def python(self) -> str:
        """The Python of the image, ``X.Y``."""
        return self.root.document.python or ""

    @property
    def cuda(self) -> Cuda | None:
        """What the image needs of a node's GPU; ``None`` for images without CUDA."""
        stated = [definition.document.cuda for definition in self.chain if definition.document.cuda]
        return stated[-1] if stated else None

    def pins(self, environment: str) -> tuple[Pin, ...]:
        """Return all packages of an environment, those of the definitions below included."""
        return tuple(pin for definition in self.chain for pin in definition.locks[environment])

    def lock_file(self, environment: str) -> Path:
        """Return where the committed lock of an environment is."""
        return self.directory / f"{environment}.lock"

    def identity(self, *inputs: str) -> str:
        """Return 12 hex digits that name the image this definition makes, given what else goes in (``inputs``).

        What a definition extends is among the inputs, by its own identity.
        """
        document = {
            "assembly": ASSEMBLY,
            "recipe": RECIPE,
            "definition": self.document.model_dump(mode="json"),
            "requirements": {name: list(lines) for name, lines in self.requirements.items()},
            "locks": {name: [[pin.name, pin.version, pin.sha256] for pin in pins] for name, pins in self.locks.items()},
            "inputs": list(inputs),
        }
        return short_identity(document)


def short_identity(document: object) -> str:
    """Return 12 hex digits that name an image by what decides it."""
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
    return _read(known[name], known, ())


def read_definition(directory: Path, directories: Iterable[Path] = (CATALOGUE,)) -> Definition:
    """Read the definition in ``directory``; what it extends is looked for in ``directories``.

    Raises :class:`CasabinderError` naming the file at fault.
    """
    return _read(directory, catalogue(directories), ())


def _read(directory: Path, known: Mapping[str, Path], above: tuple[str, ...]) -> Definition:
    path = directory / "base.yaml"
    document = read_document(path, BaseDocument, "the definition")
    if document.name != directory.name:
        raise CasabinderError(f"{path}: the name {document.name!r} is not that of its directory {directory.name!r}")
    extends = document.extends
    parent = None
    if extends is not None:
        names = (*above, document.name)
        if extends in names:
            raise CasabinderError(f"{path}: a base can't extend itself: {' extends '.join((*names, extends))}")
        if extends not in known:
            raise CasabinderError(
                f"{path}: there is no base {extends!r} to extend; the catalogue has {', '.join(sorted(known))}"
            )
        parent = _read(known[extends], known, names)
    files = {name: directory / f"{name}.in" for name in ENVIRONMENTS}
    return Definition(
        directory=directory,
        document=document,
        requirements={
            name: () if parent and not file.exists() else read_requirements(file) for name, file in files.items()
        },
        locks={name: read_lock(directory / f"{name}.lock") for name in ENVIRONMENTS},
        parent=parent,
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


def read_requirements(path: Path) -> tuple[str, ...]:
    """Return the requirement lines of a file."""
    lines = []
    for number, line in _lines(path):
        try:
            Requirement(line)
        except InvalidRequirement as error:
            raise CasabinderError(f"{path}, line {number}: {line!r} is not a requirement") from error
        lines.append(line)
    return tuple(lines)


def read_lock(path: Path) -> tuple[Pin, ...]:
    """Return the pins of a committed lock; none if there is no such file."""
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
    write_pins(path, pins, f"casabinder base lock {directory.name}", f"{environment}.in")
    return path


def write_pins(path: Path, pins: Iterable[Pin], command: str, source: str) -> None:
    """Write a lock that says by what ``command`` it was made of what ``source``."""
    header = f"# Made by `{command}` from {source}; do not edit.\n"
    lines = [
        f"{pin.name}=={pin.version} --hash=sha256:{pin.sha256}\n" for pin in sorted(pins, key=lambda pin: pin.name)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(header + "".join(lines), encoding="utf-8")
