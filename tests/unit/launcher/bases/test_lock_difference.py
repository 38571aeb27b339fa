"""Why packages changed, and what keeps others from being the newest."""

from __future__ import annotations

from dataclasses import replace

from packaging.requirements import Requirement

from builder.base import InstalledPackage
from launcher.bases.lock_difference import HeldBack, LockChange, LockState, changes, held_back
from tests.testbed.tiny_base import TARGET


def package(name: str, version: str, *requires: str) -> InstalledPackage:
    return InstalledPackage(name, version, "", f"{name}-{version}", requires)


def state(*packages: InstalledPackage, asked: tuple[str, ...] = ()) -> LockState:
    stated = [(Requirement(line), f"analysis.in, line {number}") for number, line in enumerate(asked, 1)]
    return LockState({one.name: one for one in packages}, stated, TARGET)


def was(**versions: str) -> dict[str, tuple[str, str]]:
    return {name: (version, f"{name}-{version}") for name, version in versions.items()}


def test_who_asks_for_what_changed() -> None:
    new = state(
        package("hist", "2.9", "numpy>=2.3", "extras; extra == 'plot'"),
        package("numpy", "2.3"),
        package("other", "1.0", "numpy"),
        package("uproot", "5.6"),
        package("fresh", "1.0"),
        asked=("hist>2", "uproot", "fresh; python_version > '3'", "hist; python_version < '3'"),
    )
    assert changes(was(hist="2.8", numpy="2.2", other="1.0", uproot="5.6", gone="1.0"), new) == [
        LockChange("fresh", "", "1.0", "asked for by analysis.in, line 3"),
        LockChange("gone", "1.0", "", "nobody needs it any more"),
        LockChange("hist", "2.8", "2.9", "asked for by analysis.in, line 1 as hist>2"),
        LockChange("numpy", "2.2", "2.3", "needed by hist 2.9 (requires numpy>=2.3), needed by other 1.0"),
    ]


def test_many_who_ask_are_counted_and_who_rules_the_old_one_out_comes_first() -> None:
    users = [package(name, "1.0", "numpy") for name in "abc"]
    new = state(*users, package("strict", "1.0", "numpy>=2"), package("numpy", "2.0"))
    (change,) = changes(was(a="1.0", b="1.0", c="1.0", strict="1.0", numpy="1.0"), new)
    assert change.why == "needed by strict 1.0 (requires numpy>=2), needed by a 1.0, and 2 more"


def test_another_wheel_of_the_same_version() -> None:
    (change,) = changes({"a": ("1.0", "another")}, state(package("a", "1.0")))
    assert change.why == "another wheel of the same version"


def newest(*packages: InstalledPackage) -> dict[str, InstalledPackage]:
    return {one.name: one for one in packages}


def test_what_holds_packages_back() -> None:
    lock = state(
        package("numba", "0.62", "numpy<2.4"),
        package("numpy", "2.3"),
        package("dask", "2026.8"),
        package("dask-awkward", "2025.3"),
        package("jsonschema", "4.24"),
        package("tqdm", "4.0"),
        asked=("jsonschema<4.25", "tqdm"),
    )
    found = held_back(
        lock,
        newest(
            package("numpy", "2.4"),
            package("dask-awkward", "2026.2", "dask<2025"),
            package("jsonschema", "4.25"),
            package("tqdm", "4.1"),
        ),
    )
    assert found == [
        HeldBack(
            "dask-awkward", "2025.3", "2026.2", "dask-awkward 2026.2 requires dask<2025, and dask 2026.8 is there"
        ),
        HeldBack("jsonschema", "4.24", "4.25", "asked for by analysis.in, line 1 as jsonschema<4.25"),
        HeldBack("numpy", "2.3", "2.4", "needed by numba 0.62 (requires numpy<2.4)"),
        HeldBack("tqdm", "4.0", "4.1", "as it was locked; --upgrade takes the newer one", free=True),
    ]


def test_what_can_only_move_together_is_not_held_back() -> None:
    lock = state(package("pydantic", "1", "pydantic-core==1"), package("pydantic-core", "1"))
    found = held_back(lock, newest(package("pydantic", "2", "pydantic-core==2"), package("pydantic-core", "2")))
    assert [(one.name, one.free) for one in found] == [("pydantic", True), ("pydantic-core", True)]


def test_older_in_the_index_is_not_newer() -> None:
    assert held_back(state(package("a", "2.0rc1")), newest(package("a", "1.0"))) == []


def test_what_is_added_to_a_base_is_looked_at_with_the_base() -> None:
    below = {"numpy": package("numpy", "2.3"), "numba": package("numba", "0.62", "cuda-core<2")}
    lock = replace(state(package("cupy", "13"), package("cuda-core", "1"), package("nvcc", "1")), below=below)
    found = held_back(
        lock,
        newest(package("cupy", "14", "numpy>=2"), package("cuda-core", "2"), package("nvcc", "2", "numpy>=2.4")),
    )
    assert [(one.name, one.free, one.why) for one in found] == [
        ("cuda-core", False, "needed by numba 0.62 (requires cuda-core<2)"),
        ("cupy", True, "as it was locked; --upgrade takes the newer one"),
        ("nvcc", False, "nvcc 2 requires numpy>=2.4, and numpy 2.3 is there"),
    ]
    (change,) = changes(was(cupy="13", nvcc="1"), lock)
    assert change == LockChange("cuda-core", "", "1", "needed by numba 0.62 (requires cuda-core<2)")
