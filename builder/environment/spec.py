"""What a repository says about its environment, in one form whatever file it was said in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from packaging.specifiers import SpecifierSet

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from packaging.requirements import Requirement


class EnvironmentFileError(CasabinderError):
    """An environment file that can't be honoured; the message names the file and, where there is one, the line."""


@dataclass(frozen=True)
class StatedRequirement:
    """One requirement and where it stands: ``source`` is ``requirements.txt, line 3``."""

    requirement: Requirement
    source: str
    hashes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceRequirement:
    """A package that is made from source: a directory of the repository, a git repository elsewhere, or an archive.

    ``path`` is a directory relative to the repository's root (``local``; ``""`` is the root), ``url`` and ``ref`` are
    as stated (``git``; without a ref its default branch; ``archive``: an sdist or wheel at a URL), ``subdirectory``
    lies below either. ``name`` is canonical and empty where it was not stated. ``hashes`` are sha256 of an archive.
    ``marker`` (PEP 508) says where it applies; empty is everywhere.
    """

    kind: Literal["local", "git", "archive"]
    source: str
    path: str = ""
    url: str = ""
    ref: str = ""
    subdirectory: str = ""
    name: str = ""
    extras: tuple[str, ...] = ()
    editable: bool = False
    hashes: tuple[str, ...] = ()
    marker: str = ""


@dataclass(frozen=True)
class EditableProject:
    """A project of the repository whose metadata is known without running its code: it is imported where it lies.

    ``name`` is as stated and ``version`` follows PEP 440; ``directory`` is where the project is and ``import_paths``
    where its modules are, both relative to the repository's root (``""``). ``entry_points`` is the text of
    ``entry_points.txt``, ``requires`` are Requires-Dist lines. ``generated`` are files (path, text) that its build
    would have written into the source, such as a ``_version.py``.
    """

    name: str
    version: str
    directory: str
    import_paths: tuple[str, ...] = ("",)
    entry_points: str = ""
    requires: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    requires_python: str = ""
    generated: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class RepositorySettings:
    """What ``casabinder.yaml`` asks of a launch and of the build: empty, 0 or ``None`` where it says nothing.

    ``groups`` replace the default of the format that decides; ``memory`` is bytes; ``notebooks`` are executed by a
    smoke test.
    """

    file: str = ""
    base: str = ""
    python: str = ""
    as_of: str = ""
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None
    cpus: float = 0.0
    memory: int = 0
    workers: int | None = None
    notebooks: tuple[str, ...] = ()


@dataclass(frozen=True)
class StatedLock:
    """A lock file of the repository, in one of two forms: it is honoured, not resolved again.

    ``pylock`` is PEP 751 text with an address for every wheel. ``pins`` (``name==version``, with the hashes that are
    allowed) come from formats that state no addresses: the index is asked for those, and for nothing else.
    """

    file: str
    pylock: str = ""
    pins: tuple[StatedRequirement, ...] = ()


@dataclass(frozen=True)
class ContainerSteps:
    """What a container engine has to run on top of the directly layered image.

    ``apt`` are Debian packages (``name`` or ``name=version``); ``post_build`` and ``dockerfile`` are paths of the
    repository; ``buildpack`` is repo2docker's for another language. With a ``dockerfile`` nothing else is used.

    Of the language: ``version`` as stated (R's, or what Julia has to be compatible with), ``snapshot`` is the day of
    R's packages (``YYYY-MM-DD``), ``install`` the path of ``install.R``, ``project`` that of ``DESCRIPTION`` or
    ``Project.toml``; each is empty where the repository says nothing.
    """

    apt: tuple[str, ...] = ()
    post_build: str = ""
    dockerfile: str = ""
    buildpack: Literal["", "r", "julia", "nix"] = ""
    version: str = ""
    snapshot: str = ""
    install: str = ""
    project: str = ""


@dataclass(frozen=True)
class EnvironmentSpec:
    """The environment a repository asks for.

    ``file`` is the path of the file that decides (empty when there is none); ``constraints`` narrow versions without
    asking for packages; ``sources`` are packages that are made from source; ``lock`` is the repository's own lock;
    ``container`` is what a container engine has to run. ``python`` is a specifier for the Python version, stated in
    ``python_source``; ``base`` is the name of a base and ``as_of`` a date (``YYYY-MM-DD``, or ``commit``) from
    ``casabinder.yaml``, whose other ``settings`` the launcher uses. ``editables`` are the repository's own
    projects that are imported where they lie; ``notes`` are sentences for the user.
    """

    kind: Literal[
        "none",
        "requirements",
        "pyproject",
        "setup",
        "pylock",
        "uv",
        "poetry",
        "pdm",
        "pipfile",
        "dockerfile",
        "r",
        "julia",
        "nix",
    ]
    file: str = ""
    requirements: tuple[StatedRequirement, ...] = ()
    constraints: tuple[StatedRequirement, ...] = ()
    sources: tuple[SourceRequirement, ...] = ()
    lock: StatedLock | None = None
    container: ContainerSteps | None = None
    python: SpecifierSet = field(default_factory=SpecifierSet)
    python_source: str = ""
    base: str = ""
    as_of: str = ""
    editables: tuple[EditableProject, ...] = ()
    settings: RepositorySettings = field(default_factory=RepositorySettings)
    notes: tuple[str, ...] = ()
