"""Archives in the cache: fetched once, and bounded together."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from builder.repository.fetching import Fetching
from builder.sources.download import Downloader
from tests.testbed.packages import built_wheel, running_index

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.testbed.packages import BuiltWheel, Index

FILES = tuple(built_wheel(name, "1") for name in ("a", "b", "c"))


@pytest.fixture
def index() -> Iterator[Index]:
    with running_index(list(FILES)) as running:
        yield running


def test_archives_that_were_not_used_for_longest_make_room(index: Index, tmp_path: Path) -> None:
    limit = sum(len(file.content) for file in FILES[:2])
    downloader = Downloader(tmp_path / "sources", Fetching(private_addresses=True, cache_bytes=limit))

    def archive(file: BuiltWheel) -> Path:
        stated = hashlib.sha256(file.content).hexdigest()
        return downloader.archive(index.address_of(file), file.filename, (stated,))[0]

    first, second = (archive(file) for file in FILES[:2])
    for path, used in ((first, 1e9), (second, 1e9 + 1)):
        os.utime(path, (used, used))
    asked = len(index.asked)
    assert archive(FILES[0]) == first
    assert len(index.asked) == asked
    third = archive(FILES[2])
    assert [path.exists() for path in (first, second, third)] == [True, False, True]
    assert sorted(path.parent.name for path in (first, third)) == sorted(
        path.name for path in downloader.cache.iterdir()
    )
