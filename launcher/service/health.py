"""How the service and what it depends on are: one answer for a load balancer, one line per dependency for people.

The shape is BinderHub's: ``{"ok", "checks": [{"service", "ok", ...}]}``; a check with ``_ignore_failure`` is told and
decides nothing. Vital are the registry, the hub and the database: without one of them nothing can be launched. The
proxy is not: whoever reaches the service past it should not take the service for broken.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Check = Callable[[], Awaitable[Mapping[str, Any]]]

KEPT = 15.0
"""Seconds for which an answer is given again."""
PATIENCE = 5.0
"""Seconds after which a dependency that does not answer is down."""

_log = logging.getLogger(__name__)


class Health:
    """Asks the dependencies, each at most once in :data:`KEPT` seconds, all at the same time.

    One that did not answer in time is not asked again but waited for again: a question may take up a thread, and nobody
    can take that back, so whoever asks for the health often must not pile questions up.

    ``checks`` are by name; one returns what is told besides ``ok`` and raises if its dependency is down. Names in
    ``optional`` do not decide whether the service is well.
    """

    def __init__(
        self,
        checks: Mapping[str, Check],
        optional: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._checks = checks
        self._optional = optional
        self._clock = clock
        self._lock = asyncio.Lock()
        self._answer: dict[str, Any] = {}
        self._asked = 0.0
        self._under_way: dict[str, asyncio.Future[Mapping[str, Any]]] = {}

    async def report(self) -> dict[str, Any]:
        """Return ``{"ok": bool, "checks": [...]}``."""
        async with self._lock:
            if not self._answer or self._clock() - self._asked >= KEPT:
                checks = await asyncio.gather(*(self._ask(name) for name in self._checks))
                well = all(check["ok"] or check.get("_ignore_failure") for check in checks)
                self._answer, self._asked = {"ok": well, "checks": list(checks)}, self._clock()
            return self._answer

    async def _ask(self, name: str) -> dict[str, Any]:
        told: dict[str, Any] = {"service": name, "ok": True}
        if name in self._optional:
            told["_ignore_failure"] = True
        if name not in self._under_way:
            self._under_way[name] = asyncio.ensure_future(self._checks[name]())
        question = self._under_way[name]
        answered, _ = await asyncio.wait([question], timeout=PATIENCE)
        if not answered:
            return told | {"ok": False, "message": f"no answer within {PATIENCE:g} s"}
        del self._under_way[name]
        try:
            told |= question.result()
        except CasabinderError as error:
            told |= {"ok": False, "message": str(error)}
        except Exception:  # noqa: BLE001  # a driver's words may hold addresses and names: they are for the log
            _log.exception("%s can't be asked how it is", name)
            told |= {"ok": False, "message": "down; the log says why"}
        return told
