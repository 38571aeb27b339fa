"""Counts what a registry client sends: requests by method, and the bytes of their bodies."""

from __future__ import annotations

from collections import Counter
from threading import Lock
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator


class CountingTransport(httpx.BaseTransport):
    """Passes requests on, as ``RegistryClient(..., transport=...)``; counts are in ``methods`` and ``sent`` (bytes)."""

    def __init__(self) -> None:
        self.methods: Counter[str] = Counter()
        self.sent = 0
        self._inner = httpx.HTTPTransport()
        self._lock = Lock()

    @property
    def requests(self) -> int:
        """How many requests there were."""
        return self.methods.total()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request on, counting it and its body."""
        with self._lock:
            self.methods[request.method] += 1
        stream = request.stream
        assert isinstance(stream, httpx.SyncByteStream)
        return self._inner.handle_request(
            httpx.Request(
                request.method,
                request.url,
                headers=request.headers,
                stream=_Counted(self, stream),
                extensions=request.extensions,
            )
        )

    def close(self) -> None:
        """Close all connections."""
        self._inner.close()

    def add(self, count: int) -> None:
        """Count ``count`` more bytes."""
        with self._lock:
            self.sent += count


class _Counted(httpx.SyncByteStream):
    def __init__(self, transport: CountingTransport, stream: httpx.SyncByteStream) -> None:
        self._transport = transport
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            self._transport.add(len(chunk))
            yield chunk
