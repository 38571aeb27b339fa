"""Answers that are good for a while, each question asked once however many want to know; a bounded number of them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

_MOST = 2000

_Answer = TypeVar("_Answer")


class Recent(Generic[_Answer]):
    """Answers by question, for ``seconds`` after they came. Failures are not kept. For one event loop."""

    def __init__(self, seconds: float, most: int = _MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._most = most
        self._clock = clock
        self._kept: dict[Hashable, tuple[_Answer, float]] = {}
        self._asked: dict[Hashable, asyncio.Task[_Answer]] = {}

    def known(self, question: Hashable) -> _Answer | None:
        """Return the answer if there is one that is still good."""
        kept = self._kept.get(question)
        return kept[0] if kept and kept[1] > self._clock() else None

    def last(self, question: Hashable) -> _Answer | None:
        """Return the answer that came last, good or not; only the newest of all are kept."""
        kept = self._kept.get(question)
        return kept[0] if kept else None

    async def get(self, question: Hashable, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Return the answer that is known, the one under way, or what ``ask`` returns."""
        known = self.known(question)
        if known is not None:
            return known
        task = self._asked.get(question)
        if task is None:
            task = asyncio.ensure_future(self._ask(question, ask))
            self._asked[question] = task
            task.add_done_callback(lambda _: self._asked.pop(question, None))
        return await asyncio.shield(task)

    async def _ask(self, question: Hashable, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
        answer = await ask()
        self._kept.pop(question, None)
        while len(self._kept) >= self._most:
            del self._kept[next(iter(self._kept))]  # the oldest
        self._kept[question] = (answer, self._clock() + self._seconds)
        return answer
