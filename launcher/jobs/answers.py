"""Answers of others (git hosts, archives) for a few seconds, each question asked once however many want to know."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from concurrent.futures import Executor

_MOST = 256
MOST_OF_ONE = 4
"""How many questions may be out to the same host."""


class Answers:
    """Answers by question. One that failed with a :class:`CasabinderError` is kept as one that did not.

    ``pool`` is where questions are asked; answers are given for ``seconds`` after they came. Who stops waiting does not
    end the question for the others. A host that is silent takes up :data:`MOST_OF_ONE` threads of the pool at most. For
    one event loop.
    """

    def __init__(self, pool: Executor, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._seconds = seconds
        self._clock = clock
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._asked: dict[Hashable, tuple[asyncio.Future[Any], float]] = {}

    async def get(self, question: Hashable, ask: Callable[[], Any], *, of: str) -> Any:
        """Return the answer to a question: the one that is there, the one under way, or what ``ask`` returns.

        ``of`` is the host that is asked.
        """
        known = self._asked.get(question)
        if known is None or known[1] <= self._clock():
            self._forget()
            future: asyncio.Future[Any] = asyncio.ensure_future(self._ask(ask, of))
            self._asked[question] = (future, float("inf"))
            future.add_done_callback(lambda done: self._came(question, done))
        else:
            future = known[0]
        outcome = await asyncio.shield(future)
        if isinstance(outcome, CasabinderError):
            raise outcome.with_traceback(None)
        return outcome

    async def _ask(self, ask: Callable[[], Any], of: str) -> Any:
        async with self._turns.setdefault(of, asyncio.Semaphore(MOST_OF_ONE)):
            return await asyncio.get_running_loop().run_in_executor(self._pool, _outcome, ask)

    def _came(self, question: Hashable, future: asyncio.Future[Any]) -> None:
        if future.cancelled() or future.exception() is not None:
            self._asked.pop(question, None)
        else:
            self._asked[question] = (future, self._clock() + self._seconds)

    def _forget(self) -> None:
        """Drop what is too old, and the oldest when there is still too much."""
        now = self._clock()
        for question in [question for question, (_, until) in self._asked.items() if until <= now]:
            del self._asked[question]
        while len(self._asked) >= _MOST:
            del self._asked[next(iter(self._asked))]


def _outcome(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except CasabinderError as error:
        return error
