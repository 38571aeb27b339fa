"""A session whose workers do not end as they should ends all the same, and says what it waited for."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from casabinder_runtime.session_directory import read_status

from tests.testbed.identity import write_identity
from tests.testbed.notebook_server import RUNTIME

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

HANGS = "await asyncio.Event().wait()"
RAISES = "raise TimeoutError('not joined')"
BLOCKS = "time.sleep(3600)"  # in C, where no timeout of asyncio's can help
SESSION = """
import asyncio, sys, time
from casabinder_runtime import cluster_end, session
from casabinder_runtime.pools.local import LocalPool
from distributed import Nanny

class Stubborn(Nanny):
    async def close(self, *_, **__):
        {close}

class StubbornPool(LocalPool):
    def make_cluster(self, context):
        cluster = super().make_cluster(context)
        cluster.new_spec["cls"] = Stubborn
        return cluster

cluster_end.CLOSE_SECONDS = {close_seconds}
session.GIVE_UP_SECONDS = {give_up}
session.make_pool = lambda config: StubbornPool(workers=1)
sys.exit(session.main())
"""


def end_of_session(tmp_path: Path, close: str, *, close_seconds: float = 60, give_up: float = 60) -> str:
    """Run a session with a worker that closes in a certain way, stop it, and return its log; its status must be 1."""
    directory = tmp_path / "session"
    directory.mkdir(mode=0o700)
    port = 30_000 + random.randrange(1000) * 2
    options = ["--directory", str(directory), "--identity", str(write_identity(tmp_path / "env.json"))]
    options += ["--repository", str(tmp_path), "--port", str(port), "--dashboard-port", str(port + 1)]
    log = tmp_path / "log"
    how = {"close": close, "close_seconds": close_seconds, "give_up": give_up}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", SESSION.format(**how), *options],
            env={**os.environ, "PYTHONPATH": str(RUNTIME)},
            stderr=stream,
        )
    try:
        deadline = time.monotonic() + 60
        while read_status(directory).workers == 0:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()  # noqa: PT018
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        status = process.wait(60)
    finally:
        process.kill()
        process.wait()
    assert status == 1, log.read_text()
    return log.read_text()


def test_a_worker_that_hangs_is_left_behind(tmp_path: Path) -> None:
    log = end_of_session(tmp_path, HANGS, close_seconds=2)
    assert "is not closed after 2 s" in log
    assert "Stubborn.close" in log
    assert not [*tmp_path.rglob("*.key"), *tmp_path.rglob("*.pem")]


def test_a_worker_that_fails_to_close_is_left_behind(tmp_path: Path) -> None:
    log = end_of_session(tmp_path, RAISES)
    assert "TimeoutError: not joined" in log
    assert not [*tmp_path.rglob("*.key"), *tmp_path.rglob("*.pem")]


def test_a_session_that_cannot_do_anything_any_more_tells_where_it_was(tmp_path: Path) -> None:
    log = end_of_session(tmp_path, BLOCKS, give_up=5)
    assert "most recent call first" in log
    assert "in close" in log
