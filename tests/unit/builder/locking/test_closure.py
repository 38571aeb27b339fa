"""Whether packages fit each other: requirements, extras, Python, and who needs whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from builder.base import InstalledPackage
from builder.locking.closure import breaches, closure_of, leavers, python_fits
from tests.testbed.tiny_base import TARGET


def package(name: str, version: str = "1.0", *requires: str, python: str = "") -> InstalledPackage:
    return InstalledPackage(name, version, f"{name}-{version}-py3-none-any.whl", "0" * 64, requires, python)


def of(*packages: InstalledPackage) -> dict[str, InstalledPackage]:
    return {one.name: one for one in packages}


def test_every_kind_of_breach_is_one_clause() -> None:
    packages = of(
        package("a", "1.0", "B_b>=2", "c; python_version < '3'", "absent; extra == 'x'", "d"),
        package("b-b", "1.0"),
        package("new", "1.0", python="<3.13"),
    )
    assert [str(breach) for breach in breaches(packages, TARGET)] == [
        "a 1.0 requires b-b>=2, and b-b 1.0 is there",
        "a 1.0 requires d, and d is not there",
        "new 1.0 is for Python <3.13, and 3.13 is there",
    ]


def test_an_extra_counts_where_somebody_asks_for_it() -> None:
    packages = of(package("a", "1.0", "b>=2; extra == 'x'"), package("b"), package("c", "1.0", "a[x]"))
    assert [breach.needed for breach in breaches(packages, TARGET)] == ["b"]
    del packages["c"]
    assert breaches(packages, TARGET) == []
    assert [breach.needed for breach in breaches(packages, TARGET, [Requirement("A[x]")])] == ["b"]


def test_who_needs_a_package_is_known() -> None:
    packages = of(package("a", "1.0", "b[x]"), package("b", "1.0", "c; extra == 'x'"), package("c"), package("d"))
    assert closure_of(["a", "absent"], packages, TARGET) == {"a": None, "b": "a", "c": "b"}


@pytest.mark.parametrize(
    ("requires", "fits"),
    [("", True), (">=3.9", True), ("<3.13", False), ("<3.13.2", True), ("==3.13.*", True), (">=4", False), ("x", True)],
)
def test_any_release_of_the_python_will_do(requires: str, fits: bool) -> None:
    assert python_fits(requires, "3.13") is fits


NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
VERSIONS = st.sampled_from(["1.0", "2.0"])
REQUIRES = st.lists(st.builds("{}{}".format, NAMES, st.sampled_from(["", ">=2", "<2"])), max_size=2)
PACKAGES = st.dictionaries(NAMES, st.tuples(VERSIONS, REQUIRES))


@given(PACKAGES, PACKAGES)
def test_what_stays_of_a_base_fits_and_no_more_goes_than_must(
    base: dict[str, tuple[str, list[str]]], chosen: dict[str, tuple[str, list[str]]]
) -> None:
    installed = of(*(package(name, version, *requires) for name, (version, requires) in base.items()))
    beside = of(*(package(name, version, *requires) for name, (version, requires) in chosen.items()))
    gone = leavers(beside, installed, TARGET)
    assert not gone.keys() & beside.keys()
    stays = {name: one for name, one in (installed | beside).items() if name not in gone}
    assert not {breach.package.name for breach in breaches(stays, TARGET)} - beside.keys()
    for name, breach in gone.items():
        assert breach.package is installed[name]
