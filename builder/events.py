"""What a build tells while it runs: phases, progress in bytes, and sentences for people.

A reporter is any callable that takes an :class:`Event`. The command line draws bars from them, `--json-logs` prints
them as they are, and a service stores them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal

Phase = Literal["resolve", "fetch", "lock", "download", "layers", "push"]


@dataclass(frozen=True)
class Event:
    """One thing that happened. ``done`` and ``total`` are bytes (``total`` 0: not known); ``seconds`` end a phase."""

    kind: Literal["start", "progress", "end", "message"]
    phase: Phase
    message: str = ""
    done: int = 0
    total: int = 0
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the event as a JSON object without empty fields."""
        fields = {"kind": self.kind, "phase": self.phase, "message": self.message, "done": self.done}
        fields |= {"total": self.total, "seconds": round(self.seconds, 3)}
        return {name: value for name, value in fields.items() if value}


Reporter = Callable[[Event], None]


def silent(_: Event) -> None:
    """A reporter for those who do not want to know."""


class Phases:
    """Times the phases of one build and reports them; ``seconds`` is the result, by phase."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: Phase, message: str) -> Iterator[Progress]:
        """Run a phase: report its start and its end, and hand out what counts its bytes."""
        self._report(Event("start", name, message))
        began = time.monotonic()
        progress = Progress(self._report, name)
        yield progress
        took = time.monotonic() - began
        self.seconds[name] = self.seconds.get(name, 0.0) + took
        self._report(Event("end", name, progress.summary, done=progress.done, seconds=took))


class Progress:
    """Counts bytes of one phase from any thread and reports them ten times a second at most."""

    def __init__(self, report: Reporter, phase: Phase) -> None:
        self._report = report
        self._phase: Phase = phase
        self._lock = Lock()
        self._last = 0.0
        self.done = 0
        self.total = 0
        self.summary = ""

    def add(self, count: int) -> None:
        """Count ``count`` more bytes."""
        with self._lock:
            self.done += count
            now = time.monotonic()
            if now - self._last < 0.1:
                return
            self._last = now
            event = Event("progress", self._phase, done=self.done, total=self.total)
        self._report(event)

    def say(self, message: str) -> None:
        """Report a sentence."""
        self._report(Event("message", self._phase, message))
