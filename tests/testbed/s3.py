"""An S3 server on a free loopback port: moto's, which takes any key and keeps its objects in memory."""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
from uv import find_uv_bin

from launcher.site_config import cache_directory
from tests.testbed.free_port import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SERVER = "moto[s3,server]==5.2.5"
_START_SECONDS = 120.0


@contextmanager
def running_s3(directory: Path) -> Iterator[str]:
    """Run a server, whose log is in ``directory``, and yield its URL; uv keeps its packages in the site's cache."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [find_uv_bin(), "tool", "run", "--quiet", "--no-config", "--cache-dir", str(cache_directory() / "uv")]
    command += ["--from", _SERVER, "moto_server", "--host", "127.0.0.1", "--port", str(port)]
    log = directory / "s3.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT)
    try:
        _wait_until_it_answers(process, url, log)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _wait_until_it_answers(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            httpx.get(url, timeout=5, trust_env=False).raise_for_status()
            return
        except (httpx.TransportError, httpx.HTTPStatusError):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
