"""Which base is taken, and why."""

from __future__ import annotations

import pytest
from packaging.specifiers import SpecifierSet

from builder.choose import ChosenBase, choose_base
from builder.environment.spec import EnvironmentFileError, EnvironmentSpec, RepositorySettings
from builder.facility import BaseChoice, BaseOffer, Bases
from builder.package_pattern import PackagePattern
from tests.unit.builder.environment.in_memory import detected

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
    found = choose_base(spec(python, base), BASES)
    assert (found.offer.python, found.reason, found.notes) == (chosen, reason, ())


def test_a_base_of_the_user_wins() -> None:
    only = Bases.only(OFFERS[1].choice)
    assert choose_base(spec("==3.14.*", "hep-3.14"), only) == ChosenBase(only.offers[0], "it was named")


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


def offered(name: str, python: str, chosen_for: str = "", cuda: str = "") -> BaseOffer:
    patterns = tuple(map(PackagePattern.parse, chosen_for.split()))
    return BaseOffer(name, python, BaseChoice("registry", f"bases/{name}", "tag"), patterns, cuda)


PLAIN, CUDA = offered("plain", "3.13"), offered("a-cuda", "3.13", cuda="12.9")
LEGACY = offered("a-legacy", "3.11", "coffea<1 awkward<2")
FACILITY = Bases((PLAIN, CUDA, LEGACY, offered("older", "3.11")))
LINES = "requirements.txt, line 1 asks for "


@pytest.mark.parametrize(
    ("lines", "python", "chosen", "reason"),
    [
        ("hist", "", "plain", "it is the default"),
        ("hist", "3.11", "older", "runtime.txt asks for Python ==3.11.*"),
        ("cupy-cuda12x", "", "a-cuda", f"{LINES}cupy-cuda12x"),
        ("torch", "3.13", "a-cuda", f"{LINES}torch"),
        ("coffea==0.7.21", "", "a-legacy", f"{LINES}coffea==0.7.21"),
        ("coffea>=0.7", "", "plain", "it is the default"),
        ("awkward<2\ncupy", "", "a-legacy", f"{LINES}awkward<2"),
        ("cupy-cuda13x", "", "plain", "it is the default"),
        ("cupy\njax[cuda13]", "", "plain", "it is the default"),
        ("nvidia-cudnn-cu12\njax[cuda12]", "", "a-cuda", f"{LINES}nvidia-cudnn-cu12"),
        ("cupy", "3.11", "older", "runtime.txt asks for Python ==3.11.*"),
    ],
)
def test_the_base_by_packages(lines: str, python: str, chosen: str, reason: str) -> None:
    found = choose_base(wishes(lines, python), FACILITY)
    assert (found.offer.name, found.reason) == (chosen, reason)


def test_a_base_whose_python_does_not_fit_is_spoken_of() -> None:
    found = choose_base(wishes("coffea==0.7.21", "3.13"), FACILITY)
    assert (found.offer, found.reason) == (PLAIN, "it is the default and has what runtime.txt asks for")
    assert found.notes == (
        f"{LINES}coffea==0.7.21, for which there is the base a-legacy, but runtime.txt asks for Python ==3.13.*, so "
        "that plain is taken",
    )
    (note,) = choose_base(wishes("cupy", "3.11"), FACILITY).notes
    assert note.startswith(f"{LINES}cupy, for which there is the base a-cuda")


def test_a_base_that_is_named_wins_over_packages() -> None:
    files: dict[str, str | bytes] = {"requirements.txt": "cupy", "casabinder.yaml": "base: older"}
    found = choose_base(detected(files), FACILITY)
    assert (found.offer.name, found.reason) == ("older", "casabinder.yaml names it")


def test_the_default_and_what_is_offered_alone_are_for_everybody() -> None:
    assert choose_base(wishes("hist"), Bases((CUDA, PLAIN))).offer == CUDA
    assert choose_base(wishes("hist", "3.11"), Bases((PLAIN, LEGACY))).offer == LEGACY


def test_of_two_bases_for_the_same_the_one_that_lists_the_package() -> None:
    newer = offered("z-cuda13", "3.13", "cupy-cuda13x", cuda="13.0")
    bases = Bases((PLAIN, CUDA, newer))
    assert choose_base(wishes("cupy-cuda13x"), bases).offer == newer
    assert choose_base(wishes("cupy-cuda12x"), bases).offer == CUDA


def wishes(lines: str, python: str = "") -> EnvironmentSpec:
    files: dict[str, str | bytes] = {"requirements.txt": lines}
    return detected({**files, "runtime.txt": f"python-{python}"} if python else files)
