"""Chooses the base: the one the user named, else what the repository's files ask for, else the facility's default.

Of the bases whose Python the repository's files allow, the default is taken if it is among them, since most images are
on it and its layers are everywhere; else the newest. A base that ``casabinder.yaml`` names is taken, or refused if its
Python is not what the other files ask for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.environment.spec import EnvironmentFileError

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

    from builder.environment.spec import EnvironmentSpec
    from builder.facility import BaseOffer, Bases

_MOST_PATCHES = 40


def choose_base(spec: EnvironmentSpec, bases: Bases) -> tuple[BaseOffer, str]:
    """Return the base to build on and why, as a short text for people.

    Raises :class:`EnvironmentFileError` when no base has a Python that the repository asks for, or when it names a base
    that is not offered; the message lists the bases.
    """
    default = bases.offers[0]
    if bases.stated:
        return default, "it was named"
    if spec.base:
        named = next((offer for offer in bases.offers if offer.name == spec.base), None)
        if named is None:
            raise EnvironmentFileError(
                f"{spec.settings.file} names the base {spec.base!r}, and there are {_listed(bases)}"
            )
        if not _allows(spec.python, named):
            raise EnvironmentFileError(
                f"{spec.settings.file} names the base {named.name}, which has Python {named.python}, and "
                f"{spec.python_source} asks for Python {spec.python}; change one of them"
            )
        return named, f"{spec.settings.file} names it"
    fitting = [offer for offer in bases.offers if _allows(spec.python, offer)]
    if not fitting:
        raise EnvironmentFileError(
            f"{spec.python_source} asks for Python {spec.python}, and there are {_listed(bases)}; allow one of these, "
            "or name a base with --base"
        )
    if default in fitting:
        return default, "it is the default" + (
            f" and has what {spec.python_source} asks for" if spec.python_source else ""
        )
    newest = max(fitting, key=lambda offer: (_number(offer.python), -bases.offers.index(offer)))
    return newest, f"{spec.python_source} asks for Python {spec.python}"


def _allows(python: SpecifierSet, offer: BaseOffer) -> bool:
    """Whether the base's minor version may do: which patch release it has is known, and checked, when it is loaded."""
    if not offer.python or not str(python):
        return True
    if offer.python.count(".") > 1:
        return offer.python in python
    return any(f"{offer.python}.{patch}" in python for patch in range(_MOST_PATCHES))


def _number(python: str) -> tuple[int, ...]:
    return tuple(int(part) for part in python.split(".") if part.isdecimal())


def _listed(bases: Bases) -> str:
    return ", ".join(f"{offer.name} (Python {offer.python or 'unknown'})" for offer in bases.offers)
