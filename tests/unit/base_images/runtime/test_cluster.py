"""What a kernel gets that talks to the session's scheduler through a handle on its cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import casabinder_runtime

CODE = """
from casabinder_runtime.cluster import client_security
from casabinder_runtime.session_directory import SessionRecord
from tornado.iostream import SSLIOStream

read = SSLIOStream.read_from_fd
client_security(SessionRecord("tls://192.0.2.1:8786", 8787, "ca.pem", "client.pem", "client.key", "e", "i", "local", 1))
print(SSLIOStream.read_from_fd is not read)
"""


def test_connections_are_kept_apart_without_the_security_loader() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(casabinder_runtime.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n"
