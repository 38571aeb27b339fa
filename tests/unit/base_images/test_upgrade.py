"""What a lock keeps when it is made anew, against a real resolver and a small index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from base_images.definition import read_definition, stated_requirements
from base_images.identity import Workshop
from base_images.locking import lock_base
from base_images.upgrade import Upgrade, preferences
from builder.locking.pylock import LockError
from builder.locking.resolver import PackageIndex
from tests.testbed.packages import built_wheel, running_index

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.testbed.packages import Index

DOCUMENT = """\
name: small
title: small
python: "3.13"
rootfs: {suite: trixie, packages: [git]}
"""


@pytest.fixture
def index() -> Iterator[Index]:
    with running_index([built_wheel("core", "1.0"), built_wheel("plots", "1.0", requires=["core"])]) as running:
        yield running


@pytest.fixture
def directory(tmp_path: Path, index: Index) -> Path:
    directory = tmp_path / "catalogue" / "small"
    directory.mkdir(parents=True)
    (directory / "base.yaml").write_text(DOCUMENT)
    (directory / "server.in").write_text("# the server\ncore\n")
    (directory / "analysis.in").write_text("plots\n")
    locked(directory, index)
    index.wheels += [built_wheel("core", "1.1"), built_wheel("plots", "1.1", requires=["core"])]
    return directory


def locked(directory: Path, index: Index, upgrade: Upgrade | None = None, *, write: bool = True) -> dict[str, str]:
    cache = directory.parents[1] / "cache"
    workshop = Workshop(cache, PackageIndex(url=index.url))  # without uv's cache, which would not see the new wheels
    definition = read_definition(directory)
    given = (upgrade,) if upgrade else ()
    locks = lock_base(definition, workshop, *given, write=write)
    return {package.name: package.version for package in locks["analysis"]}


def test_a_lock_keeps_what_the_requirements_allow(directory: Path, index: Index) -> None:
    before = (directory / "analysis.lock").read_text()
    assert locked(directory, index) == {"core": "1.0", "plots": "1.0"}
    assert (directory / "analysis.lock").read_text() == before
    (directory / "analysis.in").write_text("plots>1\n")
    assert locked(directory, index) == {"core": "1.0", "plots": "1.1"}


def test_one_package_or_all_are_taken_as_they_are_today(directory: Path, index: Index) -> None:
    assert locked(directory, index, Upgrade(packages=frozenset({"core"}))) == {"core": "1.1", "plots": "1.0"}
    assert locked(directory, index, Upgrade(everything=True)) == {"core": "1.1", "plots": "1.1"}


def test_a_trial_writes_nothing(directory: Path, index: Index) -> None:
    before = {path.name: path.read_text() for path in directory.iterdir()}
    assert locked(directory, index, Upgrade(everything=True), write=False) == {"core": "1.1", "plots": "1.1"}
    assert {path.name: path.read_text() for path in directory.iterdir()} == before


def test_nothing_is_written_when_one_environment_can_not_be_locked(directory: Path, index: Index) -> None:
    before = (directory / "server.lock").read_text()
    (directory / "server.in").write_text("core>1\n")
    (directory / "analysis.in").write_text("absent\n")
    with pytest.raises(LockError, match="absent"):
        locked(directory, index)
    assert (directory / "server.lock").read_text() == before


def test_the_very_wheel_stays(directory: Path, index: Index) -> None:
    before = (directory / "analysis.lock").read_text()
    index.wheels.append(built_wheel("core", "1.0", tag="cp313-cp313-manylinux_2_17_x86_64"))
    locked(directory, index)
    assert (directory / "analysis.lock").read_text() == before
    index.wheels[:] = [wheel for wheel in index.wheels if wheel.filename != "core-1.0-py3-none-any.whl"]
    with pytest.raises(LockError, match=r"the index no longer has the wheel of core 1\.0"):
        locked(directory, index)
    locked(directory, index, Upgrade(packages=frozenset({"core"})))


def test_no_pins_are_no_preference() -> None:
    assert preferences([]) == ""


def test_requirements_have_their_lines(directory: Path) -> None:
    assert [(str(item), where) for item, where in stated_requirements(directory, "server")] == [
        ("core", "server.in, line 2")
    ]
