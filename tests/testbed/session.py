"""A real Dask session of the runtime, without a notebook server."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from casabinder_runtime.session_directory import LOG, wait_for_record

from tests.testbed.notebook_server import RUNTIME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from casabinder_runtime.session_directory import SessionRecord


@contextmanager
def running_session(
    directory: Path,
    *,
    identity: Path,
    repository: Path,
    workers: int,
    environment: Mapping[str, str] | None = None,
    options: Mapping[str, object] | None = None,
) -> Iterator[SessionRecord]:
    """Start a session with local workers in ``directory`` and yield how to reach it.

    ``environment`` is of the session's process, ``options`` are more of ``CASABINDER_POOL``.
    """
    directory.mkdir(mode=0o700)
    command = [sys.executable, "-P", "-m", "casabinder_runtime.session", "--stop-with-stdin"]
    command += ["--directory", str(directory), "--identity", str(identity), "--repository", str(repository)]
    # Other tests start sessions at the same time, and so do other people on this machine.
    port = 30_000 + random.randrange(1000) * 2
    command += ["--port", str(port), "--dashboard-port", str(port + 1)]
    pool = json.dumps({"kind": "local", "workers": workers, "memory": "1.5GB", **(options or {})})
    with (directory / LOG).open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=repository,
            env={**os.environ, "PYTHONPATH": str(RUNTIME), "CASABINDER_POOL": pool, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    assert process.stdin is not None
    try:
        yield wait_for_record(directory)
    finally:
        process.stdin.close()
        assert process.wait(30) == 0, (directory / LOG).read_text()
