"""Keeps a directory of things that can be had again below a size: what was not used for longest goes first.

::

    entry    used     size     limit 10
    a        Monday   6        removed
    b        Tuesday  5        in use: stays
    c        Friday   4        stays, 9 are left

Use is the time of a file's last change, which whoever reads it sets (:func:`used_now`).
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from registry_sync.errors import CasabinderError
from registry_sync.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

GRACE_SECONDS = 6 * 3600.0
"""Longer than a build takes: what was used since then may be what one reads right now."""

EVERY_SECONDS = 3600.0
"""To look at fifty thousand files takes a second."""


@dataclass(frozen=True, order=True)
class Entry:
    """Something in a cache: when it was used last (seconds since the epoch), its bytes, and where it is."""

    used: float
    size: int
    path: Path


def bound(entries: Iterable[Entry], limit_bytes: int, remove: Callable[[Path], bool]) -> int:
    """Remove the least recently used entries until the rest has at most ``limit_bytes``; return the bytes freed.

    ``remove`` says whether it removed an entry; one that it left counts on.
    """
    known = sorted(entries)
    total, freed = sum(entry.size for entry in known), 0
    for entry in known:
        if total - freed <= limit_bytes:
            break
        if remove(entry.path):
            freed += entry.size
    return freed


def bound_files(paths: Iterable[Path], limit_bytes: int, grace: float = GRACE_SECONDS, least: int = 0) -> int:
    """Do so with files, of which those used within the last ``grace`` seconds stay; return the bytes freed.

    A file counts as ``least`` bytes if it is smaller. Directories that become empty are removed as well.
    """
    before = time.time() - grace

    def remove(path: Path) -> bool:
        try:
            if path.stat().st_mtime > before:  # somebody has begun to use it
                return False
            path.unlink(missing_ok=True)
        except FileNotFoundError:
            return True  # another process removes, too
        except OSError:
            return False  # it is somebody else's
        with suppress(OSError):
            path.parent.rmdir()
        return True

    entries = []
    for path in paths:
        with suppress(FileNotFoundError):
            status = path.stat()
            entries.append(Entry(status.st_mtime, max(status.st_size, least), path))
    return bound(entries, limit_bytes, remove)


def files_below(directory: Path) -> Iterator[Path]:
    """Yield the files below a directory, in which others may make and remove directories meanwhile."""
    for place, _, names in os.walk(directory):  # which passes over those that are gone, unlike Path.glob
        yield from (Path(place, name) for name in names)


def is_due(stamp: Path, limit_bytes: int, every: float = EVERY_SECONDS) -> bool:
    """Return whether a directory should be looked at now: ``every`` so many seconds, or when its limit is another one.

    ``stamp`` is a file that says when that was done last, and with what limit (:func:`note_done`).
    """
    with suppress(OSError, ValueError):
        return int(stamp.read_text()) != limit_bytes or abs(time.time() - stamp.stat().st_mtime) > every
    return True


def note_done(stamp: Path, limit_bytes: int) -> None:
    """Note that a directory was looked at; on a full disk, or one that may not be written, it is done again."""
    with suppress(OSError, CasabinderError):
        write_atomically(stamp, f"{limit_bytes}\n".encode())


def used_now(path: Path) -> bool:
    """Note that a file is used, so that it stays; return whether it is there. It need not be ours to write."""
    with suppress(OSError):
        os.utime(path)
    return path.exists()
