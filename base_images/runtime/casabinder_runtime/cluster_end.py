"""Ends a cluster of the session within a limited time, also one whose workers do not end.

Dask's own ``SpecCluster.close()`` waits without limit for a worker that hangs, and once it was cancelled or has failed,
any further call waits for the first one without limit (``while self.status == Status.closing`` in ``_close``). So it
is called once.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed.core import Status

if TYPE_CHECKING:
    from distributed import SpecCluster

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 15.0  # a nanny takes up to nine to kill a worker
LEFT_SECONDS = 9.0  # for what has to be done all the same, such as removing jobs


async def end_cluster(cluster: SpecCluster) -> bool:
    """Close ``cluster``, and return whether it ended as it should.

    Of one that fails to, or is late, the log has the error, or where its tasks wait; its worker processes are killed,
    and its scheduler is closed.
    """
    cluster.shutdown_on_close = False  # else Dask closes it once more when the interpreter ends
    processes = {getattr(worker, "pid", None) for worker in cluster.workers.values()}
    closing = asyncio.gather(cluster.close(), return_exceptions=True)
    await asyncio.wait([closing], timeout=CLOSE_SECONDS)
    if not closing.done():
        logger.error("%s is not closed after %g s; its tasks wait at\n%s", cluster.name, CLOSE_SECONDS, _tasks())
        closing.cancel()
    elif isinstance(error := closing.result()[0], BaseException):
        logger.error("%s could not be closed", cluster.name, exc_info=error)
    else:
        return True
    for process in multiprocessing.active_children():
        if process.pid in processes:
            process.kill()
    await asyncio.wait([closing, asyncio.ensure_future(cluster.scheduler.close())], timeout=LEFT_SECONDS)
    if closing.done() and not closing.cancelled():
        closing.exception()  # else asyncio complains that nobody asked
    cluster.status = Status.closed  # so that nobody waits for it
    return False


def _tasks() -> str:
    """Return where each task waits, one a line."""
    return "\n".join(sorted(_calls(task.get_coro()) for task in asyncio.all_tasks()))


def _calls(waiting: Any) -> str:
    """Return the calls of a coroutine, from the outermost to the one that waits."""
    calls = []
    while (frame := getattr(waiting, "cr_frame", None)) is not None:
        calls.append(f"{frame.f_code.co_qualname} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})")
        waiting = waiting.cr_await
    return "  " + " > ".join(calls)
