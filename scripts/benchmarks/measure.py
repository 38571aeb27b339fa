"""Runs a command and measures it: wall time, output, and the memory of the process with all its children."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PAGE = os.sysconf("SC_PAGE_SIZE")
_INTERVAL = 0.02


@dataclass(frozen=True)
class Run:
    """A command that ended well. Memory is bytes at the peak, summed over the process tree: ``resident`` with the
    pages of mapped files (which the kernel takes back at need), ``private`` without."""

    seconds: float
    output: str
    resident: int
    private: int


def run(command: Sequence[str], *, environment: Mapping[str, str] | None = None, directory: Path | None = None) -> Run:
    """Run ``command`` to its end; raise :class:`CasabinderError` with the end of what it said if it fails."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        began = time.monotonic()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environment, cwd=directory
        )
        watch = _Watch(process.pid)
        watch.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.monotonic() - began
        except BaseException:
            process.kill()
            raise
        finally:
            watch.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="replace")
        if process.returncode:
            errors.seek(0)
            said = (text + errors.read().decode(errors="replace"))[-3000:]
            raise CasabinderError(f"{' '.join(command)} failed:\n{said}")
        # The kernel's own maximum is exact, for the biggest process of the tree alone.
        return Run(seconds, text, max(watch.resident, usage.ru_maxrss * 1024), watch.private)


class _Watch(threading.Thread):
    """Looks at a process tree every few milliseconds and keeps the highest sums."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._ended = threading.Event()
        self.resident = 0
        self.private = 0

    def run(self) -> None:
        while not self._ended.wait(_INTERVAL):
            pages = [_pages(pid) for pid in _tree(self._pid)]
            self.resident = max(self.resident, sum(resident for resident, _ in pages) * _PAGE)
            self.private = max(self.private, sum(resident - shared for resident, shared in pages) * _PAGE)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def _tree(root: int) -> list[int]:
    found, pending = [], [root]
    while pending:
        pid = pending.pop()
        found.append(pid)
        try:
            for task in os.scandir(f"/proc/{pid}/task"):
                pending += [int(child) for child in Path(task.path, "children").read_text().split()]
        except OSError:
            continue  # it has just ended
    return found


def _pages(pid: int) -> tuple[int, int]:
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except (OSError, ValueError):
        return 0, 0
    return int(resident), int(shared)
