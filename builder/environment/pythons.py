"""Evaluates markers of lock files for every Python that a base may have, before the base is chosen.

A lock of Poetry, PDM or Pipenv says by markers and by the graph what is installed where. It is evaluated once for each
CPython on Linux; what comes out for some of them only is put into a marker on ``python_version``.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from packaging.markers import Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from builder.environment.spec import EnvironmentFileError
from builder.environment.wishes import parse_marker
from builder.target import PythonTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PYTHONS = tuple(f"3.{minor}" for minor in range(8, 17))
_LATE = 30  # a patch release later than any, for markers on python_full_version


def allowed(specifier: SpecifierSet, python: str) -> bool:
    """Whether some release of a minor version (``3.13``) satisfies a specifier."""
    return any(f"{python}.{patch}" in specifier for patch in range(_LATE + 1))


def marker_for(pythons: Iterable[str], considered: Iterable[str]) -> str:
    """Return the marker that is true for ``pythons`` among ``considered``; empty if they are all."""
    wanted = [python for python in considered if python in set(pythons)]
    if wanted == list(considered):
        return ""
    return " or ".join(f"python_version == '{python}'" for python in wanted)


def evaluate(text: object, python: str, source: str, extras: Iterable[str] = ()) -> bool:
    """Whether a marker is true for a minor version of Python on Linux, with any of ``extras``; an empty one is."""
    if text in ("", None):
        return True
    try:
        marker = _marker(str(text), source)
        environment = _environment(python)
        return any(marker.evaluate({**environment, "extra": extra}) for extra in (*extras, ""))
    except (UndefinedEnvironmentName, UndefinedComparison, InvalidSpecifier, RecursionError, KeyError) as error:
        raise EnvironmentFileError(f"{source}: the marker {str(text)[:80]!r} can't be evaluated; lock again") from error


def everywhere(condition: Callable[[str], bool]) -> list[str]:
    """Return the Pythons for which a condition holds."""
    return [python for python in PYTHONS if condition(python)]


@cache
def _environment(python: str) -> dict[str, str]:
    markers = PythonTarget(python, f"{python}.{_LATE}", "2.28").markers
    return {name: str(value) for name, value in markers.items()}


@cache
def _marker(text: str, source: str) -> Marker:
    return parse_marker(text, source)
