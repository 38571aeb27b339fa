"""Keeps what a build says while it runs, as the text that is attached to its image.

It is a reporter that hands every event on. Addresses lose user names and passwords, lines lose control characters and
what is over-long, and of a very long log the beginning and the end are kept.
"""

from __future__ import annotations

import re
from collections import deque
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.events import Event, Reporter

LOG_TYPE = "text/plain"
HEAD_CHARACTERS = 32 * 1024
TAIL_CHARACTERS = 96 * 1024

_LONGEST_LINE = 2000
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_USER_INFO = re.compile(r"(?<=://)[^/\s'\"]*@")


class BuildLog:
    """A reporter that remembers. ``hidden`` maps texts that are not for everybody to what stands for them."""

    def __init__(self, report: Reporter, hidden: Mapping[str, str] | None = None) -> None:
        self._report = report
        self._hidden = dict(hidden or {})
        self._lock = Lock()
        self._head: list[str] = []
        self._tail: deque[str] = deque()
        self._room = HEAD_CHARACTERS
        self._kept = 0
        self._dropped = 0

    def __call__(self, event: Event) -> None:
        """Note an event and hand it on."""
        if event.kind == "end":
            self._note(f"[{event.phase}] done in {event.seconds:.1f} s{event.message and ': '}{event.message}")
        elif event.kind != "progress" and event.message:
            for line in event.message.splitlines():
                self._note(f"[{event.phase}] {line}")
        self._report(event)

    @property
    def text(self) -> str:
        """The log so far, with a line that says how much was left out."""
        with self._lock:
            gap = [f"... {self._dropped} lines left out ...\n"] if self._dropped else []
            return "".join([*self._head, *gap, *self._tail])

    def _note(self, line: str) -> None:
        line = scrub(line, self._hidden) + "\n"
        with self._lock:
            if len(line) <= self._room:
                self._head.append(line)
                self._room -= len(line)
                return
            self._room = 0
            self._tail.append(line)
            self._kept += len(line)
            while self._kept > TAIL_CHARACTERS:
                self._kept -= len(self._tail.popleft())
                self._dropped += 1


def scrub(line: str, hidden: Mapping[str, str]) -> str:
    """Return a line as anybody may read it."""
    for text, instead in hidden.items():
        line = line.replace(text, instead)
    line = _USER_INFO.sub("", _CONTROL.sub(" ", _ESCAPES.sub("", line)))
    return line if len(line) <= _LONGEST_LINE else line[:_LONGEST_LINE] + " ..."
