"""Shows a build's events: bars on a terminal, plain lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import json
import shutil
import sys
from threading import Lock
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from builder.events import Event, Reporter

_BAR = 24
_NAME = 9


def choose_reporter(*, json_logs: bool, quiet: bool, stream: TextIO | None = None) -> Reporter:
    """Return the reporter that fits: JSON lines if asked for, bars if ``stream`` (stderr) is a terminal."""
    stream = stream or sys.stderr
    if json_logs:
        return JsonLines(stream)
    if quiet:
        return lambda _: None
    return Bars(stream) if stream.isatty() else PlainLines(stream)


class JsonLines:
    """One JSON object a line, as the events are."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._stream.write(json.dumps(event.to_json()) + "\n")
            self._stream.flush()


class PlainLines:
    """A line when a phase ends, and for every message; nothing moves."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = Lock()

    def __call__(self, event: Event) -> None:
        line = _line(event)
        if line:
            with self._lock:
                self._stream.write(line + "\n")
                self._stream.flush()


class Bars:
    """The same lines, with a bar or a count of the running phase below them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            line = _line(event)
            if line:
                self._stream.write(f"\r\x1b[K{line}\n")
            else:
                width = shutil.get_terminal_size().columns - 1
                self._stream.write(f"\r\x1b[K{_moving(event)[:width]}")
            self._stream.flush()


def _line(event: Event) -> str:
    if event.kind == "end":
        return f"{event.phase:<{_NAME}} {event.message or 'done':<58} {event.seconds:6.1f} s"
    if event.kind == "message":
        return f"{'':<{_NAME}} {event.message}"
    return ""


def _moving(event: Event) -> str:
    if event.kind == "start":
        return f"{event.phase:<{_NAME}} {event.message} ..."
    done = event.done / 1e6
    if not event.total:
        return f"{event.phase:<{_NAME}} {done:.1f} MB"
    filled = min(_BAR, _BAR * event.done // event.total)
    return f"{event.phase:<{_NAME}} [{'#' * filled}{'.' * (_BAR - filled)}] {done:.1f} of {event.total / 1e6:.1f} MB"
