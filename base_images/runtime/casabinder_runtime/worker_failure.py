"""Finds out why a worker can't work, and says it in one sentence, which its batch system brings to the notebook.

Two troubles are silent in Dask, or take it long to give up on:

- Scheduler and worker don't trust each other's certificates: Dask tries again for a minute. ``check_trust`` tries once.
- A task or a result can't be unpickled, mostly for a module that is not in the image: Dask drops the connection, the
  worker ends as if it had been told to (or, at a result of another worker, waits for ever: distributed#6705), and the
  next worker has the same fate. ``UnreadableMessages`` knows the error.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from casabinder_runtime.errors import WorkerError

if TYPE_CHECKING:
    from distributed import Security

CHECK_SECONDS = 10.0


async def check_trust(scheduler: str, security: Security) -> None:
    """Connect once as Dask will. A scheduler that can't be reached is no finding: Dask tries again.

    Raises:
        WorkerError: the scheduler is there, but one of the two does not trust the other.
    """
    address = urlsplit(scheduler)
    context = security.get_connection_args("worker")["ssl_context"]
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            reader, writer = await asyncio.open_connection(address.hostname, address.port, ssl=context)
            try:
                await reader.read(1)  # a scheduler greets; one that refuses does so after the handshake (TLS 1.3)
            finally:
                writer.close()
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason or str(error)
        raise WorkerError(
            f"this worker and the scheduler {scheduler} don't trust each other's certificates ({reason}): "
            "they are not of one session"
        ) from error
    except OSError:
        return


class UnreadableMessages(logging.Handler):
    """Remembers the error with which Dask could not unpickle what it was sent; ``stuck`` is set if it will not end."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.error: BaseException | None = None
        self.stuck = asyncio.Event()

    def listen(self) -> None:
        """Hear what Dask logs: it has no other way to tell."""
        for name in ("distributed.protocol.core", "distributed.worker"):
            logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Take a message of Dask."""
        error = record.exc_info[1] if record.exc_info else None
        if record.name == "distributed.protocol.core":
            self.error = error
        elif error is not None and error is self.error:
            self.stuck.set()

    def failure(self) -> WorkerError | None:
        """Return why this worker ended, if it is that."""
        if self.error is None:
            return None
        hint = ""
        if isinstance(self.error, ImportError):
            hint = ": what tasks import must be in the repository or among its requirements"
        return WorkerError(f"a task could not be read: {type(self.error).__name__}: {self.error}{hint}")
