"""Which base is taken, and why."""

from __future__ import annotations

import pytest
from packaging.specifiers import SpecifierSet

from builder.choose import choose_base
from builder.environment.spec import EnvironmentFileError, EnvironmentSpec, RepositorySettings
from builder.facility import BaseChoice, BaseOffer, Bases

OFFERS = tuple(
    BaseOffer(f"hep-{python}", python, BaseChoice("registry", f"bases/{python}", "tag"))
    for python in ("3.12", "3.11", "3.14")
)
BASES = Bases(OFFERS)


def spec(python: str = "", base: str = "") -> EnvironmentSpec:
    found = RepositorySettings(file="binder/casabinder.yaml", base=base)
    return EnvironmentSpec(
        "none", python=SpecifierSet(python), python_source="runtime.txt" if python else "", base=base, settings=found
    )


@pytest.mark.parametrize(
    ("python", "base", "chosen", "reason"),
    [
        ("", "", "3.12", "it is the default"),
        (">=3.11", "", "3.12", "it is the default and has what runtime.txt asks for"),
        (">=3.13", "", "3.14", "runtime.txt asks for Python >=3.13"),
        ("!=3.12.*", "", "3.14", "runtime.txt asks for Python !=3.12.*"),
        ("==3.11.4", "", "3.11", "runtime.txt asks for Python ==3.11.4"),
        ("", "hep-3.11", "3.11", "binder/casabinder.yaml names it"),
    ],
)
def test_the_base_and_why(python: str, base: str, chosen: str, reason: str) -> None:
    offer, why = choose_base(spec(python, base), BASES)
    assert (offer.python, why) == (chosen, reason)


def test_a_base_of_the_user_wins() -> None:
    only = Bases.only(OFFERS[1].choice)
    assert choose_base(spec("==3.14.*", "hep-3.14"), only) == (only.offers[0], "it was named")


@pytest.mark.parametrize(
    ("python", "base", "message"),
    [
        ("<3.10", "", r"runtime.txt asks for Python <3.10, and there are hep-3.12 \(Python 3.12\), hep-3.11"),
        ("", "mine", "binder/casabinder.yaml names the base 'mine', and there are hep-3.12"),
        ("<3.12", "hep-3.14", "which has Python 3.14, and runtime.txt asks for Python <3.12"),
    ],
)
def test_no_base(python: str, base: str, message: str) -> None:
    with pytest.raises(EnvironmentFileError, match=message):
        choose_base(spec(python, base), BASES)
