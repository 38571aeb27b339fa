"""When a pre-build that fails is tried again: at the next turn, then after two of them, four, and so on to a week.

What is remembered is this process's: after a start everything is tried once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from launcher.jobs.model import Asked

_LONGEST = 7 * 86_400


class Retries:
    """Tries of what failed; turns are ``seconds`` apart."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._tried: dict[Asked, tuple[int, float]] = {}  # how often, and when next

    def __contains__(self, asked: Asked) -> bool:
        """Say whether it was tried before."""
        return asked in self._tried

    def due(self, asked: Asked) -> bool:
        """Say whether it may be tried now."""
        return asked not in self._tried or self._clock() >= self._tried[asked][1]

    def note(self, asked: Asked) -> None:
        """Remember that it is tried now."""
        times = self._tried.get(asked, (0, 0.0))[0]
        pause = min(self._seconds * 2**times, max(self._seconds, _LONGEST))
        self._tried[asked] = times + 1, self._clock() + pause

    def forget(self, asked: Asked) -> None:
        """Forget one: it was built, or is another commit by now."""
        self._tried.pop(asked, None)

    def clear(self) -> None:
        """Forget all: what they are built on has changed."""
        self._tried.clear()
