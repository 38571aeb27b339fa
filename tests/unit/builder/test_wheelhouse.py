"""Wheels on disk: fetched once, checked, and nothing half-written left behind."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from builder.locking.pylock import LockedPackage, LockError
from builder.wheelhouse import Wheelhouse
from registry_sync.errors import CasabinderError
from tests.testbed.packages import Index, built_wheel, running_index

ONE, TWO = built_wheel("one"), built_wheel("two")


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds the wheelhouse would have slept between attempts."""
    slept: list[float] = []
    monkeypatch.setattr("builder.wheelhouse.time.sleep", slept.append)
    return slept


@pytest.fixture
def index() -> Iterator[Index]:
    with running_index([ONE, TWO]) as running:
        yield running


@pytest.fixture
def house(tmp_path: Path) -> Wheelhouse:
    return Wheelhouse(tmp_path / "wheels")


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.rglob("*") if path.is_file())


def test_a_wheel_is_fetched_once(house: Wheelhouse, index: Index, tmp_path: Path) -> None:
    counts: list[int] = []
    packages = [index.locked(ONE), index.locked(TWO), index.locked(ONE)]
    paths = house.fetch(packages, counts.append)
    assert {sha256: path.read_bytes() for sha256, path in paths.items()} == {
        ONE.sha256: ONE.content,
        TWO.sha256: TWO.content,
    }
    assert sum(counts) == len(ONE.content) + len(TWO.content)
    assert house.fetch(packages) == paths
    assert len(index.asked) == 2
    assert files(tmp_path) == [ONE.filename, TWO.filename]
    assert oct(paths[ONE.sha256].stat().st_mode)[-3:] == "644"


def test_another_file_than_the_lock_names_is_refused(house: Wheelhouse, index: Index, tmp_path: Path) -> None:
    wrong = LockedPackage("one", "1.0", ONE.filename, "f" * 64, index.address_of(ONE))
    with pytest.raises(LockError, match=rf"{ONE.filename} has sha256 {ONE.sha256}, but the lock says f{{64}}"):
        house.fetch([wrong])
    assert files(tmp_path) == []


def test_wheels_not_used_for_long_make_room(house: Wheelhouse, index: Index, tmp_path: Path) -> None:
    packages = [index.locked(ONE), index.locked(TWO)]
    for path in house.fetch(packages).values():
        os.utime(path, (0, 0))
    assert house.has(packages[0])
    assert house.prune(len(ONE.content)) == len(TWO.content)
    assert [house.has(package) for package in packages] == [True, False]
    assert not house.path(packages[1]).parent.exists()
    assert len(house.fetch(packages)) == 2
    assert files(tmp_path) == [ONE.filename, TWO.filename]


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (403, 1), (500, 4), (503, 4), (429, 4)])
def test_only_faults_that_may_pass_are_tried_again(
    house: Wheelhouse, index: Index, tmp_path: Path, pauses: list[float], status: int, attempts: int
) -> None:
    index.faults[f"/files/{ONE.filename}"] = status
    with pytest.raises(CasabinderError, match=f"{ONE.filename} could not be fetched: the index answered {status}"):
        house.fetch([index.locked(ONE)])
    assert len(index.asked) == attempts == len(pauses) + 1
    assert files(tmp_path) == []


def test_a_server_that_is_not_there_is_named_as_such(house: Wheelhouse, pauses: list[float]) -> None:
    package = ONE.locked("http://127.0.0.1:9/one-1.0-py3-none-any.whl")
    with pytest.raises(CasabinderError, match=r"could not be fetched: .*refused"):
        house.fetch([package])
    assert len(pauses) == 3


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "ftp://host/one.whl"])
def test_only_web_addresses_are_fetched(house: Wheelhouse, url: str) -> None:
    with pytest.raises(LockError, match=r"the lock does not say where one-1.0-py3-none-any.whl can be fetched"):
        house.fetch([ONE.locked(url)])


def test_an_unusable_address_is_a_sentence(house: Wheelhouse) -> None:
    with pytest.raises(CasabinderError, match="could not be fetched"):
        house.fetch([ONE.locked("http://[bad/one.whl")])


def test_sizes_come_from_the_lock_the_disk_or_the_index(house: Wheelhouse, index: Index) -> None:
    house.fetch([index.locked(TWO)])
    index.asked.clear()
    three = built_wheel("three")
    sized = house.sized([index.locked(ONE, size=0), index.locked(TWO, size=0), three.locked(size=33)])
    assert [package.size for package in sized] == [len(ONE.content), len(TWO.content), 33]
    assert index.asked == [f"HEAD /files/{ONE.filename}"]


def test_an_index_that_does_not_say_the_size_hands_over_the_file(
    house: Wheelhouse, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(httpx.Client, "head", lambda self, *_, **__: self.get(f"{index.url}/nowhere/"))
    (package,) = house.sized([index.locked(ONE, size=0)])
    assert package.size == len(ONE.content)
    assert house.path(package).exists()
