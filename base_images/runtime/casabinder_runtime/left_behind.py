"""Finds what sessions have left behind that were killed: their directories, and the names of their batch jobs.

A session whose process is killed (``docker kill``, a machine that stops) can neither remove its jobs nor its keys. Its
workers end by themselves, since their scheduler is gone; those that wait in a queue would still start, look for it for
a minute and end. The next session of the same notebook server cleans up. It can't take the workers over: stock
``distributed`` closes a worker whose scheduler is lost, a scheduler keeps its tasks in memory alone, and the new
session's certificates are signed by another authority, whose key is as gone as the old one's.

    <secrets>/session-x7a1/lock     locked for as long as the session's process lives, whatever its number is then
    <secrets>/session-x7a1/jobs     the names under which the session's jobs are in the queue, one a line

Nothing beyond the standard library is imported here.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from typing import TYPE_CHECKING

from casabinder_runtime.session_directory import PREFIX, RECORD, STARTUP_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

LOCK = "lock"
JOBS = "jobs"


def hold(directory: Path) -> None:
    """Mark a session's directory as that of this process, until it ends, however it ends."""
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remember_jobs(directory: Path, name: str) -> None:
    """Write down, before the first is submitted, under which name this session's jobs are in the queue."""
    with (directory / JOBS).open("a", encoding="ascii") as file:
        file.write(f"{name}\n")


def job_names(directory: Path) -> list[str]:
    """Return the names under which a session has submitted jobs."""
    try:
        return (directory / JOBS).read_text(encoding="ascii").split()
    except FileNotFoundError:
        return []


def left_behind(directory: Path, now: float | None = None) -> list[Path]:
    """Return the directories of sessions that have died, next to that of this one."""
    others = [path for path in sorted(directory.parent.glob(f"{PREFIX}*")) if path != directory and path.is_dir()]
    return [path for path in others if _is_dead(path, time.time() if now is None else now)]


def forget(directory: Path, *, now: float | None = None) -> None:
    """Remove the keys of dead sessions and word of their schedulers; all of those that have no jobs."""
    for dead in left_behind(directory, now):
        for path in [dead / RECORD, *dead.glob("*.key"), *dead.glob("*.pem")]:
            path.unlink(missing_ok=True)
        if not job_names(dead):
            shutil.rmtree(dead, ignore_errors=True)


def _is_dead(directory: Path, now: float) -> bool:
    try:
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:  # its process is about to start, or never did
        return now - directory.stat().st_mtime > STARTUP_SECONDS
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
