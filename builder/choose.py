"""Chooses the base: the one the user named, else what the repository's files ask for, else the facility's default.

Of the bases whose Python the repository's files allow, those are looked at first that are made for its packages: by
``chosen_for`` of their definitions, then by having CUDA where packages are for CUDA, since those are wheels that go
onto any base. Nobody else gets such a base, unless it is the default or the only one with that Python. Among equals the
default is taken, since most images are on it and its layers are everywhere; else the newest Python.

A base that ``casabinder.yaml`` names is taken, or refused if its Python is not what the other files ask for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from builder.asked import asked_packages
from builder.cuda import for_cuda, runtime_labels, serves
from builder.environment.spec import EnvironmentFileError
from builder.target import PythonTarget

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

    from builder.asked import AskedPackage
    from builder.base import Base
    from builder.environment.spec import EnvironmentSpec
    from builder.facility import BaseOffer, Bases
    from builder.locking.lock import Lock

_MOST_PATCHES = 40
_OLDEST_GLIBC = "2.28"  # no marker knows it


@dataclass(frozen=True)
class ChosenBase:
    """The base to build on, why, as a short text for people, and what else they should know.

    ``by_package`` says that it is the one made for a package, without which another would be taken.
    """

    offer: BaseOffer
    reason: str
    notes: tuple[str, ...] = ()
    by_package: bool = False


def choose_base(spec: EnvironmentSpec, bases: Bases) -> ChosenBase:
    """Return the base to build on.

    Raises :class:`EnvironmentFileError` when no base has a Python that the repository asks for, or when it names a base
    that is not offered; the message lists the bases.
    """
    if bases.stated:
        return ChosenBase(bases.offers[0], "it was named")
    if spec.base:
        return _named(spec, bases)
    fitting = [offer for offer in bases.offers if _allows(spec.python, offer)]
    if not fitting:
        raise EnvironmentFileError(
            f"{spec.python_source} asks for Python {spec.python}, and there are {_listed(bases)}; allow one of these, "
            "or name a base with --base"
        )
    for served in (_listed_package, _cuda_package):
        found = {offer.name: package for offer in fitting if (package := served(spec, offer))}
        if found:
            offer = _best([offer for offer in fitting if offer.name in found], bases)
            return ChosenBase(offer, str(found[offer.name]), by_package=offer is not bases.offers[0])
    offer = _best([one for one in fitting if not one.special or one is bases.offers[0]] or fitting, bases)
    return ChosenBase(offer, _by_python(spec, offer, bases), _left_out(spec, offer, bases))


def without(offer: BaseOffer, bases: Bases) -> Bases:
    """Return the bases but one."""
    return replace(bases, offers=tuple(one for one in bases.offers if one is not offer))


def missing_cuda(spec: EnvironmentSpec, base: Base, answer: Lock) -> str:
    """Return a sentence if packages are asked for that are for a CUDA which neither the base nor the lock has."""
    if runtime_labels(answer.layered):
        return ""
    asked = for_cuda(asked_packages(spec, base.inventory.target))
    package = next((package for package in asked if not serves(base.cuda, package)), None)
    if package is None:
        return ""
    if base.cuda:
        return (
            f"{package}, and the base {base.inventory.name} has CUDA {base.cuda}: the drivers that notebooks and "
            "workers ask for may be too old for it"
        )
    return (
        f"{package}, which is for CUDA, and the base {base.inventory.name} has none: notebooks and workers of this "
        "image ask for no GPU by themselves"
    )


def _named(spec: EnvironmentSpec, bases: Bases) -> ChosenBase:
    named = next((offer for offer in bases.offers if offer.name == spec.base), None)
    if named is None:
        raise EnvironmentFileError(f"{spec.settings.file} names the base {spec.base!r}, and there are {_listed(bases)}")
    if not _allows(spec.python, named):
        raise EnvironmentFileError(
            f"{spec.settings.file} names the base {named.name}, which has Python {named.python}, and "
            f"{spec.python_source} asks for Python {spec.python}; change one of them"
        )
    return ChosenBase(named, f"{spec.settings.file} names it")


def _best(offers: list[BaseOffer], bases: Bases) -> BaseOffer:
    """Return the default if it is there, else the newest Python, else what is offered first."""
    if bases.offers[0] in offers:
        return bases.offers[0]
    return max(offers, key=lambda offer: (_number(offer.python), -bases.offers.index(offer)))


def _by_python(spec: EnvironmentSpec, offer: BaseOffer, bases: Bases) -> str:
    if offer is not bases.offers[0]:
        return f"{spec.python_source} asks for Python {spec.python}"
    return "it is the default" + (f" and has what {spec.python_source} asks for" if spec.python_source else "")


def _left_out(spec: EnvironmentSpec, chosen: BaseOffer, bases: Bases) -> tuple[str, ...]:
    """Return a sentence if a base is made for what is asked for, but has another Python."""
    for offer in bases.offers:
        package = None if _allows(spec.python, offer) else _listed_package(spec, offer) or _cuda_package(spec, offer)
        if package is not None:
            return (
                f"{package}, for which there is the base {offer.name}, but {spec.python_source} asks for Python "
                f"{spec.python}, so that {chosen.name} is taken",
            )
    return ()


def _listed_package(spec: EnvironmentSpec, offer: BaseOffer) -> AskedPackage | None:
    """Return a package of those that the base's definition lists."""
    if not offer.chosen_for:
        return None
    asked = asked_packages(spec, _target(offer))
    return next((package for package in asked if any(pattern.fits(package) for pattern in offer.chosen_for)), None)


def _cuda_package(spec: EnvironmentSpec, offer: BaseOffer) -> AskedPackage | None:
    """Return a package for CUDA if the base has that, and is for all such packages."""
    asked = for_cuda(asked_packages(spec, _target(offer))) if offer.cuda else []
    return asked[0] if asked and all(serves(offer.cuda, package) for package in asked) else None


def _target(offer: BaseOffer) -> PythonTarget:
    python = ".".join(offer.python.split(".")[:2])
    return PythonTarget(python, f"{python}.0", _OLDEST_GLIBC)


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
