"""Wheels that are made from source: the promise that locking relies on, whoever makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from builder.environment.spec import SourceRequirement
    from builder.locking.pylock import LockedPackage


class WheelMaker(Protocol):
    """Makes wheels for one base. The packages it returns have no ``url``: their wheels are in the wheelhouse."""

    def from_source(self, source: SourceRequirement) -> LockedPackage:
        """Return the wheel of a directory of the repository, a git repository or an archive."""
        ...

    def from_index(self, requirement: Requirement) -> LockedPackage:
        """Return the wheel of the newest source distribution of the package index that satisfies a requirement."""
        ...
