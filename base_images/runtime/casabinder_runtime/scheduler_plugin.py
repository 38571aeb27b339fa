"""The scheduler's side of the guard: no worker of another environment is ever registered.

``distributed`` asks plugins only after a worker is registered, when tasks may be on their way to it already. So the
plugin stands before the scheduler's ``register-worker`` handler and answers as the scheduler itself answers a name that
is taken: the worker gets an error with the reason, and ends. Nothing is retried.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import SchedulerPlugin

from casabinder_runtime.notices import TOPIC, Notice, refusal

if TYPE_CHECKING:
    from distributed import Scheduler
    from distributed.comm import Comm

logger = logging.getLogger(__name__)

STARTUP_KEY = "casabinder_env_id"  # what the worker's guard adds to the worker's startup information


class EnvironmentGuard(SchedulerPlugin):  # type: ignore[misc]  # distributed is untyped
    """Refuses workers whose ``env_id`` is not ``env_id``; tells workers the expected one; takes their reports."""

    name = "casabinder-environment-guard"

    def __init__(self, env_id: str) -> None:
        self.env_id = env_id

    async def start(self, scheduler: Scheduler) -> None:
        """Take the place of the handler that registers workers."""
        self._scheduler = scheduler
        self._register = scheduler.handlers["register-worker"]
        scheduler.handlers["register-worker"] = self.register_worker
        scheduler.handlers["casabinder_env_id"] = self.tell
        scheduler.handlers["casabinder_refused"] = self.note_refusal

    async def register_worker(self, comm: Comm, *, name: str, extra: dict[str, Any], **message: Any) -> None:
        """Register a worker of this environment, refuse any other."""
        found = extra.get(STARTUP_KEY)
        if found == self.env_id:
            await self._register(comm, name=name, extra=extra, **message)
            return
        notice = self._announce(refusal(f"{name} at {message['address']}", found, self.env_id))
        await comm.write({"status": "error", "message": notice.message, "time": time.time()})

    async def tell(self) -> str:
        """Return the environment that workers must have."""
        return self.env_id

    async def note_refusal(self, worker: str, found: str) -> str:
        """Take the report of a worker that ends since its image is another one; return what was announced."""
        return self._announce(refusal(worker, found, self.env_id)).message

    def _announce(self, notice: Notice) -> Notice:
        logger.error("%s", notice.message, extra={"env_id": self.env_id})
        self._scheduler.log_event(TOPIC, notice.event())
        return notice
