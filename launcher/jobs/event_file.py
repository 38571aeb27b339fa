"""The log of one build as a file, one JSON object a line: the builder writes it, whoever runs the build copies it.

What is in the file is what watchers get, event by event: nothing is joined or left out on the way into the store. So
the number of a build's events in the store says how far it was copied, whoever was killed in between, and every limit
holds where the file is written.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any

from builder.attachments.build_log import scrub
from registry_sync.files import disk_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from builder.events import Event, Phase

PROGRESS_SECONDS = 0.5
UNREADABLE = "a line of the log is lost: it can't be read"
_MOST_BYTES = 2**20

TimedEvent = tuple[float, "Mapping[str, Any]"]
"""Seconds since 1970, and the event as JSON."""


class EventWriter:
    """A reporter that appends to a file, from any thread.

    A phase's progress is told twice a second at most. After ``most_lines`` lines of messages (each of 2,000 characters
    at most, without control characters and passwords in addresses) one more says that the rest is left out.
    """

    def __init__(self, file: Path, most_lines: int, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._most_lines = most_lines
        self._clock = clock
        self._lock = Lock()
        self._lines = 0
        self._cut_off = False
        self._progress: dict[Phase, float] = {}

    def __call__(self, event: Event) -> None:
        """Append an event; raise :class:`CasabinderError` when the disk is full."""
        with self._lock:
            now = self._clock()
            if event.kind == "progress":
                if now - self._progress.get(event.phase, 0.0) < PROGRESS_SECONDS:
                    return
                self._progress[event.phase] = now
            elif event.kind == "message":
                if self._lines > self._most_lines:
                    return
                self._lines += event.message.count("\n") + 1
                if self._lines > self._most_lines:
                    cut = f"the log ends here: it has more than the {self._most_lines} lines that this facility keeps"
                    event = replace(event, message=cut)
            told = replace(event, message=scrub(event.message, {})).to_json()
            self._append(json.dumps({"time": round(now, 3), **told}, separators=(",", ":")))

    def _append(self, line: str) -> None:
        """Write a line to its end; what a full disk cut off before it gets an end first, so that it spoils no other."""
        left = (("\n" if self._cut_off else "") + line + "\n").encode()
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
                self._cut_off = bool(left)
        except OSError as error:
            raise disk_error(error, self._file.parent) from error


class EventReader:
    """Reads the file while it is written, from the event after the first ``skip``."""

    def __init__(self, file: Path, skip: int) -> None:
        self._stream = file.open("rb")
        self._skip = skip
        self._rest = b""

    def read(self) -> list[TimedEvent]:
        """Return the events that have come since the last call, a megabyte at most; half a line is left for later."""
        *lines, self._rest = (self._rest + self._stream.read(_MOST_BYTES)).split(b"\n")
        wanted = lines[self._skip :]
        self._skip = max(0, self._skip - len(lines))
        return [self._timed(line) for line in wanted]

    @property
    def at_end(self) -> bool:
        """Whether nothing is left in the file now."""
        return self._stream.tell() >= os.fstat(self._stream.fileno()).st_size

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _timed(self, line: bytes) -> TimedEvent:
        """Return what a line says; one that can't be read is an event too, as how many there are is what counts."""
        try:
            document = json.loads(line)
            return float(document.pop("time")), document
        except (ValueError, TypeError, LookupError, AttributeError):
            told = {"kind": "message", "phase": "layers", "message": UNREADABLE}
            return os.fstat(self._stream.fileno()).st_mtime, told
