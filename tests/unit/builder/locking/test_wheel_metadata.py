"""What wheels require, read from the end of the file at the index."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from builder.locking.wheel_metadata import MetadataShelf
from builder.wheelhouse import Wheelhouse
from tests.testbed.packages import Index, built_wheel, running_index

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BIG = built_wheel(
    "big", "1.0", {"big/data": b"\1" * 300_000}, requires=["a>=1", "b; extra == 'x'"], requires_python="<4"
)
SMALL = built_wheel("small", requires=["c"])


@pytest.fixture
def index() -> Iterator[Index]:
    with running_index([BIG, SMALL]) as running:
        yield running


@pytest.fixture
def shelf(tmp_path: Path) -> MetadataShelf:
    return MetadataShelf(tmp_path / "metadata", Wheelhouse(tmp_path / "wheels"))


def test_the_end_of_the_file_is_enough_and_is_read_once(index: Index, shelf: MetadataShelf) -> None:
    packages = [index.locked(BIG), index.locked(SMALL)]
    found = shelf.describe(packages)
    assert found["big"].requires == ("a>=1", "b; extra == 'x'")
    assert (found["big"].requires_python, found["small"].requires) == ("<4", ("c",))
    assert found["big"].locked == packages[0]
    assert len(index.asked) <= 4
    index.asked.clear()
    assert shelf.describe(packages) == found
    assert index.asked == []


def test_an_index_without_ranges_is_asked_once_and_the_wheel_on_disk_says_it(
    index: Index, shelf: MetadataShelf
) -> None:
    index.ranges = False
    package = index.locked(SMALL)
    for _ in range(2):
        assert shelf.describe([package])["small"].requires == ()
    assert len(index.asked) == 1
    shelf.wheelhouse.fetch([package])
    assert shelf.describe([package])["small"].requires == ("c",)


def test_a_fault_of_the_moment_is_not_remembered(index: Index, shelf: MetadataShelf) -> None:
    index.faults[f"/files/{SMALL.filename}"] = 503
    assert shelf.describe([index.locked(SMALL)])["small"].requires == ()
    index.faults.clear()
    assert shelf.describe([index.locked(SMALL)])["small"].requires == ("c",)


def test_what_was_not_used_for_longest_makes_room(index: Index, shelf: MetadataShelf) -> None:
    long_ago = (1e9, 1e9)
    shelf.describe([index.locked(BIG)])
    (old,) = shelf.directory.glob("*/*")
    os.utime(old, long_ago)
    shelf.describe([index.locked(BIG)])
    small = replace(shelf, limit_bytes=4096)
    small.describe([index.locked(SMALL)])
    assert len(list(shelf.directory.glob("*/*"))) == 2, "both were used just now"
    os.utime(old, long_ago)
    small.describe([index.locked(built_wheel("other", "1"))])
    assert not old.exists()
