from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from casabinder_runtime import worker_logs
from casabinder_runtime.worker_logs import add_log, keep_within_limits, last_words, logs_directory, read_logs, take_in

if TYPE_CHECKING:
    from pathlib import Path

TRACEBACK = """\
2026-01-02 10:00:00,123 INFO distributed.worker: Starting
Traceback (most recent call last):
  File "/srv/repo/needs.py", line 1, in <module>
    import foo
ModuleNotFoundError: No module named 'foo'
2026-01-02 10:00:01,123 INFO distributed.worker: Stopping
"""


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return logs_directory(tmp_path)


def test_nobody_else_reads_logs(logs: Path) -> None:
    assert logs.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (TRACEBACK, "ModuleNotFoundError: No module named 'foo'"),
        ("casabinder: this worker could not read a task\nbye\n", "this worker could not read a task"),
        ("one\n\ntwo\n\n", "two"),
        ("2026-01-02 10:00:00,123 INFO distributed.core: Starting established connection\n", ""),
        ("2026-01-02 10:00:00,123 - distributed.core - INFO - Starting established connection\n", ""),
        ("", ""),
        ("ValueError: " + "x" * 1000, "ValueError: " + "x" * 288),
    ],
)
def test_the_line_that_says_why(logs: Path, said: str, words: str) -> None:
    (logs / "w-0.err").write_text(said)
    assert last_words(logs, "w-0") == words


def test_a_worker_that_left_nothing_says_nothing(logs: Path, tmp_path: Path) -> None:
    assert last_words(logs, "w-0") == ""
    assert read_logs(tmp_path / "elsewhere") == {}


def test_what_was_written_is_found_by_the_workers_name(logs: Path, tmp_path: Path) -> None:
    (logs / "w-10.err").write_text("first\n")
    (logs / "w-10.out").write_text("second\n")
    (logs / "w-2.out").write_bytes(b"\xff\n")
    for number, name in enumerate(["w-10.err", "w-10.out", "w-2.out"]):
        os.utime(logs / name, (number, number))
    assert list(read_logs(tmp_path).items()) == [("w-10", "first\nsecond\n"), ("w-2", "\ufffd\n")]


def test_what_arrives_is_known_once_it_is_complete(logs: Path, tmp_path: Path) -> None:
    (logs / "arriving" / "w-0.out").write_text("all\n")
    assert read_logs(tmp_path) == {}
    take_in(logs, "w-0")
    assert read_logs(tmp_path) == {"w-0": "all\n"}


def test_what_a_worker_handed_over_when_it_had_to_go_comes_first(logs: Path, tmp_path: Path) -> None:
    add_log(logs, "w-0", "first run")
    (logs / "arriving" / "w-0.err").write_text("second run\n")
    take_in(logs, "w-0")
    assert read_logs(tmp_path) == {"w-0": "first run\nsecond run\n"}


def test_old_and_long_logs_are_cut(logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_logs, "MOST_WORKERS", 2)
    monkeypatch.setattr(worker_logs, "MOST_BYTES", 10)
    for number in range(3):
        for name in (f"w-{number}.err", f"w-{number}.out"):
            (logs / name).write_text("line 1\nline 2\nline 3\n" if name == "w-2.err" else f"{number}")
            os.utime(logs / name, (number, number))
    keep_within_limits(logs)
    assert sorted(read_logs(tmp_path).items()) == [("w-1", "11"), ("w-2", "[...]\nline 3\n2")]
