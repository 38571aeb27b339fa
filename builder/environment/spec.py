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
class EnvironmentSpec:
    """The environment a repository asks for.

    ``file`` is the path of the file that decides (empty when there is none); ``constraints`` narrow versions without
    asking for packages; ``python`` is a specifier for the Python version; ``import_paths`` are directories of the
    repository, relative to its root, that its own packages are imported from; ``notes`` are sentences for the user.
    """

    kind: Literal["none", "requirements", "pyproject"]
    file: str = ""
    requirements: tuple[StatedRequirement, ...] = ()
    constraints: tuple[StatedRequirement, ...] = ()
    python: SpecifierSet = field(default_factory=SpecifierSet)
    python_source: str = ""
    import_paths: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
