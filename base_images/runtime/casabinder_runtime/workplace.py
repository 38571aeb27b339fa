"""Puts the repository on the import path of scheduler and workers.

They run in the image that carries the repository, so a module beside the notebook is imported there like any other;
nothing has to be shipped. A worker has it first on its path, as a notebook has, but only once Dask is imported: a file
that is called like a module of the standard library must not keep a worker from starting. The scheduler unpickles task
graphs, which refer to those modules too, and has it last; workers inherit that path when they are born.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from distributed import Worker


def add_repository(repository: Path) -> None:
    """Let this process, a scheduler's, import the modules of the repository."""
    sys.path.append(str(repository))


def dask_setup(_worker: Worker) -> None:
    """Called by Dask, to which this module is a preload, before the worker registers."""
    repository = os.environ.get("REPO_DIR")
    if repository:
        sys.path[:] = [repository, *(path for path in sys.path if path != repository)]
