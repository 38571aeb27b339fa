"""Processes that a command starts and ends with itself, and how to tell whether a process noted earlier still lives.

A child dies with its parent (``setpriv --pdeathsig``): when ``casabinder serve`` is killed, the hub gets the signal
that ends it in good order, and so do the proxy and the launch service when the hub is killed. What is noted in a pid
file is ``PID START BOOT``, as scripts/lib.sh has it: a pid that the system gave to another process never gets killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from registry_sync.errors import CasabinderError
from registry_sync.files import disk_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DIES_WITH_PARENT = ("setpriv", "--pdeathsig", "TERM")
_PAUSE = 0.05
_TAIL = 16_384


@dataclass(frozen=True)
class Child:
    """A child process with its log; in a session of its own, so that Ctrl-C in a terminal reaches its parent alone."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Child:
        """Start a command; the log of the run before is kept as ``NAME.log.1``."""
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            if log.exists():
                log.replace(log.with_name(f"{log.name}.1"))
            with log.open("ab") as sink:  # appended to, so that it can be emptied meanwhile (logrotate's copytruncate)
                process = subprocess.Popen(
                    [*DIES_WITH_PARENT, *command],
                    cwd="/",
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    start_new_session=True,
                )
        except FileNotFoundError as error:
            raise CasabinderError(f"{error.filename} is missing: run scripts/bootstrap") from error
        except OSError as error:
            raise disk_error(error, log.parent) from error
        return cls(name, log, process)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def end(self, seconds: float) -> bool:
        """Ask it to end; kill it (with what is left of its session) after ``seconds``. Say whether it ended alone."""
        self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            return False
        return True

    def said(self) -> list[str]:
        """Return the last lines of its log that are not empty."""
        try:
            with self.log.open("rb") as source:
                source.seek(max(0, self.log.stat().st_size - _TAIL))
                text = source.read().decode(errors="replace")
        except OSError:
            return []
        return [line.strip() for line in text.splitlines() if line.strip()]


def birth(pid: int) -> str:
    """Return when a living process began (``START BOOT``: clock ticks since boot, id of the boot), else nothing."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else f"{fields[19]} {boot}"


def note(file: Path, pid: int) -> None:
    """Write a pid file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{pid} {birth(pid)}\n", encoding="ascii")


def noted(file: Path) -> int:
    """Return the pid of a pid file if that very process lives, else 0."""
    try:
        pid, _, born = file.read_text(encoding="ascii").strip().partition(" ")
        return int(pid) if born and birth(int(pid)) == born else 0
    except (OSError, ValueError):
        return 0


def wait_until_gone(file: Path, seconds: float) -> None:
    """Wait for the process of a pid file to end, and kill it when the time is over; the file is removed."""
    deadline = time.monotonic() + seconds
    while pid := noted(file):
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE)
    file.unlink(missing_ok=True)
