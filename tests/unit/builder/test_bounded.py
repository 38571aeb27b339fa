"""Bounded directories: what was not used for longest goes first, and what is in use stays."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from builder.bounded import Entry, bound, bound_files, files_below, is_due, note_done, used_now

if TYPE_CHECKING:
    from pathlib import Path

DAY = 24 * 3600.0


def file(directory: Path, name: str, days: float, size: int = 100) -> Path:
    path = directory / name / "file"
    path.parent.mkdir()
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - days * DAY,) * 2)
    return path


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    old, older, new = file(tmp_path, "a", 2), file(tmp_path, "b", 3), file(tmp_path, "c", 1)
    assert bound_files(tmp_path.glob("*/*"), 200) == 100
    assert not older.parent.exists()
    assert used_now(old)
    assert bound_files(tmp_path.glob("*/*"), 100) == 100
    assert (old.exists(), new.exists(), used_now(new)) == (True, False, False)


def test_what_a_build_may_read_stays(tmp_path: Path) -> None:
    path = file(tmp_path, "a", 0)
    assert bound_files([path], 0) == 0
    assert bound_files([path], 0, grace=-1) == 100


def test_a_small_file_takes_a_block(tmp_path: Path) -> None:
    paths = [file(tmp_path, name, days, size=0) for name, days in (("a", 2), ("b", 1))]
    assert bound_files(paths, 4096, least=4096) == 4096
    assert [path.exists() for path in paths] == [False, True]


def test_what_could_not_be_removed_counts(tmp_path: Path) -> None:
    entries = [Entry(float(number), 10, tmp_path / str(number)) for number in range(3)]
    removed: list[str] = []

    def remove(path: Path) -> bool:
        if path.name != "0":
            removed.append(path.name)
        return path.name != "0"

    assert bound(entries, 15, remove) == 20
    assert removed == ["1", "2"]


def test_it_is_looked_at_from_time_to_time_and_when_the_limit_is_another_one(tmp_path: Path) -> None:
    stamp = tmp_path / "cache" / "stamp"
    assert is_due(stamp, 50)
    note_done(stamp, 50)
    assert [is_due(stamp, 50), is_due(stamp, 100)] == [False, True]
    for days in (1, -1):  # the second is what a clock that was wrong has left
        os.utime(stamp, (time.time() - days * DAY,) * 2)
        assert is_due(stamp, 50)
    stamp.write_text("damaged")
    assert is_due(stamp, 50)


def test_a_note_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    note_done(tmp_path / "file" / "stamp", 50)
    assert is_due(tmp_path / "file" / "stamp", 50)


def test_directories_may_come_and_go_while_files_are_looked_for(tmp_path: Path) -> None:
    for name in "abc":
        file(tmp_path, name, 1)
    found = files_below(tmp_path)
    first = next(found)
    for name in {"a", "b", "c"} - {first.parent.name}:
        (tmp_path / name / "file").unlink()
        (tmp_path / name).rmdir()
    assert [first, *found] == [first]
    assert list(files_below(tmp_path / "nowhere")) == []
