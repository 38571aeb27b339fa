"""Locks that a repository brings, wheels that are made, and dates: with uv and an index on the loopback interface."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from builder.environment.spec import EnvironmentSpec, SourceRequirement, StatedLock, StatedRequirement
from builder.locking.as_of import moment
from builder.locking.lock import Lock, lock
from builder.locking.pylock import LockedPackage, LockError, write_pylock
from builder.locking.report import LockReport, make_report
from builder.repository.checkout import checkout, resolve_ref
from builder.repository.spec import RepoSpec
from registry_sync.errors import CasabinderError
from tests.testbed.git_repository import commit_files
from tests.testbed.packages import BuiltWheel, built_wheel, running_index
from tests.testbed.tiny_base import TARGET
from tests.unit.builder.conftest import make_workbench

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.builder.conftest import Workbench

KERNEL = built_wheel("ipykernel", "6.0", requires=["traits>=2"])
TRAITS = built_wheel("traits", "2.0")
CORE = built_wheel("core", "2.0")
PLOTS = built_wheel("plots", "3.0", requires=["core>=2"])
IN_BASE = (KERNEL, TRAITS, CORE, PLOTS)
OTHERS = (
    built_wheel("traits", "1.0"),
    built_wheel("core", "1.0"),
    built_wheel("core", "1.5"),
    built_wheel("core", "2.0", {"core/other.py": b""}, tag="cp313-none-any"),
    built_wheel("plots", "2.0", requires=["core<2"]),
    built_wheel("plots", "2.5", requires=["core<2"]),
    built_wheel("extra", "1.0", requires=["core"]),
    built_wheel("extra", "2.0", requires=["core"]),
    built_wheel("narrow", "1.0", requires_python="<3.13"),
    built_wheel("late", "1.0", requires=["core>=3"]),
    built_wheel("wants", "1.0", requires=["sourced"]),
)
MADE = built_wheel("sourced", "1.2", requires=["extra<2"])


@dataclass(frozen=True)
class BuiltSdist(BuiltWheel):
    """A file that the index offers as a source distribution."""

    @property
    def filename(self) -> str:
        return f"{self.name}-{self.version}.tar.gz"


@dataclass
class Maker:
    """Hands out wheels that are there already, and remembers what it was asked."""

    workbench: Workbench
    wheels: dict[str, BuiltWheel]
    asked: list[str] = field(default_factory=list)

    def from_source(self, source: SourceRequirement) -> LockedPackage:
        self.asked.append(source.url or source.path)
        return self._give(source.name)

    def from_index(self, requirement: Requirement) -> LockedPackage:
        self.asked.append(str(requirement))
        return self._give(requirement.name)

    def _give(self, name: str) -> LockedPackage:
        if name not in self.wheels:
            raise CasabinderError(f"there is no source of {name}")
        package = self.wheels[name].locked()
        path = self.workbench.facility.wheelhouse.path(package)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.wheels[name].content)
        return package


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    with running_index([*IN_BASE, *OTHERS]) as index:
        workbench = make_workbench(tmp_path, index, IN_BASE)
        yield workbench


def wheel(bench: Workbench, name: str, version: str, tag: str = "py3-none-any") -> LockedPackage:
    found = next(w for w in bench.index.wheels if (w.name, w.version, w.tag) == (name, version, tag))
    return bench.index.locked(found)


def stated(bench: Workbench, *packages: LockedPackage) -> EnvironmentSpec:
    del bench
    return EnvironmentSpec("uv", "uv.lock", lock=StatedLock("uv.lock", write_pylock(packages, TARGET)))


def pinned(*pins: tuple[str, tuple[str, ...]]) -> EnvironmentSpec:
    lines = tuple(StatedRequirement(Requirement(line), "poetry.lock", hashes) for line, hashes in pins)
    return EnvironmentSpec("poetry", "poetry.lock", lock=StatedLock("poetry.lock", pins=lines))


def asked(*lines: str, sources: tuple[SourceRequirement, ...] = ()) -> EnvironmentSpec:
    wanted = tuple(StatedRequirement(Requirement(line), f"r.txt, line {n}") for n, line in enumerate(lines, 1))
    return EnvironmentSpec("requirements", "r.txt", wanted, sources=sources)


def names(packages: tuple[LockedPackage, ...]) -> list[str]:
    return [str(package) for package in packages]


def locked(bench: Workbench, spec: EnvironmentSpec, maker: Maker | None = None, before: str = "") -> Lock:
    return lock(spec, bench.base, bench.facility, maker=maker, before=before)


def refused(bench: Workbench, spec: EnvironmentSpec, maker: Maker | None = None, before: str = "") -> str:
    with pytest.raises(LockError) as caught:
        locked(bench, spec, maker, before)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestStatedLock:
    def test_it_is_honoured_without_a_resolver(self, bench: Workbench) -> None:
        answer = locked(bench, stated(bench, wheel(bench, "extra", "1.0"), wheel(bench, "core", "2.0")))
        assert (names(answer.added), answer.replaced, answer.removed) == (["extra 1.0"], (), ())
        assert not [request for request in bench.index.asked if "/simple/" in request]

    def test_another_wheel_of_the_same_version_replaces_the_bases(self, bench: Workbench) -> None:
        other = wheel(bench, "core", "2.0", "cp313-none-any")
        answer = locked(bench, stated(bench, other))
        assert [new for _, new in answer.replaced] == [other]

    def test_what_cannot_stay_goes_and_the_reason_is_told(self, bench: Workbench) -> None:
        answer = locked(bench, stated(bench, wheel(bench, "core", "1.0")))
        assert names(answer.removed) == ["plots 3.0"]
        assert "plots of the base tiny is removed: plots 3.0 requires core>=2, and core 1.0 is there" in answer.notes
        assert any(note.startswith("core 1.0 replaces 2.0 of the base tiny, which protects") for note in answer.notes)

    def test_what_no_image_can_do_without_is_not_broken(self, bench: Workbench) -> None:
        said = refused(bench, stated(bench, wheel(bench, "traits", "1.0")))
        assert said == (
            "uv.lock: ipykernel 6.0 of the base tiny requires traits>=2, but uv.lock has traits 1.0, and ipykernel is "
            "needed, which no image can do without; try `uv lock --upgrade-package traits`, loosen what is stated of "
            "traits, or choose another base with --base"
        )

    def test_a_package_for_another_python_is_known_beforehand(self, bench: Workbench) -> None:
        said = refused(bench, stated(bench, wheel(bench, "narrow", "1.0")))
        assert said.startswith("uv.lock: narrow 1.0 is for Python <3.13, and the base tiny has 3.13.5; choose")

    def test_a_lock_at_odds_with_itself_is_taken_with_a_note(self, bench: Workbench) -> None:
        answer = locked(bench, stated(bench, wheel(bench, "late", "1.0")))
        assert answer.notes[0].startswith("uv.lock is at odds with itself: late 1.0 requires core>=3, and core 2.0 is")

    def test_addresses_of_the_local_network_are_not_asked(self, bench: Workbench) -> None:
        odd = replace(wheel(bench, "extra", "1.0"), url="http://169.254.169.254/extra-1.0-py3-none-any.whl")
        assert refused(bench, stated(bench, odd)).startswith("uv.lock: 169.254.169.254 is an address of the local")

    def test_a_source_is_made(self, bench: Workbench) -> None:
        text = (
            'lock-version = "1.0"\n[[packages]]\nname = "sourced"\nversion = "1.2"\n'
            f'sdist = {{ url = "https://h.example/sourced-1.2.tar.gz", hashes = {{ sha256 = "{"a" * 64}" }} }}\n'
        )
        spec = EnvironmentSpec("pylock", "pylock.toml", lock=StatedLock("pylock.toml", text))
        maker = Maker(bench, {"sourced": MADE})
        assert names(locked(bench, spec, maker).added) == ["sourced 1.2"]
        assert maker.asked == ["https://h.example/sourced-1.2.tar.gz"]
        assert "sourced has to be made from source, which needs a container engine" in refused(bench, spec)


class TestPins:
    def test_the_wheel_with_an_allowed_hash_is_taken(self, bench: Workbench) -> None:
        one = wheel(bench, "extra", "1.0")
        other = wheel(bench, "core", "2.0")
        spec = pinned(("extra==1.0", (one.sha256, "0" * 64)), ("core==2.0", (other.sha256,)))
        answer = locked(bench, spec)
        assert (answer.added, answer.replaced) == ((one,), ())
        bench.index.asked.clear()
        assert locked(bench, spec) == answer
        assert bench.index.asked == []

    @pytest.mark.parametrize(
        ("pin", "sentence"),
        [
            ("extra==9", "poetry.lock: extra==9 is no longer in the package index: the lock has rotted; lock extra"),
            ("gone==1", "poetry.lock: gone==1 is no longer in the package index: the lock has rotted; lock gone again"),
            (
                "extra==2.0",
                "poetry.lock: none of the hashes of extra==2.0 is that of a wheel for Python 3.13 of the base",
            ),
        ],
    )
    def test_a_rotten_lock_is_named(self, bench: Workbench, pin: str, sentence: str) -> None:
        assert refused(bench, pinned((pin, ("0" * 64,)))).startswith(sentence)


class TestMadeWheels:
    def test_a_stated_source_is_resolved_with_its_own_requirements(self, bench: Workbench) -> None:
        source = SourceRequirement("git", "r.txt, line 1", url="https://h.example/s", name="sourced")
        maker = Maker(bench, {"sourced": MADE})
        answer = locked(bench, asked("core", sources=(source,)), maker)
        assert names(answer.added) == ["extra 1.0", "sourced 1.2"]
        assert answer.added[1].url == ""
        assert locked(bench, asked("core", sources=(source,)), maker) == answer
        assert refused(bench, asked(sources=(source,))).startswith("r.txt, line 1: sourced has to be made from source")

    def test_what_has_no_wheel_is_made_and_the_resolver_asked_again(self, bench: Workbench) -> None:
        bench.index.wheels.append(BuiltSdist("sourced", "1.2", b"source"))
        maker = Maker(bench, {"sourced": MADE})
        answer = locked(bench, asked("wants"), maker)
        assert names(answer.added) == ["extra 1.0", "sourced 1.2", "wants 1.0"]
        assert maker.asked == ["sourced"]
        assert locked(bench, asked("wants"), maker) == answer
        assert maker.asked == ["sourced"]  # remembered
        said = refused(bench, asked("core", "sourced>=1.1"), Maker(bench, {}))
        assert said == (
            "r.txt, line 2: sourced>=1.1 has no wheel for the base tiny (Python 3.13) and can't be made from source: "
            "there is no source of sourced"
        )
        assert "`sourced>=1.1` has no wheel for the base tiny" in refused(bench, asked("core", "sourced>=1.1"))

    def test_a_pin_that_allows_the_source_only_is_made_from_it(self, bench: Workbench) -> None:
        sdist = BuiltSdist("sourced", "1.2", b"source")
        bench.index.wheels += [sdist, BuiltSdist("extra", "1.0", b"source of extra")]
        maker = Maker(bench, {"sourced": MADE, "extra": OTHERS[6]})
        allowed = BuiltSdist("extra", "1.0", b"source of extra").sha256
        answer = locked(bench, pinned(("sourced==1.2", (sdist.sha256,)), ("extra==1.0", (allowed,))), maker)
        assert sorted(maker.asked) == [bench.index.address_of(bench.index.wheels[-1]), bench.index.address_of(sdist)]
        assert names(answer.added) == ["extra 1.0", "sourced 1.2"]
        rotten = pinned(("sourced==1.2", ("0" * 64,)))
        assert refused(bench, rotten, maker).startswith("poetry.lock: none of the hashes of sourced==1.2 is that of")

    def test_a_source_that_does_not_apply_is_not_made(self, bench: Workbench) -> None:
        source = SourceRequirement("git", "r.txt", url="https://h.example/s", marker="sys_platform == 'win32'")
        assert locked(bench, asked("core", sources=(source,))).layered == ()


class TestDates:
    def test_additions_are_of_the_date_and_the_base_stays(self, bench: Workbench) -> None:
        old, new = "2023-01-01T00:00:00Z", "2026-01-01T00:00:00Z"
        early = {("extra", "1.0"), ("core", "1.0"), ("plots", "2.0")}
        for one in bench.index.wheels:
            bench.index.uploaded[one.filename] = old if (one.name, one.version) in early else new
        answer = locked(bench, asked("extra"), before="2024-01-01T00:00:00Z")
        assert (names(answer.layered), names(answer.gone)) == (["extra 1.0"], [])
        changed = locked(bench, asked("core<2", "extra"), before="2024-01-01T00:00:00Z")
        assert names(changed.layered) == ["core 1.0", "extra 1.0", "plots 2.0"]
        assert names(locked(bench, asked("core<2", "extra")).layered) == ["core 1.5", "extra 2.0", "plots 2.5"]

    def test_an_index_without_upload_times_is_named(self, bench: Workbench) -> None:
        said = refused(bench, asked("extra"), before="2024-01-01T00:00:00Z")
        assert said.startswith("as_of: the package index does not say when `")

    def test_a_date_is_the_end_of_its_day_and_a_commit_has_its_own(self, tmp_path: Path) -> None:
        commit_files(tmp_path / "repo", {"a": "1"})
        tree = checkout(resolve_ref(RepoSpec(str(tmp_path / "repo"))), tmp_path / "cache")
        assert moment("", tree) == ""
        assert moment("2023-05-31", tree) == "2023-06-01T00:00:00Z"
        assert moment("commit", tree).endswith("Z")
        for wrong in ("2023-13-01", "20230501", "yesterday", "9999-12-31"):
            with pytest.raises(LockError, match="neither a date"):
                moment(wrong, tree)


class TestUnlocked:
    def test_a_package_for_another_python_is_refused_with_its_line(self, bench: Workbench) -> None:
        assert refused(bench, asked("core", "narrow")).startswith("r.txt, line 2: narrow 1.0 is for Python <3.13")

    def test_the_report_has_lists_and_chains(self, bench: Workbench) -> None:
        spec = asked("plots<3", "extra==1.0")
        report = make_report(spec, locked(bench, spec), bench.base)
        assert [(entry.name, entry.chain) for entry in report.added] == [("extra", ("r.txt, line 2", "extra"))]
        assert [(entry.name, entry.base_version, entry.version, entry.chain[0]) for entry in report.replaced] == [
            ("core", "2.0", "1.5", "r.txt, line 1"),
            ("plots", "3.0", "2.5", "r.txt, line 1"),
        ]
        assert [entry.name for entry in report.from_base] == ["ipykernel", "traits"]
        assert LockReport.from_json(report.to_json()) == report
        text = report.to_text()
        assert "core 1.5 (base: 2.0)" in text
        assert "r.txt, line 1 -> plots -> core" in text
        assert text.startswith("from the base tiny (Python 3.13.5): 2 packages")
        with pytest.raises(CasabinderError, match="not usable"):
            LockReport.from_json({})
