"""Tells the notebook when a worker's scratch disk is full: a Dask preload.

Dask keeps what it can't spill in memory and says so in the worker's log alone; tasks that write files fail one by one.
"""

from __future__ import annotations

import shutil
import socket
from typing import TYPE_CHECKING

from dask.utils import format_bytes
from tornado.ioloop import PeriodicCallback

from casabinder_runtime.notices import TOPIC, Notice

if TYPE_CHECKING:
    from distributed import Worker

LOOK_SECONDS = 4.0
LEAST_FREE = 2**23  # bytes


def dask_setup(worker: Worker) -> None:
    """Called by Dask before the worker registers."""
    watch = ScratchWatch(worker)
    worker.periodic_callbacks["casabinder-scratch-disk"] = PeriodicCallback(watch.look, LOOK_SECONDS * 1000)


class ScratchWatch:
    """Looks at the disk of one worker; says once that it is full, and again after it was not."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._full = False

    def look(self) -> None:
        """Compare what is free with what a worker needs."""
        disk = shutil.disk_usage(self._worker.local_directory)
        full = disk.free < LEAST_FREE
        if full and not self._full:
            message = (
                f"the scratch disk of worker {self._worker.name} on {socket.gethostname()} is full "
                f"({format_bytes(disk.free)} of {format_bytes(disk.total)} are free): "
                "its tasks can't write files, nor set results aside"
            )
            self._worker.log_event(TOPIC, Notice("disk", message).event())
        self._full = full
