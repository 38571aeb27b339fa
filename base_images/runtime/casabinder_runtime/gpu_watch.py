"""Tells the notebook that a task failed for want of a GPU on its worker: a Dask preload for workers of a batch pool.

The kernel sees the exception, and not what the worker's node lacks. A worker says it once.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from distributed import WorkerPlugin
from distributed.core import clean_exception

from casabinder_runtime.gpu_errors import find_error, missing_gpu
from casabinder_runtime.notices import TOPIC, Notice

if TYPE_CHECKING:
    from distributed import Worker


async def dask_setup(worker: Worker) -> None:
    """Called by Dask before the worker registers."""
    await worker.plugin_add(GpuWatch(), name="casabinder-gpu-watch")


class GpuWatch(WorkerPlugin):  # type: ignore[misc]  # distributed is untyped
    """Looks at the exceptions of one worker's tasks."""

    _told = False

    def setup(self, worker: Worker) -> None:
        """Called by Dask with the worker."""
        self._worker = worker

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:  # noqa: ARG002  # Dask names them
        """Called by Dask when a task is in another state."""
        if finish != "error" or self._told:
            return
        _, error, _ = clean_exception(self._worker.state.tasks[key].exception.data)
        found = find_error(error)
        missing = missing_gpu(str(found)) if found is not None else ""
        if missing:
            self._told = True
            message = (
                f"Dask worker {self._worker.name} on {socket.gethostname()} has no GPU that CUDA can use, since "
                f"{missing}: launch with workers that ask for GPUs, or ask whoever runs this site for them"
            )
            self._worker.log_event(TOPIC, Notice("no-gpu", message).event())
