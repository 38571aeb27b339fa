"""Downloads one blob, and goes on with a ``Range`` request where a connection broke.

Nothing is verified here: the caller checks digest and size over all the bytes, wherever they came from.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from registry_sync.errors import RegistryError
from registry_sync.faults import RegistryFaultError
from registry_sync.retries import ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import httpx

    from registry_sync.transport import RegistryTransport

_log = logging.getLogger(__name__)


@contextmanager
def download(
    transport: RegistryTransport, path: str, doing: str, scopes: tuple[str, ...]
) -> Iterator[tuple[Iterator[bytes], int | None]]:
    """Give the chunks of what is at ``path``, and its announced size in bytes (``None`` if not announced)."""
    with transport.stream("GET", path, doing=doing, scopes=scopes, expect=(200,)) as response:
        length = response.headers.get("content-length", "")
        chunks = _chunks(transport, response, path, doing, scopes)
        try:
            yield chunks, int(length) if length.isdecimal() else None
        finally:
            chunks.close()


def _chunks(
    transport: RegistryTransport, response: httpx.Response, path: str, doing: str, scopes: tuple[str, ...]
) -> Generator[bytes, None, None]:
    offset = 0
    try:
        for chunk in transport.body(response, doing):
            offset += len(chunk)
            yield chunk
        return
    except RegistryFaultError as fault:
        broken = fault
    tries = 0
    while tries < ATTEMPTS:  # tries that bring no byte: a slow transfer that breaks every minute still ends
        tries += 1
        _log.info("%s; going on at byte %d", broken, offset)
        transport.pause(tries)
        headers = {"Range": f"bytes={offset}-"}
        with transport.stream("GET", path, doing=doing, scopes=scopes, expect=(200, 206), headers=headers) as rest:
            skip = _bytes_to_skip(rest, offset)
            try:
                for chunk in transport.body(rest, doing):
                    fresh = chunk[skip:]
                    skip = max(0, skip - len(chunk))
                    if fresh:
                        offset, tries = offset + len(fresh), 0
                        yield fresh
                return
            except RegistryFaultError as fault:
                broken = fault
    raise broken


def _bytes_to_skip(response: httpx.Response, offset: int) -> int:
    """Return how many bytes at the start of an answer to ``Range: bytes=<offset>-`` we have already."""
    if response.status_code == 200:
        return offset
    start = response.headers.get("content-range", "").removeprefix("bytes ").partition("-")[0]
    if not start.isdecimal() or int(start) > offset:
        raise RegistryError(f"{response.url.host} answered with another part of a blob than it was asked for")
    return offset - int(start)
