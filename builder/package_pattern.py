"""Patterns over the packages that a repository asks for, as the definition of a base states whom it is made for.

::

    cupy-cuda*      any version of a package by this name; ``*`` stands for any letters
    jax[cuda*]      the same, asked for with such an extra
    coffea<1        only where no other version is left: by ``coffea==0.7.*``, and not by ``coffea>=0.7``
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from builder.asked import AskedPackage

_PATTERN = re.compile(r"(?P<name>[a-z0-9*]+(-[a-z0-9*]+)*)(\[(?P<extra>[a-z0-9*-]+)\])?(?P<versions>[<>=!~].*)?")


@dataclass(frozen=True)
class PackagePattern:
    """A name with ``*``, an extra with ``*`` (empty: with or without any), and the versions that are meant."""

    name: str
    extra: str = ""
    versions: SpecifierSet = field(default_factory=SpecifierSet)

    @classmethod
    def parse(cls, text: str) -> PackagePattern:
        """Read a pattern; raise :class:`CasabinderError` if it is none."""
        match = _PATTERN.fullmatch(text.replace(" ", ""))
        try:
            if match is None or "===" in text:
                raise InvalidSpecifier
            return cls(match["name"], match["extra"] or "", SpecifierSet(match["versions"] or ""))
        except InvalidSpecifier as error:
            raise CasabinderError(
                f"{text!r} is no pattern of packages; write it like `cupy-cuda*`, `jax[cuda*]` or `coffea<1`"
            ) from error

    def fits(self, asked: AskedPackage) -> bool:
        """Whether what is asked for is meant."""
        if not fnmatchcase(asked.name, self.name):
            return False
        if self.extra and not any(fnmatchcase(extra, self.extra) for extra in asked.extras):
            return False
        return not str(self.versions) or _only(asked.versions, self.versions)


def _only(asked: SpecifierSet, meant: SpecifierSet) -> bool:
    """Whether all versions that are asked for are meant, and there can be any."""
    try:
        return asked.is_subset(meant) and not asked.is_unsatisfiable()
    except ValueError:  # `===` is about text, not versions
        return False
