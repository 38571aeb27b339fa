"""Tries again what failed for a reason that can pass, with growing pauses, or after what the registry asked for."""

from __future__ import annotations

import itertools
import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from registry_sync.faults import RegistryFaultError

if TYPE_CHECKING:
    from collections.abc import Callable

ATTEMPTS = 6
BACKOFF_SECONDS = 0.5
BACKOFF_SECONDS_MAX = 15.0
RETRY_AFTER_SECONDS_MAX = 120.0

_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)
_random = random.SystemRandom()


@dataclass(frozen=True)
class Retries:
    """Tries again, and sleeps in between."""

    sleep: Callable[[float], None]

    def run(self, once: Callable[[], _Result], attempts: Callable[[], int]) -> _Result:
        """Return what ``once`` returns; after as many tries as ``attempts`` says by then, raise its fault."""
        for attempt in itertools.count(1):
            try:
                return once()
            except RegistryFaultError as fault:
                if not fault.transient:
                    raise
                if attempt >= attempts():
                    fault.args = (f"{fault} (tried {attempt} times)",)
                    raise
                _log.info("%s; try %d of %d failed", fault, attempt, attempts())
                self.pause(attempt, fault.retry_after)
        raise AssertionError("counting has no end")

    def pause(self, attempt: int, retry_after: float | None = None) -> None:
        """Sleep before try ``attempt + 1`` (``attempt`` counts from 1)."""
        if retry_after is not None:
            self.sleep(min(retry_after, RETRY_AFTER_SECONDS_MAX))
        else:
            limit = min(BACKOFF_SECONDS * 2 ** (attempt - 1), BACKOFF_SECONDS_MAX)
            self.sleep(limit * _random.uniform(0.5, 1.0))
