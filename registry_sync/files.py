"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from registry_sync.errors import CasabinderError


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that nobody ever sees half of it; parent directories are made.

    Raises :class:`CasabinderError` naming the directory when the disk is full.
    """
    partial: Path | None = None
    try:
        handle, partial = new_file(path.parent)
        with os.fdopen(handle, "wb") as sink:
            sink.write(data)
        partial.chmod(0o644)
        partial.rename(path)
    except OSError as error:
        if partial is not None:
            partial.unlink(missing_ok=True)
        raise disk_error(error, path.parent) from error


def new_file(directory: Path) -> tuple[int, Path]:
    """Open a file of a new name in ``directory``, which is made; others may remove it as long as it is empty.

    Raises :class:`OSError`.
    """
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            handle, name = tempfile.mkstemp(dir=directory, prefix=".partial-")
            return handle, Path(name)


def disk_error(error: OSError, directory: Path) -> Exception:
    """Return the sentence for a full or unwritable cache, or ``error`` itself when it is about something else."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        existing = next((parent for parent in (directory, *directory.parents) if parent.exists()), Path("/"))
        free = shutil.disk_usage(existing).free // 2**20
        return CasabinderError(
            f"the cache {directory} is full ({free} MiB free): free some space, or set CASABINDER_CACHE to another disk"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return CasabinderError(
            f"the cache {directory} can't be written: make it writable, or set CASABINDER_CACHE to another directory"
        )
    return error
