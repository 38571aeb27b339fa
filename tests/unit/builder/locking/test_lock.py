"""Locks against a base: what stays, what is added, what replaces what, and what cannot be."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from builder.base import InstalledPackage
from builder.environment.spec import EnvironmentSpec, StatedRequirement
from builder.locking.lock import Lock, compare, lock
from builder.locking.pylock import LockedPackage, LockError
from tests.testbed.tiny_base import TARGET

if TYPE_CHECKING:
    from tests.unit.builder.conftest import Workbench


def locked(name: str, version: str = "1.0") -> LockedPackage:
    return LockedPackage(
        name, version, f"{name}-{version}-py3-none-any.whl", (name + version).encode().hex().ljust(64, "0")
    )


def installed(name: str, version: str = "1.0", *requires: str) -> InstalledPackage:
    there = locked(name, version)
    return InstalledPackage(name, version, there.filename, there.sha256, requires)


def by_name(*packages: InstalledPackage) -> dict[str, InstalledPackage]:
    return {package.name: package for package in packages}


def names(packages: tuple[LockedPackage, ...]) -> list[str]:
    return [str(package) for package in packages]


class TestCompare:
    def test_the_example_of_the_module(self) -> None:
        base = by_name(installed("numpy", "2.5"), installed("mplhep", "1.3", "numpy"), installed("uhi", "1.0"))
        answer = compare([locked("mplhep", "0.4"), locked("numpy", "2.5"), locked("particle")], base, TARGET)
        assert names(answer.packages) == ["mplhep 0.4", "numpy 2.5", "particle 1.0", "uhi 1.0"]
        assert names(answer.added) == ["particle 1.0"]
        assert [(str(old), str(new)) for old, new in answer.replaced] == [("mplhep 1.3", "mplhep 0.4")]
        assert names(answer.layered) == ["mplhep 0.4", "particle 1.0"]
        assert names(answer.gone) == ["mplhep 1.3"]
        assert answer.report() == {"from_base": 2, "added": 1, "replaced": 1}

    def test_the_same_version_is_the_bases_own_wheel(self) -> None:
        other = replace(locked("numpy"), sha256="f" * 64)
        answer = compare([other], by_name(installed("numpy")), TARGET)
        assert answer.packages == (locked("numpy"),)
        assert answer.layered == ()

    def test_what_can_no_longer_stay_goes_with_all_that_depends_on_it(self) -> None:
        base = by_name(
            installed("numpy", "2.0"),
            installed("low", "1.0", "numpy>=2"),
            installed("middle", "1.0", "low"),
            installed("high", "1.0", "middle", "nothing; extra == 'x'"),
            installed("free", "1.0"),
        )
        answer = compare([locked("numpy", "1.0")], base, TARGET)
        assert names(answer.removed) == ["high 1.0", "low 1.0", "middle 1.0"]
        assert names(answer.packages) == ["free 1.0", "numpy 1.0"]

    def test_a_malformed_requirement_binds_nobody(self) -> None:
        answer = compare([], by_name(installed("old", "1.0", "numpy (>=1.x)")), TARGET)
        assert answer.removed == ()

    def test_a_protected_package_is_mentioned(self) -> None:
        answer = compare([locked("numpy", "1.0")], by_name(installed("numpy", "2.0")), TARGET, ["numpy"], "coffea")
        assert "numpy 1.0 replaces 2.0 of the base coffea, which protects it" in answer.notes[0]

    NAMES = st.sampled_from(["a", "b", "c", "d", "e", "f"])
    VERSIONS = st.sampled_from(["1.0", "2.0", "3.0"])
    REQUIRES = st.lists(st.builds("{}{}".format, NAMES, st.sampled_from(["", ">=2", "<2", "==3.0"])), max_size=2)

    @given(
        st.dictionaries(NAMES, st.tuples(VERSIONS, REQUIRES)),
        st.dictionaries(NAMES, VERSIONS),
    )
    def test_the_answer_is_one_consistent_set(
        self, base: dict[str, tuple[str, list[str]]], chosen: dict[str, str]
    ) -> None:
        there = by_name(*(installed(name, version, *requires) for name, (version, requires) in base.items()))
        answer = compare([locked(name, version) for name, version in chosen.items()], there, TARGET)
        all_names = [package.name for package in answer.packages]
        assert all_names == sorted(set(all_names))
        assert chosen == {package.name: package.version for package in answer.packages if package.name in chosen}
        added, removed = {p.name for p in answer.added}, {p.name for p in answer.removed}
        replaced = {new.name for _, new in answer.replaced}
        assert not added & set(there)
        assert removed <= set(there) - set(chosen)
        assert replaced <= set(there) & set(chosen)
        assert added | set(there) - removed == set(all_names)
        assert not {p.sha256 for p in answer.gone} & {p.sha256 for p in answer.packages}
        assert sum(answer.report().values()) == len(answer.packages)
        versions = {package.name: package.version for package in answer.packages}
        for name in set(all_names) - set(chosen):
            for line in base[name][1]:
                requirement = Requirement(line)
                assert requirement.specifier.contains(versions[requirement.name])


def spec(
    *lines: str, python: str = "", constraints: tuple[str, ...] = (), hashes: tuple[str, ...] = ()
) -> EnvironmentSpec:
    def stated(lines: tuple[str, ...], file: str) -> tuple[StatedRequirement, ...]:
        return tuple(
            StatedRequirement(Requirement(line), f"{file}, line {number}", hashes)
            for number, line in enumerate(lines, 1)
        )

    return EnvironmentSpec(
        "requirements",
        "requirements.txt",
        stated(lines, "requirements.txt"),
        stated(constraints, "constraints.txt"),
        python=SpecifierSet(python),
        python_source="runtime.txt",
    )


class TestLock:
    """With uv and a package index on the loopback interface."""

    def locked(self, workbench: Workbench, asked: EnvironmentSpec, *, fresh: bool = False, now: float = 0) -> Lock:
        return lock(asked, workbench.base, workbench.facility, fresh=fresh, clock=lambda: now)

    def refused(self, workbench: Workbench, asked: EnvironmentSpec) -> str:
        with pytest.raises(LockError) as caught:
            self.locked(workbench, asked)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize("lines", [(), ("core",), ("core>=1", "Plots==3.0"), ("absent; sys_platform == 'win32'",)])
    def test_what_the_base_satisfies_needs_no_resolver(self, workbench: Workbench, lines: tuple[str, ...]) -> None:
        answer = self.locked(workbench, spec(*lines, constraints=("extra<2",)))
        assert (answer.report(), workbench.index.asked) == ({"from_base": 3, "added": 0, "replaced": 0}, [])

    def test_versions_of_the_base_are_preferred(self, workbench: Workbench) -> None:
        answer = self.locked(workbench, spec("extra"))
        assert (names(answer.added), answer.replaced) == (["extra 2.0"], ())
        assert answer.added[0].url == f"{workbench.index.url.removesuffix('/simple')}/files/extra-2.0-py3-none-any.whl"

    def test_an_older_package_replaces_the_bases(self, workbench: Workbench) -> None:
        answer = self.locked(workbench, spec("core<2", "extra"))
        assert names(answer.layered) == ["core 1.0", "extra 2.0"]
        assert names(answer.gone) == ["core 2.0"]
        assert answer.notes[0].startswith("core 1.0 replaces 2.0 of the base tiny, which protects it")

    def test_what_depends_on_it_is_changed_too(self, workbench: Workbench) -> None:
        answer = self.locked(workbench, spec("plots<3"))
        assert names(answer.packages) == ["core 1.0", "fonts 1.0", "plots 2.0"]

    def test_constraints_narrow_and_ask_for_nothing(self, workbench: Workbench) -> None:
        answer = self.locked(workbench, spec("extra", constraints=("extra<2", "needy")))
        assert names(answer.added) == ["extra 1.0"]

    def test_an_answer_is_remembered_for_a_day(self, workbench: Workbench) -> None:
        asked = spec("extra")
        first = self.locked(workbench, asked)
        workbench.index.asked.clear()
        assert self.locked(workbench, asked, now=86_000) == first
        assert workbench.index.asked == []
        self.locked(workbench, asked, now=87_000)
        assert workbench.index.asked != []
        workbench.index.asked.clear()
        self.locked(workbench, asked, now=87_001, fresh=True)
        assert workbench.index.asked != []

    def test_a_damaged_memory_is_ignored(self, workbench: Workbench) -> None:
        first = self.locked(workbench, spec("extra"))
        (remembered,) = (workbench.facility.cache / "locks").iterdir()
        for damage in ("", "[]", "{}", '{"time": "x"}'):
            remembered.write_text(damage)
            assert self.locked(workbench, spec("extra")) == first

    def test_hashes_are_honoured(self, workbench: Workbench) -> None:
        wheel = next(wheel for wheel in workbench.index.wheels if wheel.name == "extra" and wheel.version == "1.0")
        assert (
            self.locked(workbench, spec("extra==1.0", hashes=(wheel.sha256, "0" * 64))).added[0].sha256 == wheel.sha256
        )
        said = self.refused(workbench, spec("extra==1.0", hashes=("0" * 64,)))
        assert said.startswith(
            "requirements.txt, line 1: none of the hashes given is that of extra-1.0-py3-none-any.whl"
        )
        assert wheel.sha256 in said

    def test_another_python_is_refused_at_once(self, workbench: Workbench) -> None:
        said = self.refused(workbench, spec("core", python="==3.11.*"))
        assert said.startswith(
            "runtime.txt asks for Python ==3.11.*, and the base tiny has 3.13.5; choose another base"
        )

    @pytest.mark.parametrize(
        ("lines", "sentence"),
        [
            (("core", "nonesuch"), "requirements.txt, line 2: the package index has no package 'nonesuch'"),
            (("extra==9",), "requirements.txt, line 1: the package index has no version that fits `extra==9`"),
            (("extra>=9",), "requirements.txt, line 1: the package index has no version that fits `extra>=9`"),
            (("compiled",), "requirements.txt, line 1: `compiled` has no wheel for the base tiny (Python 3.13)"),
            (
                ("needy", "extra", "plots>2"),
                "requirements.txt, line 1 and requirements.txt, line 3: `needy` and `plots>2` can't be had together",
            ),
        ],
    )
    def test_a_refusal_names_line_and_side(self, workbench: Workbench, lines: tuple[str, ...], sentence: str) -> None:
        assert self.refused(workbench, spec(*lines)).startswith(sentence)
