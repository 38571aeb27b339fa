from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING

from casabinder_runtime.left_behind import JOBS, LOCK, forget, hold, job_names, left_behind, remember_jobs

if TYPE_CHECKING:
    from pathlib import Path


def make(secrets: Path, name: str, *files: str) -> Path:
    directory = secrets / f"session-{name}"
    directory.mkdir(mode=0o700)
    for file in files:
        (directory / file).write_text("")
    return directory


def test_a_session_whose_process_lives_is_not_left_behind(tmp_path: Path) -> None:
    own, dead = make(tmp_path, "own"), make(tmp_path, "dead", LOCK)
    alive = make(tmp_path, "alive", LOCK)
    holder = os.open(alive / LOCK, os.O_RDWR)  # another opening of the file locks like another process
    fcntl.flock(holder, fcntl.LOCK_EX)
    try:
        assert left_behind(own) == [dead]
    finally:
        os.close(holder)
    assert left_behind(own) == [alive, dead]


def test_a_session_that_has_just_been_made_is_about_to_start(tmp_path: Path) -> None:
    own, new = make(tmp_path, "own"), make(tmp_path, "new")
    assert left_behind(own) == []
    assert left_behind(own, time.time() + 100) == [new]


def test_a_session_holds_its_own(tmp_path: Path) -> None:
    one, other = make(tmp_path, "one"), make(tmp_path, "other")
    hold(one)
    assert left_behind(other, time.time() + 100) == []


def test_the_names_of_its_jobs_are_kept_until_they_are_removed(tmp_path: Path) -> None:
    own = make(tmp_path, "own")
    gone = make(tmp_path, "gone", LOCK, "cluster.json", "ca.pem")
    with_jobs = make(tmp_path, "with-jobs", LOCK, "cluster.json", "ca.pem", "worker.key", "session.log")
    for name in ("a1", "b2"):
        remember_jobs(with_jobs, name)
    forget(own)
    assert not gone.exists()
    assert sorted(path.name for path in with_jobs.iterdir()) == sorted([JOBS, LOCK, "session.log"])
    assert job_names(with_jobs) == ["a1", "b2"]
    assert job_names(own) == []
