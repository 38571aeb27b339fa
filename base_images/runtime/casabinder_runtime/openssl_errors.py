"""Keeps an error of one TLS connection from breaking another one.

Python's ``ssl`` does not empty OpenSSL's error queue, which belongs to the thread, before it reads or writes
(https://github.com/python/cpython/issues/148594). With OpenSSL 3.4 and newer a peer that hangs up leaves an entry
there, and the next read on any other connection of the event loop fails with ``BrokenPipeError``: workers are lost
while they register. So the queue is emptied before each operation of tornado's TLS streams, which Dask's ``tls://`` is
built on.
"""

from __future__ import annotations

import _ssl
import ctypes
import functools
from typing import Any

from tornado.iostream import SSLIOStream


@functools.cache
def clear_errors_before_use() -> None:
    """Make tornado's TLS streams begin every operation with an empty error queue; once per process is enough."""
    # The very library that Python's ssl module is linked with, whatever it is called.
    clear = ctypes.CDLL(getattr(_ssl, "__file__", None)).ERR_clear_error
    clear.argtypes, clear.restype = (), None

    def clearing(operation: Any) -> Any:
        def operate(stream: SSLIOStream, *arguments: Any) -> Any:
            clear()
            return operation(stream, *arguments)

        return operate

    for name in ("read_from_fd", "write_to_fd", "_do_ssl_handshake"):
        setattr(SSLIOStream, name, clearing(getattr(SSLIOStream, name)))
