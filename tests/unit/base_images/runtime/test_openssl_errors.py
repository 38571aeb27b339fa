"""One TLS connection's error stays its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import casabinder_runtime

CODE = """
import ctypes, _ssl
from tornado.iostream import SSLIOStream
from casabinder_runtime.openssl_errors import clear_errors_before_use

library = ctypes.CDLL(getattr(_ssl, "__file__", None))
library.ERR_peek_error.restype = ctypes.c_ulong
seen = []
SSLIOStream.read_from_fd = lambda stream, buffer: seen.append((buffer, library.ERR_peek_error()))
clear_errors_before_use()
once = SSLIOStream.read_from_fd
clear_errors_before_use()
assert SSLIOStream.read_from_fd is once, "it must not be wrapped twice"
library.ERR_new()
library.ERR_set_error(20, 207, None)
assert library.ERR_peek_error() != 0
SSLIOStream.read_from_fd(None, "buffer")
print(seen)
"""


def test_the_error_queue_is_empty_before_a_read() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(casabinder_runtime.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[('buffer', 0)]"
