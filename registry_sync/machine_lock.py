"""A lock by name for all threads and processes of one user on one machine.

For what a registry can't do in one step. It is a lock on a file in a directory of the user's own below the system's
temporary directory; where that can't be had, nothing is locked.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def machine_lock(name: str) -> Iterator[None]:
    """Hold the lock of ``name``, which may be any text."""
    try:
        descriptor = os.open(_place(name), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _place(name: str) -> Path:
    directory = Path(tempfile.gettempdir()) / f"casabinder-locks-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise OSError(f"{directory} is somebody else's")
    return directory / hashlib.sha256(name.encode()).hexdigest()[:2]  # 256 files at most; a collision only waits
